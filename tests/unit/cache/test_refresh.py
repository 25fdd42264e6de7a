"""A lookup in one process: what it takes from memory or the nearest store, and when it waits for a refresh."""

from __future__ import annotations

import pytest

from redshift_secrets.cache.entry import Entry
from redshift_secrets.cache.workers import Deadline, Lookup
from redshift_secrets.errors import AwsError, DeadlineError, TooManyWaitingError
from tests.support.fakes import denied
from tests.unit.cache.simulation import EXPIRED, FOREVER, FRESH, STALE, put


class TestAges:
    """Of what this process remembers; those of what a store has are in `test_states`."""

    @pytest.mark.parametrize("age", [0, FRESH - 2])
    def test_a_fresh_entry_is_returned(self, process, simulation, source, age):
        alone = process()
        assert (alone.get(), alone.waited, alone.tier) == ("v1", 1, "aws")
        simulation.pass_(age)
        assert (alone.get(), alone.waited, alone.tier) == ("v1", 0, "process")
        simulation.finish()
        assert source.asked == 1

    @pytest.mark.parametrize("age", [FRESH, STALE - 2])
    def test_stale_while_revalidating_it_is_returned_and_refreshed_behind_the_lookups(
        self, process, simulation, source, age
    ):
        alone = process()
        alone.get()
        simulation.pass_(age)
        assert [(alone.get(), alone.waited) for _ in range(3)] == [("v1", 0)] * 3
        simulation.finish()
        assert (alone.get(), source.asked) == ("v2", 2)

    @pytest.mark.parametrize("age", [STALE, EXPIRED - 10])
    def test_stale_if_error_a_lookup_waits_for_a_new_one(self, process, simulation, age):
        alone = process()
        alone.get()
        simulation.pass_(age)
        assert (alone.get(), alone.waited) == ("v2", 1)
        assert (alone.get(), alone.waited) == ("v2", 0)

    def test_an_expired_one_is_never_returned(self, process, simulation, source):
        alone = process()
        alone.get()
        simulation.pass_(EXPIRED)
        source.error = denied()
        assert isinstance(alone.get(), AwsError)

    def test_an_answer_that_has_expired_is_returned_to_the_lookup_that_it_was_made_for(self, process, source):
        def outdated(recall):
            entry = source.fetch(recall)
            return entry.shifted(-EXPIRED)

        alone, item = process(), source.item(fetch=outdated)
        assert [alone.get(item), alone.get(item)] == ["v1", "v2"]

    def test_items_do_not_share_entries(self, process, source):
        alone = process()
        a, b = source.item("a"), source.item("b")
        assert [alone.get(a), alone.get(b), alone.get(a)] == ["v1", "v2", "v1"]

    def test_the_least_recently_used_entry_is_forgotten_first(self, process, source, monkeypatch):
        monkeypatch.setattr("redshift_secrets.cache.refresh._MAX_ENTRIES", 2)
        alone = process()
        for name in ("a", "b", "a", "c"):
            alone.get(source.item(name))
        assert [alone.refresher.cached(source.item(name)) is not None for name in "abc"] == [True, False, True]

    @pytest.mark.parametrize("shared", [False, True])
    def test_ages_hold_as_this_process_sees_them(self, process, source, simulation, host, shared):
        """Airflow may keep an answer, so that here an entry is stale, and expires, sooner than for other processes."""

        def here(entry):
            return Entry(entry.value, entry.made_at, entry.made_at + 10, entry.made_at + 10, entry.made_at + 20)

        process(host).get()
        each, item = process(*[host] if shared else []), source.item(here=here)
        each.get(item)
        simulation.pass_(10)
        source.error = denied()
        assert (each.get(item), each.waited) == ("v1" if shared else "v2", 1)
        simulation.pass_(10)
        assert isinstance(each.get(item), AwsError)


class TestSince:
    def test_an_entry_made_before_is_refreshed_first(self, process, simulation):
        alone = process()
        alone.get()
        simulation.pass_(30)
        assert (alone.get(since=simulation.clock() - 40), alone.waited) == ("v1", 0)
        assert (alone.get(since=simulation.clock() - 10), alone.waited) == ("v2", 1)

    @pytest.mark.parametrize("error", [denied(), None], ids=["failing", "silent"])
    def test_it_is_returned_where_the_refresh_fails(self, process, simulation, source, error):
        alone = process()
        alone.get()
        source.error, source.seconds = error, 1 if error else FOREVER
        simulation.pass_(30)
        for waited in (1 if error else 5, 0):
            assert (alone.get(since=simulation.clock() - 10), alone.waited) == ("v1", waited)

    def test_behind_the_lookups_it_is_refreshed_and_nobody_waits(self, process, simulation, source):
        alone = process()
        alone.get()
        simulation.pass_(10)
        alone.refresher.refresh_behind(source.item(), simulation.clock())
        assert alone.get() == "v1"
        simulation.finish()
        assert alone.get() == "v2"

    def test_behind_the_lookups_a_store_with_an_entry_made_since_has_it(self, process, host, simulation, source):
        one, other = process(host), process(host)
        one.get()
        other.refresher.refresh_behind(source.item(), simulation.clock() - 5)
        simulation.finish()
        assert source.asked == 1


