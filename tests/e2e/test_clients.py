"""The Connection in the hands of those who use it: Airflow's hooks and operators, found through Airflow's own lookup."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk.configuration import clear_secrets_backends_cache
from airflow.sdk.definitions.connection import Connection
from sqlalchemy import text

from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn

WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {"name": "dwh", "users": ["etl"]},
            "tags": {
                "airflow:conn-id": "analytics strict-tls as-postgres",
                "airflow:db-user": "etl",
                "airflow:extra.sslmode/strict-tls": "verify-full",
                "airflow:conn-type/as-postgres": "postgres",
            },
        }
    ]
}


@pytest.fixture(scope="module")
def running() -> Iterator[StandIn]:
    with StandIn(config.parse(WAREHOUSES)) as stand_in:
        yield stand_in


@pytest.fixture(autouse=True)
def airflow(running: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An Airflow that is configured to use us, in front of the stand-in."""
    environment = {
        **running.environment(),
        "AIRFLOW__SECRETS__BACKEND": "redshift_secrets.RedshiftSecretsBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARG__REGIONS": "eu-west-1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    clear_secrets_backends_cache()
    yield
    clear_secrets_backends_cache()


@pytest.mark.parametrize("conn_id", ["analytics", "strict-tls"])
def test_redshift_sql_hook(conn_id: str) -> None:
    hook = RedshiftSQLHook(redshift_conn_id=conn_id)
    assert [list(row) for row in hook.get_records("SELECT current_user, current_database()")] == [["etl", "dwh"]]
    hook.run(["CREATE TABLE IF NOT EXISTS hooked (n int)", "DELETE FROM hooked", "INSERT INTO hooked VALUES (1), (2)"])
    assert hook.get_first("SELECT sum(n) FROM hooked WHERE n < %s", (5,))[0] == 3
    assert hook.test_connection() == (True, "Connection successfully tested")


def test_redshift_sql_hook_uri_and_engine() -> None:
    hook = RedshiftSQLHook(redshift_conn_id="analytics")
    assert hook.get_uri().startswith("postgresql://IAM%3Aetl:")
    with hook.get_sqlalchemy_engine().connect() as connection:
        assert connection.execute(text("SELECT current_user")).scalar_one() == "etl"


def test_the_warehouse_sees_which_task_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "sales")
    monkeypatch.setenv("AIRFLOW_CTX_TASK_ID", "load")
    shown = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    hook = RedshiftSQLHook(redshift_conn_id="analytics")
    assert hook.get_first(shown)[0] == "airflow/sales/load"
    with hook.get_sqlalchemy_engine().connect() as connection:
        assert connection.execute(text(shown)).scalar_one() == "airflow/sales/load"
    # PostgresHook gives `extra` to psycopg, and not to its SQLAlchemy engine.
    assert PostgresHook(postgres_conn_id="analytics").get_first(shown)[0] == "airflow/sales/load"


def test_postgres_hook() -> None:
    hook = PostgresHook(postgres_conn_id="analytics")
    assert hook.get_first("SELECT current_user") == ("etl",)
    with hook.get_sqlalchemy_engine().connect() as connection:
        assert connection.execute(text("SELECT current_user")).scalar_one() == "etl"


@pytest.mark.parametrize("conn_id", ["analytics", "as-postgres"])
def test_sql_execute_query_operator(conn_id: str) -> None:
    operator = SQLExecuteQueryOperator(task_id="ask", conn_id=conn_id, sql="SELECT current_user", do_xcom_push=True)
    assert [list(row) for row in operator.execute({})] == [["etl"]]


def test_airflow_finds_the_connection_and_masks_its_password(caplog: pytest.LogCaptureFixture) -> None:
    from airflow.sdk._shared.secrets_masker import redact

    connection = Connection.get("analytics")
    assert connection.conn_type == "redshift"
    assert connection.login == "IAM:etl"
    assert redact(f"it is {connection.password}") == "it is ***"
    again = Connection.from_uri(connection.get_uri(), conn_id="analytics")
    assert (again.password, again.login, again.host) == (connection.password, connection.login, connection.host)


def test_no_password_in_any_log_at_debug_level(running: StandIn) -> None:
    seen: list[str] = []

    class Everything(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(self.format(record))

    handler, root = Everything(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        connection = Connection.get("analytics")
    finally:
        root.setLevel(before)
        root.removeHandler(handler)
    assert any("botocore" in line or "endpoint" in line for line in seen), "debug logging was not on"
    for token in running.tokens.minted():
        assert not any(token.password in line for line in seen)
    assert connection.password is not None
