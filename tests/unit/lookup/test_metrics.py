"""What a site can watch, and that a site which watches nothing pays nothing."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from redshift_secrets.airflow import compat
from redshift_secrets.cache import SharedTiers
from redshift_secrets.errors import CannotServeError
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.lookup.metrics import NoMetrics
from redshift_secrets.settings.settings import Settings
from tests.support.fakes import FakeAws, cluster, denied
from tests.support.helpers import all_refreshes_done
from tests.unit.cache.test_shared import Memory


class Recorder:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.ages: list[timedelta] = []

    def incr(self, stat, *, tags=None):
        self.counts[
            " ".join([stat.removeprefix("redshift_secrets."), *map("{0[0]}={0[1]}".format, (tags or {}).items())])
        ] += 1

    def timing(self, stat, dt):
        assert stat == "redshift_secrets.age_at_use"
        self.ages.append(dt)


@pytest.fixture
def seen():
    return Recorder()


@pytest.fixture
def aws(clock):
    return FakeAws(clock, [cluster()])


def broker(aws, seen, stores=()):
    return Broker(
        Settings.from_kwargs({"db_user": "etl"}),
        aws,
        on_secret=lambda _: None,
        tiers=SharedTiers(stores, clock=aws.clock),
        metrics=seen,
        clock=aws.clock,
        rand=lambda: 0.0,
    )


def test_lookups_by_outcome_and_tier(aws, seen, clock):
    store = Memory(clock)
    first = broker(aws, seen, [store])
    first.connection("analytics")
    clock.pass_(60)
    first.connection("analytics")
    first.connection("nobody")
    broker(aws, seen, [store]).connection("analytics")
    all_refreshes_done()
    assert seen.counts == {
        "lookups outcome=found tier=aws": 1,
        "lookups outcome=found tier=process": 1,
        "lookups outcome=found tier=host": 1,
        "lookups outcome=missed tier=process": 1,
        "mints": 1,
        "catalog_refreshes": 1,
    }
    assert seen.ages == [timedelta(0), timedelta(seconds=60), timedelta(seconds=60)]


def test_refusals_and_failed_mints_with_their_code(aws, seen):
    aws.mint_error = denied()
    with pytest.raises(CannotServeError):
        broker(aws, seen).connection("analytics")
    assert seen.counts["mint_failures code=AccessDenied"] == 1
    assert seen.counts["lookups outcome=refused tier=aws"] == 1
    assert "mints" not in seen.counts


def test_airflow_without_metrics_has_none():
    assert isinstance(compat.metrics(), NoMetrics)


@pytest.mark.parametrize("switch", ["STATSD_ON", "OTEL_ON", "STATSD_DATADOG_ENABLED"])
def test_airflow_with_metrics_has_its_own(monkeypatch, switch):
    monkeypatch.setenv(f"AIRFLOW__METRICS__{switch}", "True")
    metrics = compat.metrics()
    assert not isinstance(metrics, NoMetrics)
    metrics.incr("redshift_secrets.lookups", tags={"outcome": "found", "tier": "host"})
    metrics.timing("redshift_secrets.age_at_use", timedelta(seconds=1))
