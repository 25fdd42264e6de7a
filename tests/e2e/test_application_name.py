"""The name of the task in Redshift's own logs, by where the connection is resolved. For the clients see `docs/clients.md`."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

import pytest
from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.sdk.definitions.connection import Connection

from redshift_secrets.local.stand_in import StandIn
from tests.e2e import airflow_sites
from tests.support.fakes import Clock

TASK = {"AIRFLOW_CTX_DAG_ID": "sales", "AIRFLOW_CTX_TASK_ID": "load"}
QUERY = "SELECT current_setting('application_name')"


def test_a_worker_that_resolves_itself_names_the_task(stand_in: StandIn, clock: Clock) -> None:
    with airflow_sites.worker(stand_in, clock), mock.patch.dict(os.environ, TASK):
        assert RedshiftSQLHook("analytics").get_first(QUERY)[0] == "airflow/sales/load"


def test_the_api_server_does_not_know_the_task_and_names_none(stand_in: StandIn, clock: Clock) -> None:
    with airflow_sites.server(stand_in, clock):
        assert Connection.get("analytics").extra_dejson == {"sslmode": "verify-full"}


@pytest.mark.parametrize("side", [airflow_sites.worker, airflow_sites.server])
def test_a_name_from_the_settings_is_used_on_both_sides(side: Any, stand_in: StandIn, clock: Clock) -> None:
    with side(stand_in, clock, extra='{"application_name": "nightly"}'), mock.patch.dict(os.environ, TASK):
        assert RedshiftSQLHook("analytics").get_first(QUERY)[0] == "nightly"
