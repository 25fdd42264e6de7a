"""The warehouse that all clients are tested with, and an Airflow in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from tests.e2e.clients.rows import TABLE, TASK, Row
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
                "airflow:conn-id": "analytics strict-tls as-postgres by-connector named keep-alive",
                "airflow:db-user": "etl",
                "airflow:extra.sslmode/strict-tls": "verify-full",
                "airflow:conn-type/as-postgres": "postgres",
                "airflow:auth/by-connector": "connector",
                "airflow:extra.keepalives_idle/keep-alive": "30",
                "airflow:extra.application_name/named": "nightly",
            },
        }
    ]
}


@pytest.fixture(scope="package")
def running() -> Iterator[StandIn]:
    with StandIn(config.parse(WAREHOUSES)) as stand_in:
        yield stand_in


@pytest.fixture(autouse=True)
def airflow(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An Airflow with this backend, while a task runs."""
    for name, value in {**TASK, **backend_environment()}.items():
        monkeypatch.setenv(name, value)
    as_in_a_new_process()
    yield
    as_in_a_new_process()


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Iterator[Row]:
    """The row of the client that a test is marked with; it must be the same as in the page."""
    marker = request.node.get_closest_marker("client")
    row = Row(marker.args[0])
    yield row
    if request.config.getoption("--write-tables"):
        TABLE.found(row.cells())
    else:
        assert TABLE.shown().get(marker.args[0]) == row.cells(), "docs/clients.md differs: run `make docs`"
