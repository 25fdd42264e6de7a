"""Running processes notice that a store was flushed, soon and at little cost."""

from __future__ import annotations

import pytest

from redshift_secrets.cache.flushes import Flushes
from redshift_secrets.cache.flushes import flush as flush_store
from redshift_secrets.cache.tiers import Tier
from tests.support.fakes import denied
from tests.support.memory_store import tier


def begun(processes):
    """What these processes know of flushes, once each has looked for the first time."""
    processes = list(processes)
    for each in processes:
        each.happened()
        each.note()
    return processes


def flush_before_write(store, then=lambda: None):
    """Have a store flushed right before the next entry of `k` is put there."""
    replace = store.replace

    def flush_and_replace(group, *entry):
        if group == tier(store).place("k"):
            store.replace = replace
            then()
            flush(store)
        replace(group, *entry)

    store.replace = flush_and_replace


@pytest.fixture
def flushes(simulation):
    """Makes what one process knows of flushes of these stores."""

    def make(*stores):
        return Flushes([tier(store) for store in stores], simulation.clock, simulation.monotonic)

    return make


@pytest.fixture
def looks(fleet):
    """The looks for a flush of the fleet store, each of which is a round trip."""
    looks, flush_mark = [], fleet.flush_mark

    def look():
        looks.append(1)
        return flush_mark()

    fleet.flush_mark = look
    return looks


def flush_in_steps(store, before=lambda: None, after=lambda: None):
    """Flush a store, with calls right before and right after something is removed from it."""
    clear = store.clear

    def clear_in_steps(group=None):
        store.clear = clear
        before()
        clear(group)
        after()

    store.clear = clear_in_steps
    flush(store)


def flush(*stores):
    for store in stores:
        assert flush_store(store) is None


def test_without_a_store_there_is_none(flushes):
    assert not flushes().happened()


def test_one_is_noticed_once_at_the_first_look_5_seconds_later(flushes, simulation, host):
    here = flushes(host)
    here.happened()
    flush(host)
    simulation.pass_(4.9)
    assert not here.happened()
    simulation.pass_(0.1)
    assert [here.happened(), here.happened()] == [True, False]
    simulation.pass_(5)
    assert not here.happened()


def test_every_process_notices_it(flushes, simulation, host):
    processes = [flushes(host) for _ in range(3)]
    for each in processes:
        each.happened()
    flush(host)
    simulation.pass_(5)
    assert all(each.happened() for each in processes)


def test_at_its_first_look_a_process_forgets_what_it_may_remember_from_before_a_flush(flushes, host):
    flush(host)
    assert flushes(host).happened()


def test_a_process_with_the_fleet_store_alone_does_not_look_at_its_first_lookups(flushes, simulation, fleet, looks):
    alone = flushes(fleet)
    assert not alone.happened()
    flush(fleet)
    simulation.pass_(4.9)
    assert (alone.happened(), looks) == (False, [])
    simulation.pass_(0.1)
    assert (alone.happened(), looks) == (True, [1])


