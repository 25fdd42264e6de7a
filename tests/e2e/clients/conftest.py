"""The warehouses that all clients are tried on, and an Airflow in front of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from airflow.sdk.configuration import clear_secrets_backends_cache

from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from tests.e2e.clients.rows import TABLE, TASK, Row

COPY_ROLE = "arn:aws:iam::123456789012:role/redshift-copy"

WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {
                "name": "dwh",
                "users": ["etl"],
                # What dbt asks Redshift's catalog for and PostgreSQL's has not.
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
def airflow(running: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An Airflow that is configured to use us, in front of the stand-in, while a task runs."""
    environment = {
        **running.environment(),
        **TASK,
        "AIRFLOW__SECRETS__BACKEND": "redshift_secrets.RedshiftSecretsBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARG__REGIONS": "eu-west-1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    clear_secrets_backends_cache()
    yield
    clear_secrets_backends_cache()


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Iterator[Row]:
    """The row of the client that a test is marked with; it has to be the one of the page."""
    marker = request.node.get_closest_marker("client")
    row = Row(marker.args[0])
    yield row
    if request.config.getoption("--write-tables"):
        TABLE.found(row.cells())
    else:
        assert TABLE.shown().get(marker.args[0]) == row.cells(), "docs/clients.md says something else: make docs"
