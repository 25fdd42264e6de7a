"""One refresh for all threads of a process, and what a fork leaves of what a process remembers."""

from __future__ import annotations

import contextlib
import os
import threading

import pytest
from msgspec.structs import replace

from redshift_secrets.cache.refresh import Refresher
from redshift_secrets.cache.workers import Deadline, Lookup, MustWait
from redshift_secrets.errors import AwsError
from tests.support.fakes import denied
from tests.support.helpers import (
    BOUND,
    Crowd,
    WatchedDeadline,
    all_refreshes_done,
    in_child,
    lookup,
    waiting,
)
from tests.unit.cache.simulation import EXPIRED, FRESH, entry


class HeldSource:
    """Entries v1, v2, ... that come only when `go_on` is set, which it is at first."""

    def __init__(self, clock) -> None:
        self.clock = clock
        self.asked = 0
        self.error: Exception | None = None
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, _recall):
        self.asked += 1
        value = f"v{self.asked}"
        assert self.go_on.wait(BOUND)
        if self.error is not None:
            raise self.error
        return entry(value, self.clock())


@pytest.fixture
def held(clock):
    held = HeldSource(clock)
    yield held
    held.go_on.set()
    all_refreshes_done()


@pytest.fixture
def item(source, held):
    return source.item(fetch=held)


@pytest.fixture
def refresher(clock):
    return Refresher(clock=clock)


def get(refresher, item, deadline=None):
    return waiting(lambda lookup: refresher.get_one(item, lookup).value, lookup(deadline))


class TestThreads:
    def test_64_threads_without_an_entry_cause_one_refresh(self, refresher, item, held):
        held.go_on.clear()
        deadline = WatchedDeadline()
        crowd = Crowd(64, lambda: get(refresher, item, deadline))
        deadline.await_waiting(64)
        held.go_on.set()
        assert crowd.outcomes() == ["v1"] * 64
        assert held.asked == 1

    def test_64_threads_with_a_stale_entry_cause_one_refresh_and_none_waits(self, refresher, item, held, clock):
        get(refresher, item)
        clock.pass_(FRESH)
        held.go_on.clear()
        deadline = WatchedDeadline()
        # The refresh is held until all 64 have returned, so none of them can have waited for it.
        assert Crowd(64, lambda: get(refresher, item, deadline)).outcomes() == ["v1"] * 64
        assert deadline.waits == 0
        held.go_on.set()
        all_refreshes_done()
        assert (get(refresher, item), held.asked) == ("v2", 2)

    def test_every_thread_gets_an_error_of_its_own(self, refresher, item, held):
        held.go_on.clear()
        held.error = denied()
        deadline = WatchedDeadline()
        crowd = Crowd(8, lambda: get(refresher, item, deadline))
        deadline.await_waiting(8)
        held.go_on.set()
        errors = crowd.outcomes()
        assert {(type(error), str(error)) for error in errors} == {(AwsError, str(denied()))}
        assert len({id(error) for error in errors}) == 8
        assert held.asked == 1

    def test_a_lookup_in_the_middle_of_whatever_a_refresh_does_starts_no_other(self, refresher, item, held):
        """Each time that the refresh has released the lock, a lookup of another thread may come."""
        lock, refreshing = refresher._lock, []

        class Watched:
            locked = staticmethod(lock.locked)

            def __enter__(self):
                lock.acquire()

            def __exit__(self, *_error):
                lock.release()
                if refreshing == [threading.get_ident()]:
                    refreshing.append("with a lookup in between")
                    with contextlib.suppress(MustWait):
                        refresher.get([item], Lookup(Deadline(BOUND)))
                    refreshing.pop()

        def fetch(recall):
            refreshing.append(threading.get_ident())
            return held(recall)

        item = replace(item, fetch=fetch)
        refresher._lock = Watched()
        assert get(refresher, item) == "v1"
        all_refreshes_done()
        assert held.asked == 1


class TestForks:
    def test_a_child_has_the_entries_of_its_parent(self, refresher, item, held):
        get(refresher, item)
        assert in_child(lambda: (get(refresher, item), held.asked)) == ("v1", 1)

    @pytest.mark.parametrize(("age", "answers"), [(FRESH, ["v1", "v2"]), (EXPIRED, ["v2", "v2"])])
    def test_a_child_refreshes_on_its_own(self, refresher, item, held, clock, age, answers):
        get(refresher, item)
        clock.pass_(age)

        def twice():
            first = get(refresher, item)
            all_refreshes_done()
            return [first, get(refresher, item)]

        assert in_child(twice) == answers
        assert held.asked == 1

    @pytest.mark.parametrize(("age", "answer"), [(0, "v1"), (FRESH, "v1"), (EXPIRED, "child")])
    def test_a_refresh_that_runs_at_the_fork_does_not_block_the_child(
        self, refresher, item, held, source, clock, age, answer
    ):
        get(refresher, item)
        clock.pass_(age)
        held.go_on.clear()
        refresher.refresh_behind(item, clock())
        own = source.item(fetch=lambda _recall: entry("child", clock()))
        assert in_child(lambda: get(refresher, own)) == answer
        held.go_on.set()
        all_refreshes_done()
        assert get(refresher, item) == "v2"

    def test_a_lock_held_at_the_fork_does_not_block_the_child_and_what_it_guards_is_forgotten(self, item, held, clock):
        parent, armed, inside, go_on = os.getpid(), [], threading.Event(), threading.Event()

        def blocking_clock():
            if armed and refresher._lock.locked() and os.getpid() == parent:
                inside.set()
                assert go_on.wait(BOUND)
            return clock()

        refresher = Refresher(clock=blocking_clock)
        assert get(refresher, item) == "v1"
        all_refreshes_done()
        armed.append(True)
        crowd = Crowd(1, lambda: get(refresher, item))
        assert inside.wait(BOUND)
        assert in_child(lambda: [get(refresher, item), get(refresher, item), held.asked]) == ["v2", "v2", 2]
        armed.clear()
        go_on.set()
        assert crowd.outcomes() == ["v1"]

    def test_one_that_is_gone_does_not_disturb_a_fork(self, item, clock):
        for _ in range(10):
            Refresher(clock=clock)
        kept = Refresher(clock=clock)
        assert in_child(lambda: get(kept, item)) == "v1"
        assert in_child(lambda: in_child(lambda: get(kept, item))) == "v1"