class TestFleet:
    """On a host with a store of its own, one process looks for all of them."""

    @pytest.fixture
    def processes(self, flushes, host, fleet, looks):
        """Ten processes of a host where nothing was flushed until now."""
        processes = [flushes(host, fleet) for _ in range(10)]
        for each in processes:
            each.happened()
        assert looks == [], "there is nothing to forget"
        for each in processes:
            each.note()
        assert looks == [1]
        looks.clear()
        return processes

    @pytest.mark.usefixtures("processes")
    def test_new_processes_of_a_host_look_once_in_5_seconds(self, flushes, simulation, host, fleet, looks):
        for _ in range(10):
            flushes(host, fleet).happened()
        assert looks == []
        simulation.pass_(5)
        for _ in range(10):
            flushes(host, fleet).happened()
        assert looks == [1]

    def test_a_flush_of_the_fleet_empties_the_host_store_and_is_noticed_by_all(
        self, simulation, host, fleet, looks, processes
    ):
        host.replace("g", {"n": b"row"}, simulation.clock() + 1000)
        flush(fleet)
        simulation.pass_(5)
        assert [each.happened() for each in processes] == [True] * 10
        assert ("g" in host.groups, looks) == (False, [1])
        simulation.pass_(5)
        assert [each.happened() for each in processes] == [False] * 10

    @pytest.mark.parametrize("is_readable", [True, False], ids=["full", "unusable"])
    def test_on_a_host_whose_store_takes_no_note_each_process_notices_it(
        self, flushes, simulation, host, fleet, is_readable
    ):
        host.replace("g", {"n": b"row"}, simulation.clock() + 1000)
        host.is_full = True
        if not is_readable:
            host.read, host.flush_mark, host.clear = (
                lambda _wanted: {},
                lambda: None,
                lambda group=None: "it is read-only",
            )
        processes = begun(flushes(host, fleet) for _ in range(3))
        for _ in range(2):
            flush(fleet)
            simulation.pass_(5)
            assert [each.happened() for each in processes] == [True] * 3
            assert ("g" in host.groups) == (not is_readable)
            simulation.pass_(5)
            for each in processes:
                each.happened()  # they empty the host's store one after another
            simulation.pass_(5)
            assert [each.happened() for each in processes] == [False] * 3

    def test_each_flush_is_noticed_on_each_host(self, flushes, simulation, host, other_host, fleet):
        hosts = begun(flushes(store, fleet) for store in (host, other_host))
        for _ in range(3):
            flush(fleet)
            simulation.pass_(5)
            assert [each.happened() for each in hosts] == [True, True]

    def test_a_fleet_store_that_does_not_answer_was_not_flushed(self, simulation, host, fleet, processes):
        flush(fleet)
        simulation.pass_(5)
        for each in processes:
            each.happened()
        host.replace("g", {"n": b"row"}, simulation.clock() + 1000)
        flush_mark, fleet.flush_mark = fleet.flush_mark, lambda: None
        simulation.pass_(5)
        assert not processes[0].happened()
        fleet.flush_mark = flush_mark
        simulation.pass_(5)
        assert not processes[0].happened()
        assert "g" in host.groups

    @pytest.mark.attempt("put an older entry back into Redis")
    def test_an_older_mark_that_somebody_puts_back_is_none(self, simulation, host, fleet, processes):
        flush(fleet)
        older = fleet.flush_mark()
        flush(fleet)
        simulation.pass_(5)
        assert processes[0].happened()
        host.replace("g", {"n": b"row"}, simulation.clock() + 1000)
        fleet.flush_mark = lambda: older
        simulation.pass_(5)
        assert not processes[0].happened()
        assert "g" in host.groups

    def test_on_a_host_that_is_new_one_from_before_is_none(self, flushes, simulation, host, fleet):
        flush(fleet)
        here = flushes(host, fleet)
        here.happened()
        here.note()
        host.replace("g", {"n": b"row"}, simulation.clock() + 1000)
        simulation.pass_(5)
        assert not here.happened()
        assert "g" in host.groups

    @pytest.mark.parametrize("row", [b"", b"\xff", b"\x93\x01\x02\x03"])
    def test_a_note_that_cannot_be_read_is_none(self, simulation, host, fleet, processes, row):
        host.replace(tier(host).place("newest flush mark of the fleet"), {"mark": row}, simulation.clock() + 1000)
        simulation.pass_(5)
        assert not processes[0].happened()
        flush(fleet)
        simulation.pass_(5)
        assert processes[0].happened()

    def test_while_the_caller_is_not_known_nobody_looks(self, simulation, host, fleet, looks):
        known = []
        unknown = Tier(host, lambda: known[0], lambda: bool(known))
        here = Flushes([unknown, tier(fleet)], simulation.clock, simulation.monotonic)
        here.happened()
        here.note()
        assert looks == []
        known.append("caller")
        simulation.pass_(5)
        here.happened()
        assert looks == [1]

    def test_where_the_clock_was_set_back_it_is_looked_for_all_the_same(self, simulation, fleet, processes, looks):
        flush(fleet)
        simulation.jump(-10_000)
        simulation.pass_(5)
        processes[0].happened()
        assert looks == [1]


