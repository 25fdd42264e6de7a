"""The warehouse that all clients are tested with, and an Airflow in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from tenacity import stop_after_attempt

from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from tests.e2e.clients.rows import TABLE, TASK, Row
from tests.e2e.clients.wrong import CLUSTERS, WrongServers, wrong_servers
from tests.support.airflow_parts import as_in_a_new_process, backend_environment

WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {
                "name": "dwh",
                "users": ["etl"],
                # dbt reads it in Redshift's catalog; PostgreSQL's does not have it.
                "sql": "CREATE SCHEMA marts AUTHORIZATION etl; CREATE VIEW public.stv_mv_info AS"
                " SELECT NULL::text AS db_name, NULL::text AS schema, NULL::text AS name WHERE false;",
            },
            "tags": {
                "airflow:conn-id": "analytics as-postgres by-connector named keep-alive",
                "airflow:db-user": "etl",
                "airflow:conn-type/as-postgres": "postgres",
                "airflow:auth/by-connector": "connector",
                "airflow:conn-type/keep-alive": "postgres",
                "airflow:extra.keepalives_idle/keep-alive": "30",
                "airflow:extra.application_name/named": "nightly",
            },
        },
        *CLUSTERS,
    ]
}


@pytest.fixture(scope="package")
def running() -> Iterator[StandIn]:
    with StandIn(config.parse(WAREHOUSES)) as stand_in:
        yield stand_in


@pytest.fixture(scope="package")
def wrong(running: StandIn) -> Iterator[WrongServers]:
    """Servers that are no warehouses, at the addresses of some."""
    with wrong_servers(running) as servers:
        yield servers


@pytest.fixture(autouse=True)
def airflow(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An Airflow with this backend, while a task runs."""
    for name, value in {**TASK, **backend_environment()}.items():
        monkeypatch.setenv(name, value)
    as_in_a_new_process()
    yield
    as_in_a_new_process()


@pytest.fixture
def row(request: pytest.FixtureRequest, wrong: WrongServers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Row]:
    """The row of the client that a test is marked with; it must be the same as in the page."""
    marker = request.node.get_closest_marker("client")
    # Of what cannot succeed, the first attempt says enough.
    monkeypatch.setattr(RedshiftSQLHook.get_conn.retry, "stop", stop_after_attempt(1))
    row = Row(marker.args[0], wrong)
    yield row
    if request.node.get_closest_marker("attempt") is not None:
        assert row.sends_no_password_to_wrong_servers()
    if request.config.getoption("--write-tables"):
        TABLE.found(row.cells())
    else:
        assert TABLE.shown().get(marker.args[0]) == row.cells(), "docs/clients.md differs: run `make docs`"
