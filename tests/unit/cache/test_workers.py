"""Threads that make calls: how many, how they end, what a fork leaves of them; deadlines; and calls that end later."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from redshift_secrets.cache.workers import Deadline, Run, Workers
from tests.support.fakes import Clock
from tests.support.helpers import BOUND, all_refreshes_done, in_child, package_threads, past_deadline


class TestDeadline:
    def test_it_comes_nearer_and_has_then_passed(self):
        clock = Clock()
        deadline = Deadline(10, clock)
        clock.pass_(4)
        assert deadline.left() == 6
        clock.pass_(7)
        assert deadline.left() == 0

    def test_half_is_of_the_time_that_is_left(self):
        clock = Clock()
        deadline = Deadline(10, clock)
        clock.pass_(4)
        half = deadline.half()
        assert (half.seconds, half.left()) == (3, 3)
        clock.pass_(2)
        assert (half.left(), deadline.left()) == (1, 4)


class Held:
    """Calls that go on only when `go_on` is set; `begun` counts those that have begun, `ended` lists those that went on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.ended: list[object] = []
        self._begun = threading.Semaphore(0)

    def call(self, name: object = None) -> None:
        self._begun.release()
        assert self.go_on.wait(BOUND)
        self.ended.append(name)

    def await_begun(self, number: int) -> None:
        for _ in range(number):
            assert self._begun.acquire(timeout=BOUND)

    def finish(self) -> list[object]:
        self.go_on.set()
        all_refreshes_done()
        return self.ended


@pytest.fixture
def held():
    held = Held()
    yield held
    held.finish()


def refuse(_thread):
    raise RuntimeError("can't start new thread")


class TestWorkers:
    def test_no_more_calls_are_made_at_a_time_than_there_may_be_threads(self, held):
        workers = Workers(2)
        for name in range(5):
            workers.submit(lambda name=name: held.call(name))
        held.await_begun(2)
        assert len(package_threads()) == 2
        assert sorted(held.finish()) == [0, 1, 2, 3, 4]

    def test_threads_are_daemons_and_end_when_there_is_nothing_to_do(self, held):
        workers = Workers(2)
        workers.submit(held.call)
        held.await_begun(1)
        assert [thread.daemon for thread in package_threads()] == [True]
        held.finish()
        assert package_threads() == []
        workers.submit(held.call)
        all_refreshes_done()
        assert len(held.ended) == 2

    def test_a_call_that_never_ends_does_not_keep_the_process(self):
        script = (
            "import threading\n"
            "from redshift_secrets.cache.workers import Workers\n"
            "begun = threading.Event()\n"
            "Workers(1).submit(lambda: (begun.set(), threading.Event().wait()))\n"
            "begun.wait()\n"
        )
        assert subprocess.run([sys.executable, "-c", script], timeout=2 * BOUND, check=False).returncode == 0

    def test_without_any_thread_a_call_is_refused_and_forgotten(self, held, monkeypatch):
        workers = Workers(2)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                workers.submit(lambda: held.call("refused"))
        workers.submit(lambda: held.call("accepted"))
        assert held.finish() == ["accepted"]

    def test_without_another_thread_a_call_waits_for_one_that_runs(self, held, monkeypatch):
        workers = Workers(2)
        workers.submit(lambda: held.call("first"))
        held.await_begun(1)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            workers.submit(lambda: held.call("second"))
        assert held.finish() == ["first", "second"]

    def test_a_child_makes_its_own_calls_and_none_of_its_parent(self, held):
        workers = Workers(1)
        workers.submit(lambda: held.call("running"))
        workers.submit(lambda: held.call("queued"))
        held.await_begun(1)

        def in_the_child():
            made = []
            workers.submit(lambda: made.append("in the child"))
            all_refreshes_done()
            return made, held.ended

        assert in_child(in_the_child) == (["in the child"], [])
        assert held.finish() == ["running", "queued"]

    def test_what_a_call_holds_is_not_kept_while_the_thread_waits(self):
        workers = Workers(1)
        gone = threading.Event()

        class Big:
            def __call__(self):
                workers._lock.acquire()  # which the thread needs next

            def __del__(self):
                gone.set()

        workers.submit(Big())
        assert gone.wait(BOUND)
        workers._lock.release()
        all_refreshes_done()


class TestRun:
    def test_it_has_the_value_once_it_has_ended(self):
        run = Run(lambda: 3)
        assert (run.done, run.value, run.error) == (False, None, None)
        run.wait(past_deadline())
        run()
        run.wait(Deadline(BOUND))
        assert (run.done, run.value, run.error) == (True, 3, None)

    @pytest.mark.parametrize("error", [KeyError("k"), SystemExit(3)], ids=["exception", "exit"])
    def test_it_has_the_error_and_costs_no_thread(self, error):
        def fail():
            raise error

        workers = Workers(1)
        for _ in range(2):
            run = Run(fail)
            workers.submit(run)
            run.wait(Deadline(BOUND))
            assert (run.done, run.value, run.error) == (True, None, error)

    def test_callbacks_are_called_when_it_ends_and_at_once_afterwards(self):
        called = []
        run = Run(lambda: called.append("work"))
        run.on_done(lambda: called.append("before"))
        run()
        run.on_done(lambda: called.append("after"))
        assert called == ["work", "before", "after"]

    def test_a_callback_into_an_event_loop_that_is_closed_leaves_the_others(self):
        def closed():
            raise RuntimeError("Event loop is closed")

        called = []
        run = Run(lambda: 3)
        run.on_done(closed)
        run.on_done(lambda: called.append(run.value))
        run()
        assert called == [3]