class TestWaiting:
    def test_lookups_of_one_process_wait_for_one_refresh(self, process, source):
        alone = process()
        assert [result() for result in [alone.start() for _ in range(8)]] == ["v1"] * 8
        assert source.asked == 1

    def test_a_refresh_of_one_item_does_not_delay_another(self, process, source, simulation):
        alone = process()
        slow = alone.start(source.item("slow", fetch=lambda _recall: simulation.sleep(FOREVER)))
        assert (alone.get(), alone.waited) == ("v1", 1)
        assert isinstance(slow(), DeadlineError)

    def test_several_items_are_refreshed_at_once(self, process, source):
        alone = process()
        items = [source.item(name) for name in "abc"]
        assert (sorted(alone.get(*items)), alone.waited) == (["v1", "v2", "v3"], 1)

    def test_of_several_items_one_that_fails_leaves_the_others(self, process, source):
        def fail(_recall):
            raise denied()

        first, second = process().get(source.item("a", fetch=fail), source.item("b"))
        assert (str(first), second) == (str(denied()), "v1")

    def test_a_lookup_in_a_hurry_takes_what_is_stale_and_has_it_refreshed(self, process, simulation):
        alone, hurry = process(), TooManyWaitingError(8)
        alone.get()
        simulation.pass_(STALE)
        assert (alone.get(hurry=hurry), alone.waited) == ("v1", 0)
        simulation.finish()
        assert alone.get(hurry=hurry) == "v2"

    def test_a_lookup_in_a_hurry_gets_its_error_where_there_is_nothing(self, process, simulation, source):
        alone, hurry = process(), TooManyWaitingError(8)
        assert (alone.get(hurry=hurry), alone.waited) == (hurry, 0)
        simulation.finish()
        assert (source.asked, alone.get()) == (0, "v1")


class TestClocks:
    def test_one_that_is_set_back_does_not_prolong_an_entry(self, process, simulation):
        alone = process()
        alone.get()
        simulation.jump(-10_000)
        simulation.pass_(FRESH - 2)
        assert alone.get() == "v1"
        simulation.pass_(EXPIRED)
        assert (alone.get(), alone.waited) == ("v2", 1)

    def test_one_that_is_set_back_does_not_prolong_the_pause_after_a_failure(self, process, simulation, source):
        alone, source.error = process(), denied()
        alone.get()
        simulation.jump(-10_000)
        simulation.pass_(4)
        assert isinstance(alone.get(), AwsError)
        assert source.asked == 1
        source.error = None
        simulation.pass_(2)
        assert alone.get() == "v2"

    def test_one_that_is_kept_in_step_changes_nothing(self, process, simulation, source):
        alone = process()
        alone.get()
        for _ in range(10):
            simulation.jump(-0.5)
        assert (alone.get(), source.asked) == ("v1", 1)

    def test_one_that_is_set_ahead_ends_an_entry_early(self, process, simulation):
        alone = process()
        alone.get()
        simulation.jump(EXPIRED)
        assert (alone.get(), alone.waited) == ("v2", 1)


class TestOtherWays:
    """To look without asking AWS, and to store without having asked."""

    def test_cached_is_what_memory_or_the_nearest_store_has(self, process, host, fleet, source):
        one, other = process(host, fleet), process(host, fleet)
        assert one.refresher.cached(source.item()) is None
        put(process(fleet), "far")
        assert one.refresher.cached(source.item()) is None
        put(process(host), "near")
        assert other.refresher.cached(source.item()).value == "near"
        assert source.asked == 0

    def test_peek_asks_all_stores(self, process, host, fleet, simulation, source):
        one, lookup = process(host, fleet), Lookup(Deadline(10, simulation.monotonic))
        assert one.refresher.peek(source.item(), lookup) is None
        put(process(fleet), "far")
        assert one.refresher.peek(source.item(), lookup).value == "far"
        put(process(host), "stale", made_ago=FRESH)
        assert one.refresher.peek(source.item(), lookup).value == "far"
        put(one, "here")
        host.reads = fleet.reads = 0
        assert one.refresher.peek(source.item(), lookup).value == "here"
        assert (host.reads, fleet.reads) == (0, 0)

    def test_what_is_put_is_found_by_every_process(self, process, host, fleet, source):
        one, alone = process(host, fleet), process()
        for each in (one, alone):
            put(each, "put")
        assert [each.get() for each in (one, process(host), process(fleet), alone)] == ["put"] * 4
        assert source.asked == 0

    @pytest.mark.parametrize("across_hosts", [False, True])
    def test_after_a_flush_memory_is_empty(self, process, host, fleet, simulation, source, across_hosts):
        store = fleet if across_hosts else host
        one = process(store)
        one.refresher.forget_if_flushed()
        one.get()
        assert not one.refresher.forget_if_flushed()
        store.clear()
        store.mark_flushed()
        assert (one.refresher.forget_if_flushed(), one.get()) == (False, "v1")
        simulation.pass_(5)
        assert one.refresher.forget_if_flushed()
        assert (one.get(), source.asked) == ("v2", 2)

    def test_a_flush_of_the_fleet_right_after_a_host_has_begun_reaches_it(self, process, host, fleet, simulation):
        one = process(host, fleet)
        one.refresher.forget_if_flushed()
        assert one.get() == "v1"
        fleet.clear()
        fleet.mark_flushed()
        simulation.pass_(5)
        assert one.refresher.forget_if_flushed()
        assert (one.get(), process(host).get()) == ("v2", "v2")
