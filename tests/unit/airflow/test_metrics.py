"""Metrics of the installed Airflow."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from unittest import mock

import pytest

from redshift_secrets.airflow import metrics as airflow_metrics
from redshift_secrets.lookup.metrics import NoMetrics
from tests.support.fakes import Clock, FakeAws, cluster
from tests.unit.test_backend import backend_of


def test_a_site_without_metrics_has_none():
    assert isinstance(airflow_metrics.metrics(), NoMetrics)


@pytest.mark.parametrize("switch", ["STATSD_ON", "OTEL_ON", "STATSD_DATADOG_ENABLED"])
def test_a_site_with_metrics_has_those_of_airflow(monkeypatch, switch):
    monkeypatch.setenv(f"AIRFLOW__METRICS__{switch}", "True")
    metrics = airflow_metrics.metrics()
    assert not isinstance(metrics, NoMetrics)
    metrics.incr("redshift_secrets.lookups", tags={"outcome": "found", "tier": "host"})
    metrics.timing("redshift_secrets.age_at_use", timedelta(seconds=1))


def test_a_client_that_raises_is_reported_once_and_changes_no_answer(monkeypatch, caplog):
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
    broken = mock.Mock(incr=mock.Mock(side_effect=OSError("secret")), timing=mock.Mock(side_effect=OSError("secret")))
    monkeypatch.setattr(airflow_metrics, "_started_stats", lambda: broken)
    caplog.set_level(logging.WARNING)
    backend = backend_of(FakeAws(Clock(time.time()), [cluster()]))
    assert backend.get_connection("analytics").login == "IAMR:airflow"
    assert backend.get_connection("smtp_default") is None
    assert broken.incr.call_count >= 3
    assert broken.timing.call_count == 1
    reports = [record.getMessage() for record in caplog.records if "metrics client" in record.getMessage()]
    assert reports == ["Airflow's metrics client raises OSError; lookups go on without metrics"]
