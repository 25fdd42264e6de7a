"""What the broker counts: lookups by outcome and farthest tier, mints, failed mints, listings, the age of a credential."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from datetime import timedelta

import pytest

from redshift_secrets.cache.workers import Lookup
from redshift_secrets.errors import CannotServeError
from redshift_secrets.model import Scope
from tests.support.fakes import FakeAws, cluster, denied
from tests.support.helpers import BOUND, Crowd, Site, WatchedDeadline, all_refreshes_done
from tests.support.memory_store import MemoryStore, tier

SCOPES = [Scope(kind, "eu-west-1", None) for kind in ("cluster", "workgroup")]


class Recorder:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.ages: list[timedelta] = []

    def incr(self, stat, *, tags=None):
        words = [stat.removeprefix("redshift_secrets."), *(tags or {}).values()]
        self.counts[" ".join(words)] += 1

    def timing(self, stat, dt):
        assert stat == "redshift_secrets.age_at_use"
        self.ages.append(dt)

    def lookups(self) -> dict[str, int]:
        """Return the lookups by outcome and tier, and forget them."""
        counted = {name.removeprefix("lookups "): n for name, n in self.counts.items() if name.startswith("lookups ")}
        self.counts.clear()
        return counted


@pytest.fixture
def metrics():
    return Recorder()


@pytest.fixture
def aws(clock):
    return FakeAws(clock, [cluster()])


@pytest.fixture
def host(clock):
    return MemoryStore(clock)


@pytest.fixture
def new_process(aws, metrics, host):
    def new_process(stores=(host,), **settings):
        tiers = [tier(store) for store in stores]
        return Site(aws.clock, aws=aws, tiers=tiers, metrics=metrics, db_user="etl", **settings).broker

    return new_process


def look_up(broker, conn_id="analytics"):
    """Look a conn_id up, and let any refresh that this started end."""
    with suppress(CannotServeError):
        broker.connection(conn_id)
    all_refreshes_done()


def test_mints_listings_and_ages_are_counted(new_process, metrics, clock):
    process = new_process()
    look_up(process)
    clock.pass_(60)
    look_up(process)
    look_up(new_process())
    assert (metrics.counts["mints"], metrics.counts["catalog_refreshes"]) == (1, 2)
    assert metrics.ages == [timedelta(0), timedelta(seconds=60), timedelta(seconds=60)]


def test_failed_mints_are_counted_by_code(new_process, aws, metrics):
    aws.mint_error = denied()
    look_up(new_process())
    assert metrics.counts["mint_failures AccessDenied"] == 1
    assert metrics.counts["mints"] == 0


class TestTier:
    def test_a_connection_is_found_in_the_farthest_tier_that_was_asked(self, new_process, metrics, clock):
        process = new_process()
        look_up(process)
        assert metrics.lookups() == {"found aws": 1}
        look_up(process)
        assert metrics.lookups() == {"found process": 1}
        look_up(new_process())
        assert metrics.lookups() == {"found host": 1}

    def test_a_miss_that_listed_is_aws_and_later_ones_are_process(self, new_process, metrics):
        process = new_process()
        look_up(process, "nobody")
        assert metrics.lookups() == {"missed aws": 1}
        for conn_id in ("nobody", "smtp_default"):
            look_up(process, conn_id)
        assert metrics.lookups() == {"missed process": 2}

    def test_a_miss_that_the_host_store_answered_is_host(self, new_process, metrics):
        look_up(new_process())
        metrics.counts.clear()
        look_up(new_process(), "nobody")
        assert metrics.lookups() == {"missed host": 1}

    def test_a_miss_that_listed_again_is_aws(self, new_process, metrics, clock):
        process = new_process(managed_conn_ids=".*")
        look_up(process, "new")
        clock.pass_(9)
        look_up(process, "other")
        assert metrics.lookups() == {"refused aws": 1, "refused process": 1}
        clock.pass_(1)
        look_up(process, "new")
        assert metrics.lookups() == {"refused aws": 1}

    def test_a_claim_in_memory_with_a_credential_from_the_host_store_is_host(self, new_process, metrics):
        process = new_process()
        look_up(process, "nobody")
        look_up(new_process())
        metrics.counts.clear()
        look_up(process)
        assert metrics.lookups() == {"found host": 1}

    def test_a_lookup_that_returns_stale_entries_waits_for_nothing_and_is_not_aws(self, new_process, metrics, clock):
        look_up(new_process())
        clock.pass_(800)
        metrics.counts.clear()
        look_up(new_process())
        assert metrics.counts["catalog_refreshes"] == 2
        assert metrics.lookups() == {"found host": 1}

    def test_a_lookup_that_waits_for_a_catalog_of_yesterday_to_be_refreshed_is_aws(self, new_process, metrics, clock):
        look_up(new_process())
        clock.pass_(80_000)
        metrics.counts.clear()
        look_up(new_process())
        assert metrics.lookups() == {"found aws": 1}

    def test_a_refusal_that_asked_is_aws_and_one_from_a_remembered_failure_is_process(self, new_process, aws, metrics):
        process = new_process()
        aws.mint_error = denied()
        look_up(process)
        assert metrics.lookups() == {"refused aws": 1}
        look_up(process)
        assert metrics.lookups() == {"refused process": 1}

    def test_a_refusal_for_what_the_tags_say_is_process(self, new_process, aws, metrics):
        aws.warehouses[0] = cluster(tags={"airflow:conn-id": "analytics", "airflow:auth": "imm"})
        process = new_process()
        look_up(process, "nobody")
        metrics.counts.clear()
        look_up(process)
        assert metrics.lookups() == {"refused process": 1}

    def test_a_refusal_after_describing_a_paused_warehouse_is_aws_then_process_then_host(
        self, new_process, aws, metrics
    ):
        aws.warehouses[0] = cluster(status="paused")
        process = new_process()
        look_up(process, "nobody")
        metrics.counts.clear()
        look_up(process)
        assert metrics.lookups() == {"refused aws": 1}
        look_up(process)
        assert metrics.lookups() == {"refused process": 1}
        look_up(new_process())
        assert metrics.lookups() == {"refused host": 1}

    @pytest.mark.parametrize("conn_id", ["analytics", "nobody"])
    def test_where_nothing_can_be_listed_a_refusal_is_aws_once_and_then_process(
        self, new_process, aws, metrics, conn_id
    ):
        aws.failing = dict.fromkeys(SCOPES, denied())
        process = new_process(managed_conn_ids=".*")
        look_up(process, conn_id)
        assert metrics.lookups() == {"refused aws": 1}
        look_up(process, conn_id)
        assert metrics.lookups() == {"refused process": 1}

    def test_lookups_that_join_a_running_refresh_are_aws(self, new_process, aws, metrics, monkeypatch):
        process = new_process()
        look_up(process, "nobody")
        metrics.counts.clear()
        aws.hold = threading.Event()
        aws.entered.clear()
        first = Crowd(1, lambda: process.connection("analytics"))
        assert aws.entered.wait(BOUND)  # the mint has begun, and is held
        deadline = WatchedDeadline()
        monkeypatch.setattr(process, "lookup", lambda: Lookup(deadline))
        others = Crowd(3, lambda: process.connection("analytics"))
        deadline.await_waiting(3)
        aws.hold.set()
        first.outcomes(), others.outcomes()
        assert metrics.lookups() == {"found aws": 4}
        assert aws.calls["mint"] == 1

    def test_without_shared_stores_there_are_process_and_aws(self, new_process, metrics):
        process = new_process(stores=())
        for conn_id in ("nobody", "analytics", "analytics", "nobody"):
            look_up(process, conn_id)
        assert metrics.lookups() == {"missed aws": 1, "found aws": 1, "found process": 1, "missed process": 1}

    def test_conn_ids_that_do_not_match_the_pattern_are_not_counted(self, new_process, metrics):
        look_up(new_process(managed_conn_ids="ana"), "smtp_default")
        assert metrics.lookups() == {}
