"""The test of a connection, step by step."""

from __future__ import annotations

import socket

import pytest

from redshift_secrets.model import TaskContext
from redshift_secrets.operations.connect import connect
from tests.support.fakes import cluster

LEDGER = cluster(tags={"airflow:conn-id": "ledger", "airflow:team": "finance", "airflow:db-user": "etl"})


@pytest.mark.parametrize("team", ["finance", "Finance"])
def test_a_failure_names_the_warehouse_of_the_team_in_any_spelling(site, monkeypatch: pytest.MonkeyPatch, team):
    def refuse(*_arguments, **_more):
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", refuse)
    found = connect(site(LEDGER).broker, "ledger", TaskContext(None, team), lambda _step: None)
    assert found is not None
    assert "refuses connections" in str(found.failure)
    assert found.warehouse_arn == LEDGER.arn
