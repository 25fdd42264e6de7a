"""What a refresh that was cut has been answered, so that the next one goes on from there."""

from __future__ import annotations

import pytest

from redshift_secrets.cache.recall import Recall, answered_at
from tests.support.fakes import EPOCH, denied
from tests.support.memory_store import tier
from tests.unit.cache.simulation import FOREVER


class Lease:
    renewals = 0

    def renew(self):
        self.renewals += 1

    def release(self):
        raise AssertionError("it is not for the recall to release")


@pytest.fixture
def lease():
    return Lease()


@pytest.fixture
def recall(simulation, host, lease):
    """Makes what a process goes by that refreshes the group `g`, which the store `host` may know of."""

    def make(*stores):
        return Recall([(store, "g", lease) for store in stores or (host,)], simulation.clock, simulation.monotonic)

    return make


@pytest.fixture
def asked():
    return []


@pytest.fixture
def ask(simulation, asked):
    """Asks for pages, each of which takes a second."""

    def ask(recall, *names):
        def answer(name):
            asked.append(name)
            simulation.pass_(1)
            return {"page": name}

        return [recall(name, lambda name=name: answer(name))["page"] for name in names]

    return ask


def test_an_answer_is_asked_for_once(recall, ask, asked):
    assert ask(recall(), "a", "a", "b") == ["a", "a", "b"]
    assert asked == ["a", "b"]


def test_so_is_one_that_was_not_saved(recall):
    first = recall()
    assert first("a", lambda: 1) == 1
    assert first("a", lambda: 1 / 0) == 1


def test_another_process_goes_on_where_one_was_cut(recall, ask, asked):
    ask(recall(), "a", "b")
    assert ask(recall(), "a", "b", "c") == ["a", "b", "c"]
    assert asked == ["a", "b", "c"]


def test_what_takes_less_than_half_a_second_is_not_saved(recall, host, simulation):
    short = recall()
    short("a", lambda: simulation.pass_(0.4))
    assert host.groups == {}
    short("b", lambda: simulation.pass_(0.1))
    assert list(host.groups) == ["g+"]


def test_it_is_saved_so_rarely_that_asking_takes_ten_times_as_long(recall, host, simulation, ask, asked):
    saved, replace = [], host.replace

    def slow(group, rows, expires_at):
        replace(group, rows, expires_at)
        saved.append(asked[-1])
        simulation.pass_(0.25)

    host.replace = slow
    ask(recall(), *"abcdefgh")
    assert saved == ["a", "d", "g"]


def test_the_lease_is_renewed_at_each_save(recall, lease, ask):
    ask(recall(), "a", "b", "c")
    assert lease.renewals == 3


def test_an_answer_is_not_asked_for_again_only_because_it_is_nothing(recall, simulation):
    first = recall()
    first("a", lambda: simulation.pass_(1))
    assert recall()("a", lambda: 1 / 0) is None


def test_an_error_is_not_an_answer(recall, ask, asked):
    def fail():
        raise denied()

    first = recall()
    ask(first, "a")
    with pytest.raises(type(denied())):
        first("b", fail)
    assert ask(recall(), "a", "b") == ["a", "b"]


def test_after_a_success_it_is_forgotten_everywhere(recall, host, fleet, ask, asked):
    first = recall(host, fleet)
    ask(first, "a")
    first.forget()
    assert (host.groups, fleet.groups) == ({}, {})
    ask(recall(host, fleet), "a")
    assert asked == ["a", "a"]


def test_what_another_process_has_saved_is_forgotten_as_well(recall, host, ask):
    ask(recall(), "a")
    second = recall()
    ask(second, "a")
    second.forget()
    assert host.groups == {}


def test_nothing_is_removed_where_nothing_was_saved(recall, host, ask):
    cleared = []
    host.clear = cleared.append
    short = recall()
    short("a", lambda: None)
    short.forget()
    assert cleared == []
    long = recall()
    ask(long, "a")
    long.forget()
    long.forget()
    assert cleared == ["g+"]


def test_an_answer_that_comes_after_it_was_forgotten_is_not_saved(recall, host, ask):
    """A call that nobody waited for any longer may still be answered."""
    first = recall()
    ask(first, "a")
    first.forget()
    assert ask(first, "b") == ["b"]
    assert host.groups == {}


