"""The refresh for all processes: one asks AWS, and what it finds out is every process's, on one host and on several."""

from __future__ import annotations

import pytest

from redshift_secrets.cache.entry import Entry
from redshift_secrets.cache.store import FreeLease
from redshift_secrets.cache.tiers import Tier
from redshift_secrets.errors import DeadlineError
from tests.support.fakes import EPOCH, denied
from tests.support.memory_store import MemoryStore, tier
from tests.unit.cache.simulation import EXPIRED, FOREVER, FRESH, STALE, entry, put

PLACE = tier(MemoryStore(lambda: 0)).place("k")


class TestTier:
    """A store as one caller sees it."""

    def test_each_caller_reads_and_locks_its_own_groups(self, process, host):
        etl, bi = process(Tier(host, "etl")), process(Tier(host, "bi"))
        bi_gets = bi.start()
        assert [etl.get(), bi_gets(), etl.waited, bi.waited] == ["v2", "v1", 1, 1]
        assert [process(Tier(host, caller)).get() for caller in ("etl", "bi")] == ["v2", "v1"]

    def test_the_caller_is_determined_at_each_lookup(self, host):
        callers = ["etl"]
        changing = Tier(host, lambda: callers[0])
        before = changing.place("k")
        callers[0] = "bi"
        assert changing.place("k") == Tier(host, "bi").place("k") != before == Tier(host, "etl").place("k")

    def test_names_of_groups_reveal_neither_caller_nor_item(self, host):
        assert set(Tier(host, "etl").place("credential of prod")) <= set("0123456789abcdef")

    def test_any_text_is_the_name_of_an_item(self, host):
        assert len({tier(host).place(name) for name in ("missing a", "missing a\ud800", "missing a\udfff", "")}) == 4

    def test_an_unknown_caller_shares_nothing(self, process, host, source):
        unknown = Tier(host, lambda: None)
        assert [process(unknown).get() for _ in range(2)] == ["v1", "v2"]
        put(process(unknown), "put")
        source.error = denied()
        process(unknown).get()
        source.seconds = FOREVER
        process(unknown).get()
        assert (host.groups, host.leases) == ({}, set())


class TestSharing:
    def test_without_a_store_every_process_asks_for_itself(self, process):
        assert [process().get(), process().get()] == ["v1", "v2"]

    def test_then_nothing_is_encoded(self, process, source):
        assert process().get(source.item(encode=lambda _value: 1 / 0)) == "v1"

    def test_nothing_is_removed_from_the_fleet_store_where_nothing_failed(self, process, fleet):
        fleet.clear = lambda _group: 1 / 0  # a round trip
        assert process(fleet).get() == "v1"

    def test_another_process_finds_the_entry_with_its_ages(self, process, simulation, host, fleet, source):
        process(host, fleet).get()
        made_at = simulation.clock() - 1
        for store in (host, fleet):
            found = process(store).refresher.cached(source.item())
            assert found == Entry("v1", made_at, made_at + FRESH, made_at + STALE, made_at + EXPIRED)

    def test_what_a_host_finds_stale_in_the_fleet_is_refreshed_behind_its_lookup(
        self, process, simulation, host, fleet, source
    ):
        """No other process may come across it."""
        put(process(fleet), "old", made_ago=FRESH)
        asking = process(host, fleet)
        assert (asking.get(), asking.waited) == ("old", 0)
        simulation.finish()
        assert [source.asked, process(host).get(), process(fleet).get()] == [1, "v1", "v1"]

    def test_a_lookup_is_one_read_of_the_nearest_store(self, process, host, fleet, source):
        process(host, fleet).get(source.item("a"), source.item("b"))
        host.reads = fleet.reads = 0
        warm = process(host, fleet)
        assert sorted(warm.get(source.item("a"), source.item("b"))) == ["v1", "v2"]
        assert (host.reads, fleet.reads, warm.waited, warm.tier) == (1, 0, 0, "host")

    def test_an_expired_entry_is_not_returned(self, process, simulation, host, source):
        process(host).get()
        simulation.pass_(EXPIRED)
        assert process(host).refresher.cached(source.item()) is None
        assert process(host).get() == "v2"

    @pytest.mark.parametrize(("ahead", "found"), [(FRESH - 2, "v1"), (FRESH + 2, "v2")])
    def test_an_entry_of_a_host_whose_clock_is_ahead_is_fresh_for_at_most_twice_as_long(
        self, process, simulation, host, other_host, source, ahead, found
    ):
        fleet = MemoryStore(lambda: EPOCH + simulation.elapsed, "fleet")
        simulation.jump(ahead)
        process(host, fleet).get()
        simulation.jump(-ahead)
        assert process(other_host, fleet).get() == found
        assert process(other_host, fleet).get() == found

    def test_another_host_copies_the_entry_from_the_fleet_store(self, process, host, other_host, fleet, source):
        process(other_host, fleet).get()
        copying = process(host, fleet)
        assert (copying.get(), copying.waited) == ("v1", 0)
        fleet.reads = 0
        assert (process(host, fleet).get(), fleet.reads, source.asked) == ("v1", 0, 1)
        assert host.groups[PLACE][2] == fleet.groups[PLACE][2]

    def test_all_rows_are_copied_whichever_one_the_lookup_needs(self, process, host, fleet, source):
        def of(name):
            return source.item(
                encode=lambda value: {"one": value.encode(), "two": b"other " + value.encode()},
                decode=lambda rows: rows[name].decode() if name in rows else None,
                rows=(name,),
                all_rows=("one", "two"),
                kept=False,
            )

        process(fleet).get(of("one"))
        copying = process(host, fleet)
        assert copying.get(of("one")) == "v1"
        assert [copying.get(of("two")), process(host).get(of("two")), source.asked] == ["other v1"] * 2 + [1]

    def test_a_part_of_an_entry_is_not_remembered_as_the_whole(self, process, fleet, source):
        process(fleet).get(source.item(kept=False))
        fetched = process(fleet)
        fetched.get(source.item(kept=False), since=float("inf"))
        fleet.groups.clear()
        assert fetched.refresher.cached(source.item(kept=False)).value == "v2"  # fetched here, so it is whole

    @pytest.mark.parametrize("rows", [{}, {"value": b"x" * 32}, {"other": b"x" * 40}])
    def test_rows_that_carry_nothing_are_a_miss(self, process, simulation, host, source, rows):
        host.replace(PLACE, rows, simulation.clock() + 1000)
        assert process(host).refresher.cached(source.item()) is None
        assert process(host).get() == "v1"

    def test_a_store_that_takes_no_entry_is_no_queue(self, process, host, source):
        host.is_full = True
        host.try_lock = lambda _group: FreeLease()
        processes = [process(host) for _ in range(8)]
        assert {result() for result in [each.start() for each in processes]} == {f"v{n}" for n in range(1, 9)}
        assert {each.waited for each in processes} == {1}

    def test_a_store_that_cannot_keep_what_others_wait_for_holds_them_up_only_until_the_lease_is_free(
        self, process, host
    ):
        host.is_full = True
        processes = [process(host) for _ in range(3)]
        assert sorted(result() for result in [each.start() for each in processes]) == ["v1", "v2", "v3"]
        assert max(each.waited for each in processes) < 4.5


