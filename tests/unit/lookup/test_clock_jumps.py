"""A clock that is set while everything runs: nothing lives longer for it, and nobody waits longer for it."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.cache import CacheEntry, ProcessCache, SharedTiers
from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.sealing import Seal
from redshift_secrets.errors import CannotServeError
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.settings.settings import Settings
from tests.support.fakes import Clock, FakeAws, cluster, denied
from tests.support.helpers import WatchedDeadline, all_refreshes_done
from tests.support.redis_servers import RedisServer, fleet_store

DAY = 86_400.0
FRESH, USABLE = 100, 200
SEAL = Seal([Fernet.generate_key().decode()])


class Time:
    """The time of day, which may be set, and the time that only runs."""

    def __init__(self) -> None:
        self.of_day = Clock()
        self.running = Clock(1000.0)

    def pass_(self, seconds: float) -> None:
        self.of_day.pass_(seconds)
        self.running.pass_(seconds)

    def set(self, seconds: float) -> None:
        """Set the time of day, ahead or (with less than nought) back."""
        self.of_day.pass_(seconds)


@pytest.fixture
def time():
    return Time()


class TestOneProcess:
    @pytest.fixture
    def renewals(self):
        return []

    @pytest.fixture
    def get(self, time, renewals):
        cache = ProcessCache(str, clock=time.of_day, monotonic=time.running)
        error = []

        def renew():
            renewals.append(time.of_day())
            if error:
                raise error[0]
            return CacheEntry(len(renewals), time.of_day() + FRESH, time.of_day() + USABLE)

        def get():
            value = cache.get("k", renew, WatchedDeadline())
            all_refreshes_done()
            return value

        get.error = error
        return get

    @pytest.mark.parametrize("jump", [-DAY, -5.0, 0.0])
    def test_a_clock_set_back_does_not_lengthen_a_life(self, time, get, jump):
        assert get() == 1
        time.set(jump)
        time.pass_(FRESH - 1)
        assert get() == 1
        time.pass_(2)
        assert get() == 1  # and renewed behind
        assert get() == 2
        time.set(jump)
        time.pass_(USABLE + 1)
        assert get() == 3

    def test_a_clock_set_ahead_and_back_costs_renewals_and_nothing_else(self, time, get):
        get()
        time.set(DAY)
        assert get() == 2
        time.set(-DAY)
        assert get() == 2
        time.pass_(USABLE + 1)
        assert get() == 3

    @pytest.mark.parametrize("jump", [-DAY, DAY])
    def test_a_failure_is_tried_again_after_ten_seconds_whatever_the_clock_says(self, time, get, renewals, jump):
        get.error.append(denied())
        for _ in range(3):
            with pytest.raises(Exception, match="Not allowed"):
                get()
        assert len(renewals) == 1
        get.error.clear()
        time.set(jump)
        time.pass_(10)
        assert get() == 2


class Host:
    """A host with a store; each lookup may be that of a new process."""

    def __init__(self, time: Time, stores) -> None:
        self.time = time
        self.aws = FakeAws(time.of_day, [cluster()])
        self.stores = stores
        self.running = self.process()

    def process(self) -> Broker:
        return Broker(
            Settings.from_kwargs({"connections_lookup_pattern": "."}),
            self.aws,
            on_secret=lambda _secret: None,
            tiers=SharedTiers(self.stores, clock=self.time.of_day),
            clock=self.time.of_day,
            monotonic=self.time.running,
            rand=lambda: 0.0,
        )

    def ask(self, broker=None, conn_id="analytics"):
        fields = (broker or self.process()).connection(conn_id)
        all_refreshes_done()
        return fields and fields.password


@pytest.fixture(params=["host", "fleet", "none"])
def host(request, time, tmp_path):
    if request.param == "host":
        yield Host(time, [HostStore(tmp_path / "store", SEAL, clock=time.of_day)])
    elif request.param == "none":
        yield Host(time, [])
    else:
        with RedisServer() as server:
            yield Host(time, [fleet_store(server.url, clock=time.of_day)])


class TestLookups:
    def test_no_password_is_handed_out_past_its_life_by_a_clock_set_back(self, host, time):
        first = host.ask(host.running)
        time.set(-DAY)
        assert host.ask(host.running) == first
        time.pass_(1801)
        assert host.ask(host.running) == first  # and renewed behind
        assert host.ask(host.running) != first
        time.set(-DAY)
        time.pass_(3301)
        before = host.aws.calls["mint"]
        host.ask(host.running)
        assert host.aws.calls["mint"] > before

    def test_a_new_process_trusts_nothing_that_was_written_later_than_now(self, host, time, caplog):
        first = host.ask()
        time.set(-DAY)
        second = host.ask()
        assert second != first
        time.pass_(60)
        assert (host.ask() == second) is bool(host.stores)
        told = [message for message in caplog.messages if "clock" in message]
        assert len(told) <= len(host.stores) * 2  # once in each process that noticed

    def test_a_clock_set_ahead_and_back_ends_in_right_answers(self, host, time):
        host.ask(host.running)
        time.set(DAY)
        ahead = host.ask(host.running)
        time.set(-DAY)
        assert host.ask(host.running) == ahead
        assert host.ask() is not None
        time.pass_(3301)
        assert host.ask(host.running) != ahead

    def test_a_failure_that_is_shared_is_over_after_ten_seconds(self, host, time):
        host.aws.mint_error = denied()
        for broker in (host.running, None):
            with pytest.raises(CannotServeError):
                host.ask(broker)
        host.aws.mint_error = None
        time.set(-DAY)
        time.pass_(10)
        assert host.ask(host.running) is not None
        assert host.ask() is not None

    def test_the_catalog_is_listed_again_when_its_time_has_passed(self, host, time):
        host.ask(host.running)
        host.aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        time.set(-DAY)
        time.pass_(301)
        host.ask(host.running)  # stale, so it is listed behind this one
        assert host.ask(host.running, "new") is not None
        assert host.aws.calls["list"] == 4

    def test_a_missing_conn_id_is_looked_for_again_after_ten_seconds(self, host, time):
        assert host.ask(host.running, "new") is None
        host.aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        time.set(-DAY)
        time.pass_(10)
        assert host.ask(host.running, "new") is not None

    def test_a_region_that_failed_is_tried_again_when_its_pause_has_passed(self, host, time):
        host.aws.failing[host.aws.scopes()[1]] = denied()
        host.ask(host.running)
        host.aws.failing.clear()
        time.set(-DAY)
        time.pass_(11)
        before = dict(host.aws.listed)
        host.ask(host.running)
        assert host.aws.listed[host.aws.scopes()[1]] == before[host.aws.scopes()[1]] + 1

    def test_a_look_at_a_paused_warehouse_is_repeated_after_five_seconds(self, host, time):
        host.aws.warehouses[0] = cluster(status="paused")
        with pytest.raises(CannotServeError):
            host.ask(host.running)
        host.aws.warehouses[0] = cluster()
        time.set(-DAY)
        time.pass_(5)
        assert host.ask(host.running) is not None
