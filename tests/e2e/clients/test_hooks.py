"""Airflow's hooks, with the drivers and engines that they use."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest
from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk.definitions.connection import Connection
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from redshift_secrets.local.stand_in import StandIn
from tests.e2e.clients.rows import QUERY, TASK_NAME, Row, client
from tests.e2e.conftest import MINT


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


@client("`RedshiftSQLHook`, host name checked")
def test_redshift_sql_hook_with_the_host_name_checked(row: Row) -> None:
    row.hook(RedshiftSQLHook(redshift_conn_id="strict-tls"))
    row.ran("`get_first` over TLS with `verify-full`")


@client("`RedshiftSQLHook`, the hook mints (`auth = connector`)")
def test_redshift_sql_hook_that_mints_for_itself(row: Row, stand_in: StandIn) -> None:
    row.hook(RedshiftSQLHook(redshift_conn_id="by-connector"), " (this backend sets them)")
    assert stand_in.aws.calls.by_operation()[MINT] >= 2
    row.ran("`get_first`; the worker needs the right to mint, and the hook and the driver each ask AWS for themselves")


@client("`PostgresHook`")
def test_postgres_hook(row: Row) -> None:
    hook = PostgresHook(postgres_conn_id="analytics")
    row.hook(hook)
    assert hook.get_first("SELECT %s::int + 1", (2,)) == (3,)
    row.ran("`get_first` with parameters")
    hook.run(["CREATE TABLE IF NOT EXISTS posted (n int)", "INSERT INTO posted VALUES (1)"])
    row.ran("`run` of several statements")


@client("`PostgresHook` with keep-alives")
def test_postgres_hook_with_an_extra_that_the_redshift_driver_rejects(row: Row) -> None:
    row.hook(PostgresHook(postgres_conn_id="keep-alive"))
    row.ran("`get_first`")
    with pytest.raises(TypeError, match="keepalives_idle"):
        RedshiftSQLHook(redshift_conn_id="keep-alive").get_conn()
    row.ran("the driver of `RedshiftSQLHook` refuses such a connection")


@client("`psycopg` with the fields of the Connection")
def test_psycopg(row: Row) -> None:
    connection = Connection.get("analytics")
    with closing(
        psycopg.connect(
            host=connection.host,
            port=connection.port,
            user=connection.login,
            password=connection.password,
            dbname=connection.schema,
            sslmode="verify-full",
            **connection.extra_dejson,
        )
    ) as session:
        found = session.execute(QUERY).fetchone()
        assert found is not None
        row.user(found)
    row.ran("`connect` over TLS with `verify-full`")
    row.extra(connection)


@client("SQLAlchemy, `RedshiftSQLHook.get_sqlalchemy_engine`")
def test_engine_of_the_redshift_hook(row: Row) -> None:
    hook = RedshiftSQLHook(redshift_conn_id="analytics")
    with hook.get_sqlalchemy_engine().connect() as connection:
        row.user(connection.execute(text(QUERY)).one())
        assert connection.execute(text("SELECT :n + 1"), {"n": 2}).scalar_one() == 3
    row.ran("queries with parameters, through psycopg")
    row.extra(hook.conn)


@client("SQLAlchemy, `PostgresHook.get_sqlalchemy_engine`")
def test_engine_of_the_postgres_hook(row: Row) -> None:
    hook = PostgresHook(postgres_conn_id="analytics")
    with hook.get_sqlalchemy_engine().connect() as connection:
        row.user(connection.execute(text(QUERY)).one())
    row.ran("queries; the hook does not give `extra` to its engine")
    row.extra(hook.connection)


@client("`sqlalchemy-redshift` (`redshift+redshift_connector`)")
def test_sqlalchemy_redshift(row: Row) -> None:
    connection = Connection.get("analytics")
    url = URL.create(
        "redshift+redshift_connector",
        username=connection.login,
        password=connection.password,
        host=connection.host,
        port=connection.port,
        database=connection.schema,
    )
    engine = create_engine(url, connect_args={"sslmode": "verify-ca", **connection.extra_dejson})
    with engine.connect() as session:
        row.user(session.execute(text(QUERY)).one())
    row.ran("queries")
    row.extra(connection)
    with pytest.raises(DBAPIError, match="does not exist"):
        inspect(engine).get_table_names()
    row.cannot("its inspector reads system tables that only Redshift has")


def test_the_warehouse_sees_the_application_name_of_a_tag() -> None:
    for hook in (RedshiftSQLHook(redshift_conn_id="named"), PostgresHook(postgres_conn_id="named")):
        assert list(hook.get_first(QUERY)) == ["etl", "nightly"]


def test_the_driver_that_mints_for_itself_sends_the_name_of_the_task() -> None:
    assert RedshiftSQLHook(redshift_conn_id="by-connector").get_first(QUERY)[1] == TASK_NAME
