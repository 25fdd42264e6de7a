"""The threads that call Redis: one between calls, one for each call at once, none that outlives its use."""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref

import pytest

from redshift_secrets.cache import forks
from redshift_secrets.cache.redis import threads
from redshift_secrets.cache.redis.threads import CallThreads, ThreadCall
from tests.support.helpers import BOUND, Crowd, in_child
from tests.support.redis_servers import until


@pytest.fixture
def call_threads():
    return CallThreads()


def ended(call: ThreadCall) -> ThreadCall:
    assert call.done.wait(BOUND), "the call has not ended in time"
    return call


def thread_of_a_call(call_threads: CallThreads) -> threading.Thread:
    thread = ended(call_threads.start(threading.current_thread)).value
    assert thread is not None
    return thread


class Stuck:
    """A call that has begun and does not end until `free`."""

    def __init__(self, call_threads: CallThreads) -> None:
        self._free = threading.Event()
        begun = threading.Event()

        def wait() -> threading.Thread:
            begun.set()
            assert self._free.wait(BOUND)
            return threading.current_thread()

        self.call = call_threads.start(wait)
        assert begun.wait(BOUND)

    def free(self) -> threading.Thread:
        """End it, and return its thread."""
        self._free.set()
        thread = ended(self.call).value
        assert thread is not None
        return thread


def test_calls_one_after_another_share_a_thread(call_threads):
    assert len({thread_of_a_call(call_threads) for _ in range(20)}) == 1


def test_a_thread_is_there_for_the_next_call_before_the_caller_continues(call_threads, monkeypatch):
    continued: list[bool] = []
    monkeypatch.setattr(call_threads, "_keep", lambda _thread: continued.append(stuck.call.done.is_set()))
    stuck = Stuck(call_threads)
    stuck.free().join(BOUND)
    assert continued == [False]


def test_a_call_that_fails_leaves_the_thread_for_the_next(call_threads):
    error = ValueError("it failed")

    def fail() -> None:
        raise error

    before = thread_of_a_call(call_threads)
    assert ended(call_threads.start(fail)).error is error
    assert thread_of_a_call(call_threads) is before


def test_a_call_waits_behind_none_that_is_stuck(call_threads):
    stuck = [Stuck(call_threads) for _ in range(3)]
    assert len({thread_of_a_call(call_threads) for _ in range(5)}) == 1
    assert len({each.free() for each in stuck}) == 3


def test_of_threads_that_have_become_free_one_is_kept(call_threads):
    stuck = [Stuck(call_threads) for _ in range(3)]
    of_calls = [each.free() for each in stuck]
    for thread in of_calls[1:]:
        thread.join(BOUND)
    assert [thread.is_alive() for thread in of_calls] == [True, False, False]
    assert thread_of_a_call(call_threads) is of_calls[0]


def test_many_threads_call_at_once(call_threads):
    together = threading.Barrier(16)

    def meet() -> int:
        return ended(call_threads.start(lambda: together.wait(BOUND))).value

    assert sorted(Crowd(16, meet).outcomes()) == list(range(16))


def test_a_fork_waits_for_a_thread_that_ends(call_threads, monkeypatch):
    monkeypatch.setattr(forks, "exiting_threads", forks.ExitingThreads(exists=lambda _thread: True))
    first, second = Stuck(call_threads), Stuck(call_threads)
    first.free()
    assert list(forks.exiting_threads._exiting) == []
    ends = second.free()
    assert list(forks.exiting_threads._exiting) == [ends.native_id]


def test_the_child_of_a_fork_starts_threads_of_its_own(call_threads):
    def call() -> int | None:
        return ended(call_threads.start(lambda: 7)).value

    assert call() == 7
    assert in_child(call) == 7
    with call_threads._lock:
        assert in_child(call) == 7


def test_neither_a_waiting_thread_nor_a_stuck_one_keeps_the_process_from_exiting():
    program = """
import threading
from redshift_secrets.cache.redis.threads import CallThreads
call_threads, begun = CallThreads(), threading.Event()
stuck = call_threads.start(lambda: (begun.set(), threading.Event().wait()))
begun.wait()
call_threads.start(lambda: None).done.wait()
assert threading.active_count() == 3
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=BOUND)


def test_a_waiting_thread_refers_to_nothing_of_its_last_call(call_threads):
    class Connection:
        pass

    call = ended(call_threads.start(Connection))
    connection = weakref.ref(call.value)
    assert connection() is not None
    del call
    until(lambda: connection() is None)


# --- waiting for a processor


def test_what_a_thread_waited_before_its_call_does_not_count(call_threads, monkeypatch):
    waited = 0.0
    monkeypatch.setattr(threads, "queued_seconds", lambda _thread_id: waited)
    first = Stuck(call_threads)
    waited = 5.0
    assert first.call.queued_seconds() == 5.0
    first.free()
    second = Stuck(call_threads)
    assert second.call.queued_seconds() == 0.0
    waited = 7.0
    assert second.call.queued_seconds() == 2.0
    waited = 0.0  # it can no longer be read
    assert second.call.queued_seconds() == 0.0
    second.free()


def test_a_thread_that_has_ended_waits_for_no_processor():
    assert threads.queued_seconds(-1) == 0.0