class TestLease:
    @pytest.mark.parametrize("across_hosts", [False, True])
    def test_of_all_processes_one_asks(self, process, host, other_host, fleet, source, across_hosts):
        tiers = [[host, fleet], [other_host, fleet]] if across_hosts else [[host]]
        results = [process(*stores).start() for stores in tiers * 4]
        assert {result() for result in results} == {"v1"}
        assert source.asked == 1
        assert host.leases == other_host.leases == fleet.leases == set()

    def test_on_each_host_one_process_waits_for_the_fleet(self, process, host, other_host, fleet):
        process(host, fleet).start()
        waiting = [process(other_host, fleet).start() for _ in range(4)]
        assert (len(other_host.leases), len(fleet.leases)) == (1, 1)
        assert {result() for result in waiting} == {"v1"}

    def test_a_new_lease_holder_looks_again(self, process, host, simulation, source):
        """Between its lookup and its lease another process may have refreshed."""
        reads, read, late, other = [], host.read, process(host), process(host)

        def refreshed_in_between(wanted):
            reads.append(wanted)
            if len(reads) == 2:
                other.refresher.put(source.item(), entry("other", simulation.clock()))
            return read(wanted)

        host.read = refreshed_in_between
        assert (late.get(), late.waited, source.asked, host.leases) == ("other", 0, 0, set())
        assert len(reads) == 2

    @pytest.mark.parametrize("error", [None, denied(), KeyError("k")], ids=["answer", "failure", "unexpected"])
    def test_leases_are_released_whatever_comes(self, process, host, fleet, source, error):
        source.error = error
        process(host, fleet).get()
        assert host.leases == fleet.leases == set()

    def test_behind_a_stale_entry_nobody_waits_for_a_refresh_elsewhere(self, process, simulation, host, source):
        one, other = process(host), process(host)
        one.get()
        simulation.pass_(FRESH)
        host.leases.add(PLACE)
        assert (other.get(), other.waited) == ("v1", 0)
        reads = host.reads
        assert (other.get(), other.waited, host.reads) == ("v1", 0, reads + 1)  # it does not look for the lease again
        simulation.pass_(1)
        host.leases.clear()
        other.get()
        simulation.finish()
        assert (process(host).get(), source.asked) == ("v2", 2)

    def test_a_refresh_waits_no_longer_than_a_lookup_may(self, process, host, simulation):
        host.leases |= {PLACE, f"{PLACE}?"}
        assert isinstance(process(host).get(), DeadlineError)
        before = simulation.elapsed
        simulation.finish()
        assert simulation.elapsed - before < 0.5

    @pytest.mark.parametrize(
        ("read_seconds", "pauses"),
        [(0, [0.02, 0.04, 0.08, 0.16, 0.32, 0.4]), (0.0025, [0.05, 0.05, 0.08, 0.16, 0.32, 0.4]), (2, [0.4])],
    )
    def test_the_longer_a_read_takes_the_less_often_a_waiting_process_reads(
        self, process, simulation, fleet, read_seconds, pauses
    ):
        """A read takes long where hundreds wait together: they must leave the processor to the refreshing process."""
        waiting, read, slept = process(fleet), fleet.read, []

        def slow_read(wanted):
            simulation.sleep(read_seconds)
            return read(wanted)

        def sleep(seconds):
            slept.append(seconds)
            simulation.sleep(seconds)

        fleet.leases.add("*")
        fleet.read = slow_read
        waiting.refresher._tiers._sleep = sleep
        waiting.get()
        assert slept[: len(pauses)] == pytest.approx(pauses)

    @pytest.mark.parametrize(
        ("released_after", "found_within", "reads"), [(0.05, 0.03, 5), (1.0, 0.21, 6), (4.0, 0.81, 9)]
    )
    def test_on_a_host_a_waiting_process_reads_rarely_and_finds_a_new_entry_soon(
        self, process, simulation, host, source, released_after, found_within, reads
    ):
        """Where hundreds wait together, reads take the processor from the refreshing process, which removes a file at the end."""
        source.seconds = released_after
        first, second = process(host).start(), process(host)
        reads_before = host.reads
        assert (second.get(), first(), source.asked) == ("v1", "v1", 1)
        assert second.waited - released_after <= found_within
        assert host.reads - reads_before <= reads

    def test_a_lease_that_a_killed_process_has_left_is_noticed_at_the_next_look(
        self, process, simulation, host, source
    ):
        host.is_taken, source.seconds = lambda _group: True, 0
        host.leases.add(PLACE)
        simulation.at(1.0, lambda: host.leases.discard(PLACE))
        waiting = process(host)
        assert (waiting.get(), source.asked) == ("v1", 1)
        assert 1.0 <= waiting.waited <= 1.6

    def test_waiting_processes_do_not_read_in_step(self, process, simulation, host):
        host.leases.add("*")
        slept = []
        for rand in (0.0, 1.0):
            waiting = process(host)
            waiting.refresher._tiers._rand = lambda rand=rand: rand
            waiting.refresher._tiers._sleep = lambda seconds: (slept.append(seconds), simulation.sleep(FOREVER))
            waiting.start()
        assert slept == pytest.approx([0.01, 0.03])


