"""Many calls in a few threads, up to a deadline."""

from __future__ import annotations

import functools
import threading

import pytest

from redshift_secrets.cache import Deadline
from redshift_secrets.lookup.parallel import run_all
from tests.support.fakes import Clock
from tests.support.helpers import BOUND, WatchedDeadline, all_refreshes_done, package_threads, past_deadline


def returning(*values):
    return [functools.partial(lambda value: value, value) for value in values]


def raising(error):
    def call():
        raise error

    return call


@pytest.mark.parametrize("threads", [1, 3, 16])
def test_results_come_in_the_order_of_the_calls(threads):
    assert run_all(returning(*range(10)), threads=threads, deadline=WatchedDeadline()) == list(range(10))


def test_no_calls_start_no_thread_and_have_no_results():
    deadline = WatchedDeadline()
    assert run_all([], threads=4, deadline=deadline) == []
    assert deadline.waits == 0


def test_a_call_that_raises_does_not_affect_the_others():
    error = ValueError("no")
    first, second, third = run_all(
        [*returning("a"), raising(error), *returning("c")], threads=2, deadline=WatchedDeadline()
    )
    assert (first, second, third) == ("a", error, "c")


@pytest.mark.parametrize(("calls", "threads", "started"), [(6, 2, 2), (2, 16, 2), (1, 1, 1)])
def test_no_more_threads_are_started_than_allowed_or_needed(monkeypatch, calls, threads, started):
    starts, start = [], threading.Thread.start

    def counted(thread):
        starts.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", counted)
    assert run_all(returning(*range(calls)), threads=threads, deadline=WatchedDeadline()) == list(range(calls))
    assert len(starts) == started


def test_as_many_calls_run_at_once_as_there_are_threads():
    pairs, lock = threading.Barrier(2), threading.Lock()
    running = most = 0

    def call():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        pairs.wait(BOUND)  # passes only when two are here
        with lock:
            running -= 1
        pairs.wait(BOUND)
        return "done"

    assert run_all([call] * 6, threads=2, deadline=WatchedDeadline()) == ["done"] * 6
    assert most == 2


class TestDeadline:
    def test_results_that_are_late_are_none_and_the_others_are_returned(self):
        monotonic, held, release = Clock(0), threading.Event(), threading.Event()

        def slow():
            held.set()
            assert release.wait(BOUND)
            return "late"

        def quick():
            assert held.wait(BOUND)
            monotonic.pass_(10)
            return "in time"

        results = run_all([slow, quick], threads=2, deadline=Deadline(10, monotonic))
        assert results == [None, "in time"]
        assert {thread.daemon for thread in package_threads()} == {True}, "a thread would keep the process from exiting"
        release.set()
        all_refreshes_done()
        assert results == [None, "in time"], "a late result must not change what was returned"

    def test_a_call_that_has_not_begun_at_the_deadline_never_begins(self):
        monotonic, begun = Clock(0), []

        def first():
            begun.append("first")
            monotonic.pass_(10)

        def second():
            begun.append("second")

        run_all([first, second], threads=1, deadline=Deadline(10, monotonic))
        all_refreshes_done()
        assert begun == ["first"]

    def test_no_call_begins_after_the_deadline(self):
        begun = []
        assert run_all([lambda: begun.append(1)] * 3, threads=2, deadline=past_deadline()) == [None] * 3
        all_refreshes_done()
        assert begun == []


def test_with_patience_it_waits_until_the_first_call_has_returned():
    first, never = threading.Event(), threading.Event()

    def slow():
        assert first.wait(BOUND)
        return "late"

    def opens():
        first.set()
        raise KeyError("no")

    try:
        results = run_all([slow, never.wait, opens], threads=3, deadline=past_deadline(), patience=Deadline(BOUND))
    finally:
        never.set()
    assert results[0] == "late"
    assert results[1] is None
