"""Airflow's hooks, with the drivers and engines that they use."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import psycopg2
import pytest
from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk.definitions.connection import Connection
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import DBAPIError

from redshift_secrets import renewing
from redshift_secrets.local.stand_in import StandIn
from tests.e2e.clients.rows import QUERY, TASK_NAME, Row, checked, client
from tests.e2e.conftest import MINT


@pytest.mark.attempt("pose as a warehouse")
@client("`RedshiftSQLHook`")
def test_redshift_sql_hook(row: Row) -> None:
    hook = RedshiftSQLHook(redshift_conn_id="analytics")
    row.hook(hook)
    hook.run(["CREATE TABLE IF NOT EXISTS hooked (n int)", "DELETE FROM hooked", "INSERT INTO hooked VALUES (1), (2)"])
    row.ran("`run` of several statements")
    assert hook.get_first("SELECT sum(n) FROM hooked WHERE n < %s", (5,))[0] == 3
    row.ran("`get_first` with parameters")
    hook.insert_rows("hooked", [(3,), (4,)], target_fields=["n"])
    assert sorted(n for (n,) in hook.get_records("SELECT n FROM hooked")) == [1, 2, 3, 4]
    row.ran("`insert_rows`, `get_records`")
    assert hook.test_connection() == (True, "Connection successfully tested")
    row.ran("`test_connection`")
    assert hook.get_uri().startswith("postgresql://IAM%3Aetl:")
    row.ran("`get_uri`")
    row.trusts(lambda conn_id: RedshiftSQLHook(conn_id).get_conn())


@pytest.mark.attempt("pose as a warehouse")
@client("`RedshiftSQLHook`, the hook mints (`auth = connector`)")
def test_redshift_sql_hook_that_mints_for_itself(row: Row, stand_in: StandIn) -> None:
    row.hook(RedshiftSQLHook(redshift_conn_id="by-connector"), " (this backend sets them)")
    assert stand_in.aws.calls.by_operation()[MINT] >= 2
    row.ran("`get_first`; the worker needs the right to mint, and the hook and the driver each ask AWS for themselves")
    row.trusts(lambda conn_id: RedshiftSQLHook(conn_id).get_conn(), "-iam")


@pytest.mark.attempt("pose as a warehouse")
@client("`PostgresHook`")
def test_postgres_hook(row: Row) -> None:
    hook = PostgresHook(postgres_conn_id="analytics")
    row.hook(hook)
    assert hook.get_first("SELECT %s::int + 1", (2,)) == (3,)
    row.ran("`get_first` with parameters")
    hook.run(["CREATE TABLE IF NOT EXISTS posted (n int)", "INSERT INTO posted VALUES (1)"])
    row.ran("`run` of several statements")
    row.trusts(lambda conn_id: PostgresHook(conn_id).get_conn(), "", "-pg")


@pytest.mark.attempt("pose as a warehouse")
@client("`PostgresHook` with keep-alives")
def test_postgres_hook_with_an_extra_that_the_redshift_driver_rejects(row: Row) -> None:
    row.hook(PostgresHook(postgres_conn_id="keep-alive"))
    row.ran("`get_first`")
    with pytest.raises(TypeError, match="keepalives_idle"):
        RedshiftSQLHook(redshift_conn_id="keep-alive").get_conn()
    row.ran("the driver of `RedshiftSQLHook` refuses such a connection")
    row.trusts(lambda conn_id: PostgresHook(conn_id).get_conn(), "-pg")


def login(conn_id: str) -> dict[str, Any]:
    connection = Connection.get(conn_id)
    names = {"host": "host", "port": "port", "user": "login", "password": "password", "dbname": "schema"}
    return {name: getattr(connection, field) for name, field in names.items()}


def with_all_fields(conn_id: str) -> psycopg.Connection[Any]:
    return psycopg.connect(**login(conn_id), **Connection.get(conn_id).extra_dejson)


@pytest.mark.attempt("pose as a warehouse")
@client("`psycopg` with the fields of the Connection")
def test_psycopg(row: Row) -> None:
    connection = Connection.get("analytics")
    with closing(with_all_fields("analytics")) as session:
        found = session.execute(QUERY).fetchone()
        assert found is not None
        row.user(found)
    row.ran("`connect`")
    row.extra(connection)
    row.trusts(with_all_fields, "", "-pg")


@client("`psycopg2` and `psycopg` with host, user and password alone")
def test_drivers_that_are_given_no_extra(row: Row) -> None:
    for driver in (psycopg2, psycopg):
        with closing(driver.connect(**login("analytics"))) as session, closing(session.cursor()) as cursor:
            cursor.execute(QUERY)
            row.user(cursor.fetchone())
        row.trusts(lambda conn_id, driver=driver: driver.connect(**login(conn_id)), unless=checked())
    row.ran("`connect`")


@pytest.mark.attempt("pose as a warehouse")
@client("SQLAlchemy, `RedshiftSQLHook.get_sqlalchemy_engine`")
def test_engine_of_the_redshift_hook(row: Row) -> None:
    hook = RedshiftSQLHook(redshift_conn_id="analytics")
    with hook.get_sqlalchemy_engine().connect() as connection:
        row.user(connection.execute(text(QUERY)).one())
        assert connection.execute(text("SELECT :n + 1"), {"n": 2}).scalar_one() == 3
    row.ran("queries with parameters, through psycopg")
    row.extra(hook.conn)
    row.trusts(lambda conn_id: RedshiftSQLHook(conn_id).get_sqlalchemy_engine().connect())


@client("SQLAlchemy, `PostgresHook.get_sqlalchemy_engine`")
def test_engine_of_the_postgres_hook(row: Row) -> None:
    hook = PostgresHook(postgres_conn_id="analytics")
    with hook.get_sqlalchemy_engine().connect() as connection:
        row.user(connection.execute(text(QUERY)).one())
    row.ran("queries; the hook does not give `extra` to its engine")
    row.extra(hook.connection)
    row.trusts(lambda conn_id: PostgresHook(conn_id).get_sqlalchemy_engine().connect(), "", "-pg", unless=checked())


@pytest.mark.attempt("pose as a warehouse")
@client("SQLAlchemy, `renewing(hook).get_sqlalchemy_engine` of both hooks")
def test_engines_of_renewing_hooks(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGSSLROOTCERT")
    for make in (PostgresHook, RedshiftSQLHook):
        hook = renewing(make("analytics"))
        with hook.get_sqlalchemy_engine().connect() as connection:
            row.user(connection.execute(text(QUERY)).one())
        row.trusts(lambda conn_id, make=make: renewing(make(conn_id)).get_sqlalchemy_engine().connect(), "", "-pg")
    row.ran("queries, without `PGSSLROOTCERT`")
    row.extra(hook.conn)


@pytest.mark.attempt("pose as a warehouse")
@client("`sqlalchemy-redshift` (`redshift+redshift_connector`)")
def test_sqlalchemy_redshift(row: Row) -> None:
    def make_engine(conn_id: str) -> Engine:
        connection = Connection.get(conn_id)
        url = URL.create(
            "redshift+redshift_connector",
            username=connection.login,
            password=connection.password,
            host=connection.host,
            port=connection.port,
            database=connection.schema,
        )
        return create_engine(url, connect_args=connection.extra_dejson)

    engine = make_engine("analytics")
    with engine.connect() as session:
        row.user(session.execute(text(QUERY)).one())
    row.ran("queries")
    row.extra(Connection.get("analytics"))
    row.trusts(lambda conn_id: make_engine(conn_id).connect())
    with pytest.raises(DBAPIError, match="does not exist"):
        inspect(engine).get_table_names()
    row.cannot("its inspector reads system tables that only Redshift has")


@pytest.mark.attempt("pose as a warehouse")
def test_libpq_checks_a_connection_of_its_type_without_anything_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PGSSLROOTCERT")
    assert PostgresHook("as-postgres").get_first(QUERY) == ("etl", TASK_NAME)
    with closing(psycopg2.connect(**login("as-postgres"), **Connection.get("as-postgres").extra_dejson)) as session:
        assert session.info.ssl_in_use


@pytest.mark.attempt("pose as a warehouse")
@pytest.mark.parametrize(
    "connect",
    [
        lambda: PostgresHook("analytics").get_conn(),
        lambda: RedshiftSQLHook("analytics").get_sqlalchemy_engine().connect(),
        lambda: with_all_fields("analytics"),
    ],
)
def test_libpq_without_any_roots_does_not_connect(
    connect: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PGSSLROOTCERT")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises((psycopg.OperationalError, DBAPIError), match=r"root certificate file .* does not exist"):
        connect()


def test_the_warehouse_sees_the_application_name_of_a_tag() -> None:
    for hook in (RedshiftSQLHook(redshift_conn_id="named"), PostgresHook(postgres_conn_id="named")):
        assert list(hook.get_first(QUERY)) == ["etl", "nightly"]


def test_the_driver_that_mints_for_itself_sends_the_name_of_the_task() -> None:
    assert RedshiftSQLHook(redshift_conn_id="by-connector").get_first(QUERY)[1] == TASK_NAME