class TestTakeover:
    """Of a refresh whose process is suspended, and keeps its lease."""

    def test_one_of_all_waiting_processes_asks_and_then_no_other_waits(self, process, simulation, host, source, caplog):
        host.leases.add(PLACE)
        processes = [process(host) for _ in range(4)]
        assert {result() for result in [each.start() for each in processes]} == {"v1"}
        assert all(7.5 < each.waited < 10 for each in processes)
        assert caplog.messages == ["the refresh of the thing k seems to be stuck in another process; taking over"]
        assert (host.leases, source.asked) == ({PLACE}, 1)
        assert (process(host).get(), source.asked) == ("v1", 1)

    def test_not_of_one_that_is_still_being_answered(self, process, simulation, host, source):
        def page_by_page(recall):
            for page in range(10):
                recall(f"page {page}", lambda: simulation.sleep(0.85))
            return source.fetch(recall)

        item = source.item(fetch=page_by_page)
        first = process(host).start(item)
        second = process(host)
        assert (second.get(item), first(), source.asked) == ("v1", "v1", 1)
        assert 9 < second.waited < 10

    def test_of_an_entry_that_is_stale_if_error_it_comes_after_a_time_out(self, process, simulation, host, source):
        put(process(host), "old", made_ago=STALE)
        host.leases.add(PLACE)
        assert process(host).get() == "old"
        simulation.pass_(5 + 10 + 1)
        process(host).get()
        simulation.finish()
        assert (process(host).get(), source.asked) == ("v1", 1)

    def test_after_a_failure_it_comes_to_it_as_well(self, process, simulation, host, source):
        """Then no lookup waits, and those behind the lookups find out."""
        source.error = denied()
        alone = process(host)
        alone.get()
        host.leases.add(PLACE)
        source.error = None
        simulation.pass_(5 + 10 + 1)
        process(host).get()
        simulation.finish()
        assert (process(host).get(), source.asked) == ("v2", 2)
