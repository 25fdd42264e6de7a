"""A wall clock that is set while processes run: no entry is valid for longer, and no retry is later."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.cache import CacheEntry, ProcessCache, SharedTiers
from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.sealing import Seal
from redshift_secrets.errors import CannotServeError
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.settings import Settings
from tests.support.fakes import Clock, FakeAws, cluster, denied
from tests.support.helpers import WatchedDeadline, all_refreshes_done
from tests.support.redis_servers import RedisServer, fleet_store

DAY = 86_400.0
FRESH, STALE = 100, 200
SEAL = Seal([Fernet.generate_key().decode()])


class Time:
    """The wall clock, which may be set, and the monotonic clock."""

    def __init__(self) -> None:
        self.wall = Clock()
        self.monotonic = Clock(1000.0)

    def pass_(self, seconds: float) -> None:
        self.wall.pass_(seconds)
        self.monotonic.pass_(seconds)

    def set(self, seconds: float) -> None:
        """Set the wall clock ahead, or back where `seconds` is negative."""
        self.wall.pass_(seconds)


@pytest.fixture
def time():
    return Time()


class TestOneProcess:
    @pytest.fixture
    def refreshes(self):
        return []

    @pytest.fixture
    def get(self, time, refreshes):
        cache = ProcessCache(str, clock=time.wall, monotonic=time.monotonic)
        error = []

        def refresh():
            refreshes.append(time.wall())
            if error:
                raise error[0]
            return CacheEntry(len(refreshes), time.wall() + FRESH, time.wall() + STALE)

        def get():
            entry = cache.get("k", refresh, WatchedDeadline())
            all_refreshes_done()
            return entry.value

        get.error = error
        return get

    @pytest.mark.parametrize("jump", [-DAY, -5.0, 0.0])
    def test_a_clock_set_back_does_not_extend_an_entry(self, time, get, jump):
        assert get() == 1
        time.set(jump)
        time.pass_(FRESH - 1)
        assert get() == 1
        time.pass_(2)
        assert get() == 1  # and refreshed behind
        assert get() == 2
        time.set(jump)
        time.pass_(STALE + 1)
        assert get() == 3

    def test_a_clock_set_ahead_and_back_costs_only_refreshes(self, time, get):
        get()
        time.set(DAY)
        assert get() == 2
        time.set(-DAY)
        assert get() == 2
        time.pass_(STALE + 1)
        assert get() == 3

    @pytest.mark.parametrize("jump", [-DAY, DAY])
    def test_a_failure_is_retried_after_ten_seconds_whatever_the_clock_says(self, time, get, refreshes, jump):
        get.error.append(denied())
        for _ in range(3):
            with pytest.raises(Exception, match="Not allowed"):
                get()
        assert len(refreshes) == 1
        get.error.clear()
        time.set(jump)
        time.pass_(10)
        assert get() == 2


class Host:
    """A host with shared stores, on which one process keeps running; every other lookup is that of a new process."""

    def __init__(self, time: Time, stores) -> None:
        self.time = time
        self.aws = FakeAws(time.wall, [cluster()])
        self.stores = stores
        self.running = self.process()

    def process(self) -> Broker:
        return Broker(
            Settings.from_kwargs({"connections_lookup_pattern": "."}),
            self.aws,
            mask=lambda _password, _expires_at: None,
            tiers=SharedTiers(self.stores, clock=self.time.wall),
            clock=self.time.wall,
            monotonic=self.time.monotonic,
            rand=lambda: 0.0,
        )

    def ask(self, broker=None, conn_id="analytics"):
        fields = (broker or self.process()).connection(conn_id)
        all_refreshes_done()
        return fields and fields.password


@pytest.fixture(params=["host", "fleet", "none"])
def host(request, time, tmp_path):
    if request.param == "host":
        yield Host(time, [HostStore(tmp_path / "store", SEAL, clock=time.wall)])
    elif request.param == "none":
        yield Host(time, [])
    else:
        with RedisServer() as server:
            yield Host(time, [fleet_store(server.url, clock=time.wall)])


class TestLookups:
    def test_a_clock_set_back_does_not_extend_a_credential(self, host, time):
        first = host.ask(host.running)
        time.set(-DAY)
        assert host.ask(host.running) == first
        time.pass_(1801)
        assert host.ask(host.running) == first  # and refreshed behind
        assert host.ask(host.running) != first
        time.set(-DAY)
        time.pass_(3301)
        before = host.aws.calls["mint"]
        host.ask(host.running)
        assert host.aws.calls["mint"] > before

    def test_a_new_process_uses_nothing_that_was_written_later_than_now(self, host, time, caplog):
        first = host.ask()
        time.set(-DAY)
        second = host.ask()
        assert second != first
        time.pass_(60)
        assert (host.ask() == second) is bool(host.stores)
        logged = [message for message in caplog.messages if "clock" in message]
        assert len(logged) <= len(host.stores) * 2  # once in each process that noticed

    def test_after_a_clock_was_set_ahead_and_back_lookups_are_right(self, host, time):
        host.ask(host.running)
        time.set(DAY)
        ahead = host.ask(host.running)
        time.set(-DAY)
        assert host.ask(host.running) == ahead
        assert host.ask() is not None
        time.pass_(3301)
        assert host.ask(host.running) != ahead

    def test_a_shared_failure_ends_after_ten_seconds(self, host, time):
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

    def test_a_missing_conn_id_causes_a_listing_again_after_ten_seconds(self, host, time):
        assert host.ask(host.running, "new") is None
        host.aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        time.set(-DAY)
        time.pass_(10)
        assert host.ask(host.running, "new") is not None

    def test_a_scope_that_failed_is_listed_again_after_its_pause(self, host, time):
        host.aws.failing[host.aws.scopes()[1]] = denied()
        host.ask(host.running)
        host.aws.failing.clear()
        time.set(-DAY)
        time.pass_(11)
        before = dict(host.aws.listed)
        host.ask(host.running)
        assert host.aws.listed[host.aws.scopes()[1]] == before[host.aws.scopes()[1]] + 1

    def test_a_paused_warehouse_is_described_again_after_five_seconds(self, host, time):
        host.aws.warehouses[0] = cluster(status="paused")
        with pytest.raises(CannotServeError):
            host.ask(host.running)
        host.aws.warehouses[0] = cluster()
        time.set(-DAY)
        time.pass_(5)
        assert host.ask(host.running) is not None