class TestInTheMiddleOfARefresh:
    """Which has asked AWS before the flush, and would put what it was answered into the stores after it."""

    @pytest.mark.parametrize("across_hosts", [False, True])
    def test_aws_is_asked_again(self, process, simulation, source, host, other_host, fleet, across_hosts):
        stores = (host, fleet) if across_hosts else (host,)
        waiting = process(*stores).start()
        simulation.pass_(0.5)
        flush(*reversed(stores))
        assert (waiting(), source.asked) == ("v2", 2)
        others = process(*stores), process(other_host, fleet) if across_hosts else process(host)
        assert ([each.get() for each in others], source.asked) == (["v2", "v2"], 2)

    def test_so_it_is_on_another_host_where_nobody_has_noticed_yet(self, process, simulation, source, host, fleet):
        waiting = process(host, fleet).start()
        simulation.pass_(0.5)
        flush(fleet)
        assert (waiting(), process(host).get(), source.asked) == ("v2", "v2", 2)

    def test_of_flushes_that_never_end_it_does_not_wait_for_the_last(self, process, simulation, source, host):
        for number in range(100):
            simulation.at(number / 10, host.mark_flushed)
        assert (process(host).get(), source.asked) == ("v2", 2)
        assert tier(host).place("k") not in host.groups

    def test_one_between_its_last_look_and_its_write(self, process, source, host):
        flush_before_write(host)
        assert (process(host).get(), source.asked) == ("v2", 2)
        assert (process(host).get(), source.asked) == ("v2", 2)

    def test_nobody_finds_the_answer_of_before_for_a_moment(self, process, simulation, host, monkeypatch):
        written, replace = [], host.replace
        monkeypatch.setattr(
            host, "replace", lambda group, rows, until: written.append(rows) or replace(group, rows, until)
        )
        waiting = process(host).start()
        simulation.pass_(0.5)
        flush(host)
        assert (waiting(), [row[-2:] for rows in written for row in rows.values()]) == ("v2", [b"v2"])

    def test_one_that_it_ends_in(self, process, simulation, source, host):
        waiting = process(host).start()
        simulation.pass_(0.5)
        found = []
        flush_in_steps(host, after=lambda: found.append((waiting(), source.asked)))
        assert found == [("v2", 2)]

    def test_what_is_read_from_the_store_in_one_is_forgotten_after_it(self, process, simulation, source, host):
        process(host).get()
        running = process(host)
        found = []
        flush_in_steps(host, before=lambda: found.append((running.refresher.forget_if_flushed(), running.get())))
        assert found == [(True, "v1")]
        assert process(host).get() == "v2"
        simulation.pass_(5)
        assert (running.refresher.forget_if_flushed(), running.get(), source.asked) == (True, "v2", 2)

    def test_where_aws_then_fails_nothing_of_before_is_left(self, process, simulation, source, host):
        flush_before_write(host, lambda: setattr(source, "error", denied()))
        process(host).get()
        assert tier(host).place("k") not in host.groups

    def test_what_is_copied_from_the_fleet_is_not_put_back(self, process, source, host, other_host, fleet):
        process(other_host, fleet).get()
        flush_before_write(host, lambda: flush(fleet))
        process(host, fleet).get()
        assert tier(host).place("k") not in host.groups
        assert (process(host, fleet).get(), source.asked) == ("v2", 2)

    def test_what_failed_before_it_is_tried_again(self, process, simulation, source, host, monkeypatch):
        def fetch(recall):
            error, found = (denied() if source.asked == 0 else None), source.fetch(recall)
            if error is not None:
                raise error
            return found

        waiting = process(host).start(source.item(fetch=fetch))
        simulation.pass_(0.5)
        flush(host)
        assert (waiting(), source.asked) == ("v2", 2)
        assert [*host.groups] == [tier(host).place("k")], "no failure is left"

    def test_where_it_fails_again_it_fails_for_the_first_time(self, process, simulation, source, host):
        source.error = denied()
        for _ in range(3):
            process(host).get()
            simulation.pass_(60)
        waiting = process(host).start()
        simulation.pass_(0.5)
        flush(host)
        waiting()
        simulation.pass_(5)
        source.error = None
        assert process(host).get() == "v6"

    def test_what_a_process_has_read_before_it_is_not_remembered_after_it(
        self, process, simulation, source, host, other_host, fleet
    ):
        process(other_host, fleet).get()
        running, noticed = process(host, fleet), []
        running.refresher.forget_if_flushed()

        def flush_and_notice():
            flush(host, fleet)
            simulation.elapsed += 5
            noticed.append(running.refresher.forget_if_flushed())

        flush_before_write(host, flush_and_notice)
        assert (running.get(), noticed) == ("v1", [True])
        assert (running.get(), source.asked) == ("v2", 2)

    def test_of_a_store_that_cannot_be_written_to_nothing_is_said_to_be_gone(self, host, monkeypatch):
        marks, tried = [], []
        monkeypatch.setattr(host, "mark_flushed", lambda: marks.append(1))
        monkeypatch.setattr(host, "clear", lambda group=None: tried.append(group) or "it is read-only")
        assert flush_store(host, ["g", "h"]) == "it is read-only"
        assert (tried, marks) == (["g"], [1, 1])

    def test_where_processes_cannot_be_told_that_is_said(self, host, monkeypatch):
        host.replace("g", {"n": b"row"}, 10**12)
        monkeypatch.setattr(host, "mark_flushed", lambda: "no space left")
        assert (flush_store(host, ["g"]), host.groups) == ("no space left", {})

    def test_one_before_it_has_nothing_asked_again(self, process, simulation, source, host):
        host.mark_flushed()
        assert (process(host).get(), source.asked) == ("v1", 1)