def test_it_begins_with_the_first_answer_of_all_processes(recall, simulation, ask):
    ask(recall(), "a")
    simulation.pass_(100)
    assert (recall().began_at, recall().began_at) == (EPOCH, EPOCH)
    assert Recall([], simulation.clock, simulation.monotonic).began_at == EPOCH + 101


def test_answers_are_used_for_900_seconds(recall, simulation, ask, asked):
    ask(recall(), "a")
    simulation.pass_(800)
    ask(recall(), "a", "b")
    simulation.pass_(97)
    ask(recall(), "a", "b")
    assert asked == ["a", "b"]
    simulation.pass_(1)
    ask(recall(), "a", "b")
    assert asked == ["a", "b", "a", "b"]


@pytest.mark.parametrize("more_in_host", [False, True])
def test_of_several_stores_the_one_with_the_most_answers_counts(recall, host, fleet, ask, asked, more_in_host):
    ask(recall(fleet), *("a" if more_in_host else "ab"))
    ask(recall(host), *("ab" if more_in_host else "a"))
    del asked[:]
    ask(recall(host, fleet), "a", "b")
    assert asked == []


@pytest.mark.parametrize(
    "rows",
    [{}, {"answers": b"x"}, {"answers": b""}, {"began": b"\xff", "answers": b"\xff"}],
    ids=["nothing", "noise", "empty", "more noise"],
)
def test_what_cannot_be_read_is_nothing(recall, host, ask, rows):
    host.replace("g+", rows, EPOCH + 900)
    assert ask(recall(), "a") == ["a"]


class TestAnsweredAt:
    def test_it_is_when_the_last_answer_came(self, recall, host, ask):
        assert answered_at(host, "g") == float("-inf")
        first = recall()
        ask(first, "a", "b")
        assert answered_at(host, "g") == EPOCH + 2
        first.forget()
        assert answered_at(host, "g") == float("-inf")

    def test_what_cannot_be_read_is_never(self, host):
        host.replace("g+", {"saved": b"\xc1"}, EPOCH + 900)
        assert answered_at(host, "g") == float("-inf")


class TestInARefresh:
    """A listing of several pages, each of which takes 2 s; `stuck` are pages that are never answered."""

    @pytest.fixture
    def stuck(self):
        return set()

    @pytest.fixture
    def listing(self, simulation, source, asked, stuck):
        def fetch(recall):
            def page(number):
                asked.append(number)
                simulation.sleep(FOREVER if number in stuck else 2)

            for number in range(6):
                recall(f"page {number}", lambda number=number: page(number))
            return source.fetch(recall)

        return source.item(fetch=fetch)

    def test_after_a_process_was_killed_the_next_one_goes_on(self, process, simulation, host, asked, stuck, listing):
        stuck.add(4)
        process(host).start(listing)
        simulation.pass_(9)
        host.leases.clear()  # it was killed
        stuck.clear()
        assert process(host).get(listing) == "v1"
        assert asked == [0, 1, 2, 3, 4, 4, 5]
        assert list(host.groups) == [tier(host).place("k")]

    @pytest.mark.parametrize("saves_after_it", [False, True])
    def test_after_a_flush_nobody_goes_on_from_before(
        self, process, simulation, host, asked, stuck, listing, saves_after_it
    ):
        stuck.add(4)
        process(host).start(listing)
        for flush in (host.clear, host.mark_flushed):
            simulation.at(5 if saves_after_it else 9, flush)
        simulation.pass_(9)
        assert any(group.endswith("+") for group in host.groups) == saves_after_it
        host.leases.clear()  # it was killed
        stuck.clear()
        asked.clear()
        process(host).get(listing)
        simulation.finish()
        assert asked == list(range(6))

    def test_after_a_failure_it_goes_on_as_well(self, process, simulation, host, source, listing, asked):
        source.error = denied()
        process(host).get(listing)
        simulation.finish()
        simulation.pass_(10)
        source.error = None
        assert process(host).get(listing) == "v2"
        assert asked == list(range(6))

    def test_across_hosts_too(self, process, simulation, host, other_host, fleet, asked, listing):
        process(host, fleet).start(listing)
        simulation.pass_(9)
        fleet.leases.clear()  # that host is gone
        process(other_host, fleet).get(listing)
        assert asked[:6] == [0, 1, 2, 3, 4, 4]

    def test_without_a_store_there_is_nothing_to_go_by(self, process, listing, asked):
        process().get(listing)
        process().get(listing)
        assert len(asked) > 6
