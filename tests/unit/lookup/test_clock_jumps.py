"""A wall clock that is set while processes run: no entry is valid for longer, and no retry is later."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.cache.entry import Entry, Item
from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.refresh import Refresher
from redshift_secrets.cache.sealing import Seal
from redshift_secrets.cache.tiers import Tier
from redshift_secrets.errors import CannotServeError
from redshift_secrets.model import Scope
from tests.support.fakes import Clock, FakeAws, cluster, denied
from tests.support.helpers import Site, all_refreshes_done, waiting
from tests.support.redis_servers import RedisServer, fleet_store

DAY = 86_400.0
FRESH, STALE, EXPIRED = 100, 150, 200
WORKGROUPS = Scope("workgroup", "eu-west-1", None)
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
        refresher = Refresher(clock=time.wall, monotonic=time.monotonic)
        error = []

        def fetch(_recall):
            refreshes.append(time.wall())
            if error:
                raise error[0]
            now = time.wall()
            return Entry(len(refreshes), now, now + FRESH, now + STALE, now + EXPIRED)

        item = Item("k", lambda: "k", fetch, lambda _value: {}, lambda _rows: None, (), ())

        def get():
            entry = waiting(lambda lookup: refresher.get_one(item, lookup))
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
        time.pass_(EXPIRED + 1)
        assert get() == 3

    def test_a_clock_set_back_does_not_extend_the_use_of_an_entry_while_aws_fails(self, time, get):
        get()
        get.error.append(denied())
        time.set(-DAY)
        time.pass_(EXPIRED - 1)
        assert get() == 1
        time.pass_(1)
        with pytest.raises(Exception, match="Not allowed"):
            get()

    def test_a_clock_set_ahead_and_back_costs_only_refreshes(self, time, get):
        get()
        time.set(DAY)
        assert get() == 2
        time.set(-DAY)
        assert get() == 2
        time.pass_(EXPIRED + 1)
        assert get() == 3

    @pytest.mark.parametrize("jump", [-DAY, DAY])
    def test_a_failure_is_retried_after_five_seconds_whatever_the_clock_says(self, time, get, refreshes, jump):
        get.error.append(denied())
        for _ in range(3):
            with pytest.raises(Exception, match="Not allowed"):
                get()
        assert len(refreshes) == 1
        get.error.clear()
        time.set(jump)
        time.pass_(5)
        assert get() == 2


class Host:
    """A host with shared stores, on which one process keeps running; every other lookup is that of a new process."""

    def __init__(self, time: Time, stores) -> None:
        self.time = time
        self.aws = FakeAws(time.wall, [cluster()])
        self.stores = stores
        self.running = self.process()

    def process(self) -> Site:
        tiers = [Tier(store, "caller") for store in self.stores]
        return Site(self.time.wall, aws=self.aws, tiers=tiers, monotonic=self.time.monotonic, managed_conn_ids=".")

    def ask(self, process=None, conn_id="analytics"):
        fields = (process or self.process()).ask(conn_id)
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
        host.ask(host.running)  # refreshed, at the latest behind this one
        assert host.ask(host.running) != first
        time.set(-DAY)
        time.pass_(3301)
        before = host.aws.calls["mint"]
        host.ask(host.running)
        assert host.aws.calls["mint"] > before

    def test_nor_does_one_that_is_set_back_while_it_is_minted(self, host, time, monkeypatch):
        mint = host.aws.mint

        def mint_and_set_back(request):
            credential = mint(request)
            time.set(-1000)
            return credential

        with monkeypatch.context() as patch:
            patch.setattr(host.aws, "mint", mint_and_set_back)
            first = host.ask(host.running)
        time.pass_(3600 - 60)
        for process in (host.running, host.process()):
            assert host.ask(process) != first

    def test_nor_are_tags_older_than_a_quarter_of_an_hour_where_it_is_while_they_are_listed(
        self, host, time, monkeypatch
    ):
        list_, steps = host.aws.list, [-1000]

        def list_and_set_back(scope, recall):
            found = list_(scope, recall)
            time.set(steps.pop() if steps else 0)
            return found

        monkeypatch.setattr(host.aws, "list", list_and_set_back)
        host.ask(host.running)
        host.aws.warehouses = [cluster("moved")]
        time.pass_(901)
        for process in (host.running, host.process()):
            host.ask(process)
        assert {request.identifier for request in host.aws.minted} == {"prod", "moved"}
        assert host.aws.minted[-1].identifier == "moved"

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
        host.running.refusal("new")
        host.aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        time.set(-DAY)
        time.pass_(10)
        assert host.ask(host.running, "new") is not None

    def test_a_scope_that_failed_is_listed_again_after_its_pause(self, host, time):
        host.aws.failing[WORKGROUPS] = denied()
        host.ask(host.running)
        host.aws.failing.clear()
        time.set(-DAY)
        time.pass_(11)
        host.ask(host.running)
        assert host.aws.listed[WORKGROUPS] == 2

    def test_a_paused_warehouse_is_described_again_after_five_seconds(self, host, time):
        host.aws.warehouses[0] = cluster(status="paused")
        with pytest.raises(CannotServeError):
            host.ask(host.running)
        host.aws.warehouses[0] = cluster()
        time.set(-DAY)
        time.pass_(5)
        assert host.ask(host.running) is not None
