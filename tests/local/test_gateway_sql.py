"""SQL through the gateway, with the clients that Airflow uses."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import ssl
import struct
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy
from redshift_connector.error import ProgrammingError

from tests.local.gateway_harness import Harness, eventually, value
from tests.local.patience import PATIENCE

ASLEEP = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'etl' AND wait_event = 'PgSleep'"


@pytest.fixture
def driver(harness: Harness) -> Iterator[Any]:
    connection = harness.driver_login(harness.mint("IAM:etl"))
    yield connection
    connection.close()


@pytest.fixture
def psycopg_connection(harness: Harness) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with harness.login(harness.mint("IAM:etl")) as connection:
        yield connection


def test_driver_ddl_dml_parameters_and_transactions(driver: Any) -> None:
    cursor = driver.cursor()
    cursor.execute("CREATE TABLE sales (id int, item varchar(50), price decimal(8,2), sold timestamp, paid bool)")
    driver.commit()
    rows = [
        [1, "tea", decimal.Decimal("2.50"), datetime.datetime(2026, 1, 2, 3, 4, 5), True],
        [2, "naïve ☃ ' \" %", decimal.Decimal("-0.01"), None, False],
    ]
    cursor.executemany("INSERT INTO sales VALUES (%s, %s, %s, %s, %s)", rows)
    driver.commit()
    cursor.execute("DELETE FROM sales")
    driver.rollback()
    cursor.execute("SELECT id, item, price, sold, paid FROM sales WHERE id >= %s ORDER BY id", (1,))
    assert list(cursor.fetchall()) == rows
    with pytest.raises(ProgrammingError, match="nonexistent"):
        cursor.execute("SELECT * FROM nonexistent")
    driver.rollback()
    cursor.execute("DROP TABLE sales")
    driver.commit()


@pytest.mark.parametrize(
    ("type_name", "sent"),
    [
        ("bigint", 2**62),
        ("double precision", 0.1),
        ("numeric", decimal.Decimal("12345678901234567890.12345")),
        ("text", "line\nbreak\ttab '\"\\ ☃"),
        ("bytea", bytes(range(256))),
        ("date", datetime.date(1999, 12, 31)),
        ("timestamptz", datetime.datetime(2026, 5, 6, 7, 8, 9, 10, datetime.timezone.utc)),
        ("interval", datetime.timedelta(days=3, seconds=4)),
        ("int[]", [1, 2, 3]),
        ("boolean", True),
        ("text", None),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
def test_psycopg_parameters_are_returned_unchanged(
    psycopg_connection: psycopg.Connection[tuple[Any, ...]], type_name: str, sent: object, binary: bool
) -> None:
    query = f"SELECT %s::{type_name}"
    row = psycopg_connection.execute(query.encode(), (sent,), binary=binary).fetchone()
    assert row == (sent,)


def test_psycopg_errors_have_their_sqlstate(psycopg_connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        psycopg_connection.execute("SELECT 1/0")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        psycopg_connection.execute("SELECT * FROM vault.gold")
    assert value(psycopg_connection, "SELECT 1") == 1


def test_psycopg_transaction_rolls_back(psycopg_connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    psycopg_connection.execute("CREATE TABLE undone (n int)")
    with psycopg_connection.transaction(force_rollback=True):
        psycopg_connection.execute("INSERT INTO undone VALUES (1)")
        assert value(psycopg_connection, "SELECT count(*) FROM undone") == 1
    assert value(psycopg_connection, "SELECT count(*) FROM undone") == 0
    psycopg_connection.execute("DROP TABLE undone")


def test_sqlalchemy(harness: Harness) -> None:
    pytest.importorskip("sqlalchemy", minversion="2", reason="SQLAlchemy 1 has no dialect for psycopg 3")
    host, port = harness.address()
    token = harness.mint("IAM:etl")
    url = sqlalchemy.URL.create("postgresql+psycopg", token.user, token.password, host, port, "dev")
    arguments = {"sslmode": "verify-full", "sslrootcert": str(harness.gateway.ca_file)}
    engine = sqlalchemy.create_engine(url, connect_args=arguments)
    table = sqlalchemy.Table("pairs", sqlalchemy.MetaData(), sqlalchemy.Column("n", sqlalchemy.Integer))
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert(), [{"n": n} for n in range(100)])
        assert connection.execute(sqlalchemy.select(sqlalchemy.func.sum(table.c.n))).scalar() == 4950
        table.drop(connection)
    engine.dispose()


def test_a_session_has_the_settings_of_its_startup(harness: Harness) -> None:
    options = "-c statement_timeout=4321 -c DateStyle=German"
    with harness.login(harness.mint("IAM:etl"), application_name="a dag", options=options) as connection:
        assert value(connection, "SHOW application_name") == "a dag"
        assert value(connection, "SHOW statement_timeout") == "4321ms"
        assert value(connection, "SHOW datestyle") == "German, DMY"


def test_100_megabytes_are_transferred_intact(psycopg_connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    received = 0
    digest = hashlib.md5(usedforsecurity=False)
    query = "COPY (SELECT repeat(md5(n::text), 32) FROM generate_series(1, 100000) n) TO STDOUT"
    with psycopg_connection.cursor() as cursor, cursor.copy(query) as copy:
        for block in copy:
            received += len(block)
            digest.update(block)
    expected = hashlib.md5(usedforsecurity=False)
    for n in range(1, 100_001):
        expected.update(hashlib.md5(str(n).encode(), usedforsecurity=False).hexdigest().encode() * 32 + b"\n")
    assert received == 100_000 * 1025
    assert digest.hexdigest() == expected.hexdigest()


def test_a_reader_that_pauses_stops_postgresql(harness: Harness) -> None:
    all_rows = 20_000_000
    row_counts: list[int] = []
    progress = f"SELECT coalesce(max(tuples_processed), {all_rows}) FROM pg_stat_progress_copy"

    def makes_no_progress() -> bool:
        row_counts.append(value(admin, progress))
        return row_counts[-25:] == [row_counts[-1]] * 25

    query = f"COPY (SELECT * FROM generate_series(1, {all_rows})) TO STDOUT"
    with (
        harness.login(harness.mint("IAM:awsuser")) as admin,
        harness.login(harness.mint("IAM:bi")) as reader,
        reader.cursor() as cursor,
    ):
        with cursor.copy(query) as copy:
            assert bytes(copy.read()) == b"1\n"
            assert eventually(makes_no_progress)
            # Not the client's own cancel: that of an older libpq holds the GIL, which the gateway in this process needs.
            admin.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_progress_copy")
            with pytest.raises(psycopg.errors.QueryCanceled):
                sum(len(block) for block in copy)
        # If the gateway buffered what the client does not read, PostgreSQL would have sent all rows.
        assert row_counts[-1] < all_rows / 2


def test_copy_in(psycopg_connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    psycopg_connection.execute("CREATE TEMPORARY TABLE loaded (line text)")
    with psycopg_connection.cursor() as cursor, cursor.copy("COPY loaded FROM STDIN") as copy:
        for _ in range(200):
            copy.write(b"x" * 99_999 + b"\n")
    assert value(psycopg_connection, "SELECT sum(length(line)) FROM loaded") == 200 * 99_999


def test_driver_reads_a_large_result(driver: Any) -> None:
    cursor = driver.cursor()
    cursor.execute("SELECT n, repeat('x', 1000) FROM generate_series(1, 5000) n")
    rows = cursor.fetchall()
    assert [row[0] for row in rows] == list(range(1, 5001))
    assert {row[1] for row in rows} == {"x" * 1000}


@pytest.mark.skipif(psycopg.pq.version() < 180000, reason="libpq 18 was the first with protocol 3.2")
@pytest.mark.parametrize("version", ["3.0", "latest"])
def test_cancel_over_tls(harness: Harness, version: str) -> None:
    # With protocol 3.2 the key is longer.
    connection = harness.login(harness.mint("IAM:etl"), max_protocol_version=version)
    caught: list[BaseException] = []

    def run() -> None:
        try:
            connection.execute("SELECT pg_sleep(600)")
        except psycopg.Error as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    with harness.login(harness.mint("IAM:awsuser")) as admin:
        assert eventually(lambda: value(admin, ASLEEP) == 1)
    connection.cancel_safe()
    thread.join(PATIENCE)
    assert [type(error) for error in caught] == [psycopg.errors.QueryCanceled]
    assert value(connection, "SELECT 1") == 1
    connection.close()


def test_cancel_in_plaintext(harness: Harness) -> None:
    # Not with a client's own cancel, for the same reason.
    token = harness.mint("IAM:etl")
    with harness.raw_tls() as client:
        client.sendall(_framed(struct.pack("!i", 3 << 16) + b"user\0IAM:etl\0database\0dev\0\0"))
        client.sendall(b"p" + _framed(token.password.encode() + b"\0"))
        key = _read_until(client, b"K")
        client.sendall(b"Q" + _framed(b"SELECT pg_sleep(600)\0"))
        with harness.login(harness.mint("IAM:awsuser")) as admin:
            assert eventually(lambda: value(admin, ASLEEP) == 1)
        with harness.raw() as other:
            other.sendall(_framed(struct.pack("!i", 80877102) + key))
            assert other.recv(1) == b""
        assert b"C57014\0" in _read_until(client, b"E")


def _framed(body: bytes) -> bytes:
    return struct.pack("!i", len(body) + 4) + body


def _read_until(client: ssl.SSLSocket, kind: bytes) -> bytes:
    with client.makefile("rb", buffering=0) as stream:
        while True:
            got, length = struct.unpack("!ci", stream.read(5) or b"")
            body = stream.read(length - 4) if length > 4 else b""
            if got == kind:
                return body or b""
