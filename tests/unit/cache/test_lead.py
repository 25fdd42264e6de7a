"""Of many processes that start together, one does all that they wait for, so that one alone loads the clients it takes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.support.fakes import denied
from tests.support.memory_store import MemoryStore, tier
from tests.unit.cache.simulation import FRESH, put


class Asked(list):
    """Which process has asked for which item, in this order."""

    def __init__(self, source):
        self._source = source

    def item(self, number, name):
        """Return the item as one process looks it up."""

        def fetch(recall):
            self.append((number, name))
            return self._source.fetch(recall)

        return self._source.item(name, fetch=fetch)


@pytest.fixture
def asked(source):
    return Asked(source)


def test_one_process_refreshes_all_that_they_look_up_at_once(process, host, asked):
    waiting = [process(host).start(*(asked.item(number, name) for name in "abc")) for number in range(5)]
    assert [sorted(get()) for get in waiting] == [["v1", "v2", "v3"]] * 5
    assert sorted(asked) == [(0, "a"), (0, "b"), (0, "c")]


def test_it_refreshes_them_at_the_same_time(process, host, asked):
    alone = process(host)
    alone.get(*(asked.item(0, name) for name in "abc"))
    assert alone.waited == 1


def test_the_others_read_at_once_what_it_has_found(process, host, asked, simulation):
    leading = process(host).start(*(asked.item(0, name) for name in "abcdefgh"))
    waiting, threads = process(host), []
    waiting.refresher._workers = SimpleNamespace(submit=lambda run: (threads.append(run), simulation.submit(run)))
    assert sorted(waiting.get(*(asked.item(1, name) for name in "abcdefgh"))) == sorted(leading())
    assert [len(asked), len(threads)] == [8, 1]


def test_what_other_hosts_have_found_is_copied_at_the_same_time(process, host, fleet, asked, simulation):
    def slow_read(wanted, read=fleet.read):
        simulation.sleep(0.1)
        return read(wanted)

    process(host, fleet).get(*(asked.item(0, name) for name in "abcdefgh"))
    fleet.read = slow_read
    new = process(MemoryStore(simulation.clock), fleet)
    assert len(new.get(*(asked.item(1, name) for name in "abcdefgh"))) == len(asked) == 8
    assert new.waited < 8 * 0.1


def test_a_failure_that_one_has_found_is_that_of_the_others(process, host, asked, source):
    source.error = denied()
    leading = process(host).start(*(asked.item(0, name) for name in "abc"))
    waiting = process(host).start(*(asked.item(1, name) for name in "abc"))
    assert [[type(error) for error in get()] for get in (leading, waiting)] == [[type(source.error)] * 3] * 2
    assert sorted(asked) == [(0, "a"), (0, "b"), (0, "c")]


def test_it_refreshes_what_they_need_next_as_well(process, host, asked):
    crowd = [process(host) for _ in range(5)]
    for get in [each.start(asked.item(number, "listing")) for number, each in enumerate(crowd)]:
        get()
    waiting = [crowd[number].start(asked.item(number, "credential")) for number in (4, 3, 2, 1, 0)]
    assert [get() for get in waiting] == ["v2"] * 5
    assert asked == [(0, "listing"), (0, "credential")]


def test_where_it_does_not_another_one_soon_does(process, host, asked):
    crowd = [process(host) for _ in range(2)]
    for get in [each.start(asked.item(number, "listing")) for number, each in enumerate(crowd)]:
        get()
    assert crowd[1].get(asked.item(1, "credential")) == "v2"
    assert crowd[1].waited <= 2
    assert crowd[1].get(asked.item(1, "another")) == "v3"
    assert crowd[1].waited == 1, "it leads now"


def test_it_soon_does_so_after_a_failure_too(process, host, asked, source, simulation):
    get, waiting = process(host).start(asked.item("leading", "a")), process(host)
    source.error = denied()
    assert waiting.get(asked.item("waiting", "a")) is not get()
    simulation.pass_(6)
    source.error = None
    assert waiting.get(asked.item("waiting", "a")) == "v2"


def test_a_lookup_with_little_time_gives_little_of_it(process, host, asked):
    crowd = [process(host) for _ in range(2)]
    for get in [each.start(asked.item(number, "listing")) for number, each in enumerate(crowd)]:
        get()
    assert crowd[1].get(asked.item(1, "credential"), seconds=1.4) == "v2"


def test_where_it_asks_for_one_thing_alone_another_one_asks_for_the_rest(process, host, asked):
    first = process(host).start(asked.item("first", "a"))
    second = process(host).start(asked.item("second", "a"), asked.item("second", "b"))
    assert [first(), second()] == ["v1", ["v1", "v2"]]
    assert asked == [("first", "a"), ("second", "b")]


def test_where_it_is_killed_another_one_does_it_all(process, host, asked, simulation):
    place = tier(host).place("a")
    host.leases.add(place)
    simulation.at(2, lambda: host.leases.discard(place))
    crowd = [process(host) for _ in range(3)]
    waiting = [each.start(asked.item(number, "a"), asked.item(number, "b")) for number, each in enumerate(crowd)]
    assert [sorted(get()) for get in waiting] == [["v1", "v2"]] * 3
    assert [len(asked), len({number for number, _ in asked})] == [2, 1]
    assert max(each.waited for each in crowd) < 5


def test_behind_the_lookups_a_process_that_has_only_waited_refreshes_as_well(process, host, asked, simulation):
    get, waiting = process(host).start(asked.item("leading", "a")), process(host)
    assert [waiting.get(asked.item("waiting", "a")), get()] == ["v1", "v1"]
    put(waiting, "old", made_ago=FRESH)
    assert waiting.get(asked.item("waiting", "k")) == "old"
    simulation.finish()
    assert asked[-1] == ("waiting", "k")
