"""An entry that somebody puts back into a store, sealed as it was, where a newer one has been seen."""

from __future__ import annotations

import pytest

from tests.support.fakes import denied
from tests.support.memory_store import tier
from tests.unit.cache.simulation import EXPIRED, FOREVER, FRESH, STALE, entry, put


@pytest.fixture
def put_back(process, source):
    """Puts the group of an older entry back into a store, as whoever can write to it may: it needs no key."""

    def put_back(store, older, newer):
        put(process(store), *older)
        group = tier(store).place("k")
        kept = store.groups[group]
        put(process(store), *newer)
        return lambda: store.groups.__setitem__(group, kept)

    return put_back


@pytest.mark.attempt("put an older entry back into Redis")
class TestInTheFleet:
    def test_the_host_store_has_seen_the_newer_one(self, process, simulation, host, fleet, source, put_back):
        restore = put_back(fleet, ("older", FRESH - 60), ("newer", FRESH - 50))
        assert process(host, fleet).get() == "newer"
        restore()
        simulation.pass_(70)  # the newer one is stale, and the older one would still be returned without a wait
        assert process(host, fleet).get() == "newer"
        simulation.finish()
        assert [source.asked, process(host, fleet).get(), process(fleet).get()] == [1, "v1", "v1"]

    @pytest.mark.parametrize("kept", [True, False])
    def test_this_process_has_seen_the_newer_one(self, process, fleet, source, put_back, kept):
        """Also where it keeps nothing of it, but reads the store each time."""
        restore = put_back(fleet, ("older", 60), ("newer", 50))
        item = source.item(kept=kept)
        reading = process(fleet)
        assert reading.get(item) == "newer"
        restore()
        assert reading.get(item) in ("newer", "v1")
        assert reading.refresher.peek(item, None).value != "older"

    def test_this_process_has_seen_the_newer_one_before_a_flush(self, process, fleet, source, simulation, put_back):
        restore = put_back(fleet, ("older", 60), ("newer", 50))
        reading = process(fleet)
        assert reading.get(source.item(kept=False)) == "newer"
        fleet.clear()
        fleet.mark_flushed()
        restore()
        simulation.pass_(5)
        assert reading.refresher.forget_if_flushed()
        assert reading.get(source.item(kept=False)) == "v1"

    def test_it_has_seen_it_in_a_refresh(self, process, fleet, source, simulation, put_back):
        restore = put_back(fleet, ("older", FRESH - 10), ("newer", EXPIRED))
        item = source.item(kept=False)
        asking = process(fleet)
        assert asking.get(item) == "v1"
        restore()
        assert asking.get(item) == "v1"

    def test_after_the_clock_was_set_back_what_was_seen_before_does_not_count(self, process, fleet, simulation, source):
        simulation.jump(5_000)
        put(process(fleet), "ahead")
        reading = process(fleet)
        assert reading.get(source.item(kept=False)) == "ahead"
        simulation.jump(-5_000)
        put(process(fleet), "now")
        assert (reading.get(source.item(kept=False)), source.asked) == ("now", 0)

    def test_the_same_one_is_no_older_one(self, process, host, fleet, source):
        put(process(fleet), "same")
        asking = process(host, fleet)
        assert asking.get(source.item(kept=False)) == "same"
        host.clear()
        assert (asking.get(source.item(kept=False)), source.asked) == ("same", 0)

    def test_rows_of_two_entries_carry_none(self, process, fleet, source):
        item = source.item(
            encode=lambda value: {"one": value.encode(), "two": value.encode()},
            decode=lambda rows: b" ".join(rows.values()).decode() or None,
            rows=("one", "two"),
            all_rows=("one", "two"),
        )
        writing = process(fleet)
        group = tier(fleet).place("k")
        for value, ago in (("older", 60), ("newer", 50)):
            writing.refresher.put(item, entry(value, writing.simulation.clock() - ago))
            if value == "older":
                older = dict(fleet.groups[group][0])
        fleet.groups[group][0]["two"] = older["two"]
        assert process(fleet).get(item) == "v1"

    def test_one_that_comes_while_the_other_is_copied_does_not_reach_the_host(self, process, host, fleet, put_back):
        restore = put_back(fleet, ("older", 60), ("newer", 50))
        read = fleet.read

        def read_and_restore(wanted):
            found = read(wanted)
            restore()
            return found

        fleet.read = read_and_restore
        assert process(host, fleet).get() == "newer"
        assert process(host).refresher.cached(process().source.item()) is None


class TestStaleInTheFleet:
    """On a host that has nothing, an entry of the fleet is all there is when AWS does not answer."""

    @pytest.mark.parametrize("aws", ["fails", "is silent"])
    def test_it_is_returned_and_to_everyone_else_at_once(self, process, host, fleet, source, aws):
        put(process(fleet), "stale", made_ago=STALE + 10)
        source.seconds, source.error = (1.0, denied()) if aws == "fails" else (FOREVER, None)
        first = process(host, fleet)
        assert first.get() == "stale"
        second = process(host, fleet)
        assert (second.get(), second.waited) == ("stale", 0)

    def test_where_aws_answers_its_answer_is_returned(self, process, host, fleet, source):
        put(process(fleet), "stale", made_ago=STALE + 10)
        assert process(host, fleet).get() == "v1"
