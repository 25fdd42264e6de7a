"""The warehouses of the integration tests, and a stand-in for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn

WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {"name": "dwh", "users": ["etl"]},
            "tags": {
                "airflow:conn-id": "analytics by-iam by-dag data/analytics",
                "airflow:db-user/analytics": "etl",
                "airflow:db-user/data/analytics": "etl",
                "airflow:auth/by-iam": "iam",
                "airflow:auto-create/by-dag": "true",
            },
        }
    ]
}


@pytest.fixture(scope="module")
def stand_in(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    """The stand-in with the warehouses of the test module, or with those above."""
    with StandIn(config.parse(getattr(request.module, "WAREHOUSES", WAREHOUSES))) as running:
        yield running
