"""Malformed requests, silent, concurrent and killed clients, and stopping a gateway that is in use."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest
from redshift_connector.error import Error as DriverError

from redshift_secrets.local import session
from redshift_secrets.local.gateway import Gateway
from redshift_secrets.local.tokens import TokenRegistry
from tests.local.gateway_harness import CLUSTER, DATABASE, Harness, eventually, running_gateway, value
from tests.local.patience import PATIENCE
from tests.support.fakes import Clock

STARTUP = b"user\0IAM:etl\0database\0dev\0\0"


def packet(body: bytes, code: int = 3 << 16) -> bytes:
    return struct.pack("!ii", len(body) + 8, code) + body


def read_all(client: socket.socket) -> bytes:
    """Read until the gateway disconnects."""
    data = b""
    try:
        while block := client.recv(65_536):
            data += block
    except (ConnectionResetError, ssl.SSLError):
        pass
    return data


def test_plaintext_is_refused(harness: Harness) -> None:
    token = harness.mint("IAM:etl")
    expected = r'no pg_hba.conf entry for host "127.0.0.1", user "IAM:etl", database "dev", SSL off'
    with pytest.raises(psycopg.OperationalError, match=expected):
        harness.login(token, host="127.0.0.1", sslmode="disable")
    with pytest.raises(DriverError, match="no pg_hba"):
        harness.driver_login(token, ssl=False)


def test_verify_full_refuses_another_host_name(harness: Harness) -> None:
    token = harness.mint("IAM:etl")
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        harness.login(token, host="other.example.com", hostaddr="127.0.0.1")
    if sys.platform == "linux":
        host, port = harness.address()
        with socket.create_connection((host, port)) as plain:
            plain.sendall(packet(b"", 80877103))
            assert plain.recv(1) == b"S"
            context = ssl.create_default_context(cafile=str(harness.gateway.ca_file))
            with pytest.raises(ssl.SSLCertVerificationError, match=r"127\.0\.0\.2"):
                context.wrap_socket(plain, server_hostname="127.0.0.2")


def test_verify_full_refuses_an_unknown_authority(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Gateway(TokenRegistry(harness.clock), folder=tmp_path / "other").ca_file
    token = harness.mint("IAM:etl")
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        harness.login(token, sslrootcert=str(other))
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    with pytest.raises(DriverError, match="CERTIFICATE_VERIFY_FAILED"):
        harness.driver_login(token)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"invalid length of startup packet"),
        (struct.pack("!ii", 10_001, 3 << 16), b"invalid length of startup packet"),
        (struct.pack("!ii", 0, 3 << 16), b"invalid length of startup packet"),
        (struct.pack("!ii", -1, 3 << 16), b"invalid length of startup packet"),
        (packet(STARTUP, 2 << 16), b"unsupported frontend protocol 2.0"),
        (packet(b"user\0x\0"), b"invalid startup packet layout"),
        (packet(b"user"), b"invalid startup packet layout"),
        (packet(b""), b"invalid startup packet layout"),
        (packet(b"\0"), b"no PostgreSQL user name"),
        (packet(b"user\0\xff\0\0"), b"invalid byte sequence"),
        (packet(b"database\0dev\0\0"), b"no PostgreSQL user name"),
        (packet(b"", 80877103), b"unsupported frontend protocol 1234.5679"),
    ],
)
def test_malformed_startup_packets_are_refused(harness: Harness, sent: bytes, message: bytes) -> None:
    with harness.raw_tls() as client:
        client.sendall(sent)
        reply = read_all(client)
    assert reply[:1] == b"E"
    assert b"SFATAL\0" in reply
    assert message in reply


def test_malformed_passwords_are_refused(harness: Harness) -> None:
    for sent, message in (
        (b"Q" + struct.pack("!i", 8) + b"one\0", b"expected password response"),
        (b"p" + struct.pack("!i", 2**30), b"invalid password packet size"),
        (b"p" + struct.pack("!i", -5), b"invalid password packet size"),
        (b"p" + struct.pack("!i", 7) + b"\xff\xfe\0", b"password authentication failed"),
    ):
        with harness.raw_tls() as client:
            client.sendall(packet(STARTUP))
            assert client.recv(9) == b"R" + struct.pack("!ii", 8, 3)
            client.sendall(sent)
            assert message in read_all(client)


def test_plaintext_after_the_request_for_tls_is_not_read(harness: Harness) -> None:
    with harness.raw() as client:
        client.sendall(packet(b"", 80877103) + packet(STARTUP))
        assert client.recv(1) == b"S"
        # Plaintext after the request must not be taken for data received through TLS.
        assert b"IAM:etl" not in read_all(client)


def test_gss_encryption_is_declined(harness: Harness) -> None:
    with harness.raw() as client:
        client.sendall(packet(b"", 80877104))
        assert client.recv(1) == b"N"
        client.sendall(packet(b"", 80877103))
        assert client.recv(1) == b"S"


def test_cancel_with_a_wrong_key_has_no_effect(harness: Harness, admin: psycopg.Connection[tuple[Any, ...]]) -> None:
    with harness.raw() as client:
        client.sendall(packet(struct.pack("!ii", admin.info.backend_pid, 1), 80877102))
        assert read_all(client) == b""
    assert value(admin, "SELECT 1") == 1


def test_silent_clients_do_not_block_others(harness: Harness) -> None:
    silent = [harness.raw() for _ in range(50)] + [harness.raw_tls() for _ in range(10)]
    harness.driver_login(harness.mint("IAM:etl")).close()
    for client in silent:
        client.close()


def test_clients_that_do_not_log_in_in_time_are_disconnected(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    scopes: list[tuple[float, anyio.CancelScope]] = []
    fail_after = anyio.fail_after

    @contextmanager
    def recorded_fail_after(seconds: float) -> Iterator[anyio.CancelScope]:
        with fail_after(seconds) as scope:
            scopes.append((seconds, scope))
            yield scope

    monkeypatch.setattr(anyio, "fail_after", recorded_fail_after)
    with harness.raw() as silent, harness.raw_tls() as without_password:
        without_password.sendall(packet(STARTUP))
        assert without_password.recv(9) == b"R" + struct.pack("!ii", 8, 3)
        assert eventually(lambda: len(scopes) == 2)
        running = harness.gateway._running
        assert running is not None
        for seconds, scope in scopes:
            assert seconds == session.LOGIN_SECONDS
            running.portal.call(setattr, scope, "deadline", 0.0)
        assert read_all(silent) == b""
        assert read_all(without_password) == b""


def test_200_logins_at_once(harness: Harness, admin: psycopg.Connection[tuple[Any, ...]]) -> None:
    barrier = threading.Barrier(200)

    def login(n: int) -> str:
        user = f"crowd{n % 20}"
        token = harness.mint(f"IAMA:{user}", auto_create=True, db_groups=("loaders",))
        barrier.wait(PATIENCE)
        with harness.login(token, connect_timeout=int(PATIENCE)) as connection:
            name: str = value(connection, "SELECT current_user || (SELECT grams FROM vault.gold)::text")
            barrier.wait(PATIENCE)
            return name

    with ThreadPoolExecutor(200) as pool:
        names = list(pool.map(login, range(200)))
    assert names == [f"crowd{n % 20}42" for n in range(200)]
    members = "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE rolname ~ '^crowd'"
    granted = f"{members} AND grantor = 10 AND roleid = 'loaders'::regrole"
    assert eventually(lambda: value(admin, granted) == 0)


CLIENT = """
import sys, psycopg
connection = psycopg.connect(sys.stdin.readline())
connection.execute("SELECT pg_sleep(600)")
"""


def test_killing_a_client_ends_its_query_and_memberships(
    harness: Harness, admin: psycopg.Connection[tuple[Any, ...]]
) -> None:
    token = harness.mint("IAMA:killed", auto_create=True, db_groups=("loaders",))
    host, port = harness.address()
    conninfo = psycopg.conninfo.make_conninfo(
        host=host, port=port, user=token.user, password=token.password, dbname="dev", sslmode="require"
    )
    with subprocess.Popen([sys.executable, "-c", CLIENT], stdin=subprocess.PIPE, text=True) as client:
        assert client.stdin is not None
        client.stdin.write(conninfo + "\n")
        client.stdin.flush()
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'killed' AND wait_event = 'PgSleep'"
        assert eventually(lambda: value(admin, asleep) == 1)
        client.kill()
    assert eventually(lambda: harness.count_sessions("killed", admin=admin) == 0)
    assert eventually(lambda: not value(admin, "SELECT pg_has_role('killed', 'loaders', 'member')"))


def test_stop_ends_sessions_processes_threads_and_files(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    files_before = _open_files()
    with running_gateway(tmp_path) as running:
        asleep = running.login(running.mint("IAM:etl", db_groups=("loaders",)))
        idle = running.login(running.mint("IAM:bi"))
        before_login = running.raw_tls()
        admin = running.login(running.mint("IAM:awsuser"))
        data = Path(value(admin, "SHOW unix_socket_directories"))
        assert data.is_dir()
        pid = int((data / "data" / "postmaster.pid").read_text().split()[0])
        caught: list[BaseException] = []

        def run() -> None:
            try:
                asleep.execute("SELECT pg_sleep(600)")
            except psycopg.Error as error:
                caught.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        assert eventually(lambda: running.count_sessions("etl", admin=admin) == 1)
        running.gateway.stop()
        thread.join(PATIENCE)
        assert isinstance(caught[0], psycopg.OperationalError)
        with pytest.raises(psycopg.OperationalError):
            idle.execute("SELECT 1")
        assert read_all(before_login) == b""
        assert running.gateway.address_of(CLUSTER, "default") is None
        running.gateway.stop()
        with pytest.raises(RuntimeError, match="only once"):
            running.gateway.start()
    for connection in (admin, asleep, idle, before_login):
        connection.close()
    assert not data.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert eventually(lambda: set(threading.enumerate()) <= before)
    assert eventually(lambda: _open_files() <= files_before)


def _open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def test_stop_while_postgresql_starts(tmp_path: Path) -> None:
    tokens = TokenRegistry(lambda: 0.0)
    gateway = Gateway(tokens, folder=tmp_path)
    gateway.add_warehouse(CLUSTER, DATABASE, "awsuser", ("default",), None)
    gateway.start()
    running = Harness(gateway, tokens, Clock())
    refused = []

    def login() -> None:
        try:
            running.login(running.mint("IAM:etl"))
        except psycopg.OperationalError as error:
            refused.append(error)

    thread = threading.Thread(target=login)
    thread.start()
    server = gateway._endpoints[CLUSTER].warehouse.server
    assert eventually(lambda: server._process is not None)
    gateway.stop()
    thread.join(PATIENCE)
    assert len(refused) == 1
    assert server.socket is None
    assert server._process is None


def test_invalid_sql_of_a_warehouse_is_reported_and_others_work(harness: Harness) -> None:
    broken = type(DATABASE)(sql="SELECT 1; CREATE USER x PASSWORD 'hush' OOPS; SELECT 2")
    harness.gateway.add_warehouse("arn:broken", broken, "awsuser", ("default",), None)
    token = harness.mint("IAM:etl", warehouse="arn:broken")
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError, match=r'arn:broken: database.sql failed: .*"oops"') as caught:
            harness.login(token)
        assert "hush" not in str(caught.value)
    harness.driver_login(harness.mint("IAM:etl")).close()
