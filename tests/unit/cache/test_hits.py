"""What `redshift-secrets cache` counts: every lookup of every process, at no cost to any of them."""

from __future__ import annotations

import os

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.cache import SharedTiers
from redshift_secrets.cache.hits import HitFile, Hits
from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.sealing import Seal
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.settings.settings import Settings
from tests.support.fakes import EPOCH, FakeAws, cluster
from tests.support.helpers import all_refreshes_done
from tests.support.redis_servers import RedisServer, fleet_store, together

SEAL = Seal([Fernet.generate_key().decode()])


@pytest.fixture(scope="module")
def server():
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["host", "fleet"])
def store(request, tmp_path, clock, server):
    if request.param == "host":
        store = HostStore(tmp_path / "store", SEAL, clock=clock)
        store.replace("another", {"n": b"x"}, clock() + 100)  # counts are no reason to make a store
        return store
    with server.admin() as admin:
        admin.flushall()
    return fleet_store(server.url, clock=clock)


def test_lookups_of_twenty_processes_are_all_counted(store):
    def look() -> None:
        for number in range(10):
            store.count("g", found=number < 7)
        store.count("h", found=True)

    together(20, look)
    counted = store.hits()
    assert (counted.of("g"), counted.of("h"), counted.of("i"), counted.missed) == (140, 20, 0, 60)
    assert (counted.found, counted.since) == (160, EPOCH)


def test_they_begin_anew_when_the_store_is_emptied_and_not_before(store, clock):
    store.count("g", found=True)
    store.clear("g")
    assert store.hits().of("g") == 1
    store.clear()
    assert store.hits() == Hits()
    clock.pass_(60)
    store.count("g", found=False)
    assert (store.hits().missed, store.hits().since) == (1, EPOCH + 60)


class TestFile:
    @pytest.fixture
    def file(self, tmp_path, clock):
        return HitFile(tmp_path / "hits", clock)

    def test_it_stays_small_and_forgets_nothing(self, file, tmp_path):
        for number in range(10_000):
            file.add(f"group {number % 3}", found=True)
        assert file.read().found == 10_000
        assert file.read().since == EPOCH
        assert os.listdir(tmp_path) == ["hits"]
        assert (tmp_path / "hits").stat().st_size < 70_000
        assert (tmp_path / "hits").stat().st_mode & 0o077 == 0

    @pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 100, b"\0" * 16])
    def test_nonsense_in_it_disturbs_nobody(self, file, tmp_path, content):
        (tmp_path / "hits").write_bytes(content)
        file.add("g", found=True)
        file.read()

    def test_a_folder_that_is_not_there_or_full_disturbs_nobody(self, tmp_path, clock):
        HitFile(tmp_path / "gone" / "hits", clock).add("g", found=True)
        full = HitFile(tmp_path / "hits", clock)
        os.symlink("/dev/full", tmp_path / "hits")
        full.add("g", found=True)
        assert not (tmp_path / "gone").exists()

    def test_a_store_that_is_not_private_is_not_written_to(self, tmp_path, clock):
        folder = tmp_path / "store"
        folder.mkdir(0o755)
        folder.chmod(0o755)
        HostStore(folder, SEAL, clock=clock).count("g", found=True)
        assert os.listdir(folder) == []


def test_where_access_rules_forbid_counting_everything_else_goes_on(server, clock, caplog):
    with server.admin() as admin:
        admin.execute_command("ACL", "SETUSER", "careful", "on", ">word", "~*", "+@all", "-hincrby")
    store = fleet_store(f"unix://careful:word@{server.path}", clock=clock)
    store.replace("g", {"n": b"x"}, clock() + 100)
    store.count("g", found=True)
    assert store.read("g", ["n"]) == {"n": b"x"}
    assert caplog.messages == []


class TestLookups:
    @pytest.fixture
    def process(self, clock):
        aws = FakeAws(clock, [cluster()])

        def process(*stores):
            return Broker(
                Settings.from_kwargs({}),
                aws,
                on_secret=lambda _: None,
                tiers=SharedTiers(stores, clock=clock),
                clock=clock,
            )

        return process

    def group(self, broker):
        (recalled,) = broker.recalled()[1]
        return recalled.group

    def test_each_new_process_is_a_lookup_of_the_catalog_and_of_the_credential(self, store, process):
        for _ in range(5):
            process(store).connection("analytics")
            all_refreshes_done()
        counted = store.hits()
        assert (counted.of(self.group(process(store))), counted.found, counted.missed) == (4, 8, 2)

    def test_what_a_process_has_in_memory_is_none_and_neither_is_showing_it(self, store, process):
        broker = process(store)
        for _ in range(5):
            broker.connection("analytics")
            all_refreshes_done()
            broker.recalled()
        assert (store.hits().found, store.hits().missed) == (0, 2)

    def test_of_two_tiers_the_farther_one_counts_what_the_nearer_had_not(self, process, tmp_path, clock, server):
        with server.admin() as admin:
            admin.flushall()
        fleet = fleet_store(server.url, clock=clock)
        for number in range(3):
            for _ in range(4):
                process(HostStore(tmp_path / str(number), SEAL, clock=clock), fleet).connection("analytics")
                all_refreshes_done()
        assert (fleet.hits().found, fleet.hits().missed) == (4, 2)
