"""Threads that refresh, lookups that wait for them until a deadline, and calls that end later."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from redshift_secrets.cache import forks
from redshift_secrets.errors import RedshiftSecretsError

V = TypeVar("V")


class Deadline:
    """A moment `seconds` from now by the monotonic clock: a lookup returns before it, whatever happens."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._monotonic = monotonic
        self._end = monotonic() + seconds

    def left(self) -> float:
        """Return the seconds until the deadline, never less than zero."""
        return max(0.0, self._end - self._monotonic())

    def half(self) -> Deadline:
        """Return the deadline after half of the time that is left."""
        return Deadline(self.left() / 2, self._monotonic)


class Workers:
    """Runs calls in at most `size` daemon threads, which do not keep the process from exiting and end when there is nothing
    to do. Safe among threads; the child of a fork starts its own and forgets the calls of its parent."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.reset_after_fork()
        forks.reset_in_child(self)

    def reset_after_fork(self) -> None:
        """Called in the child, where none of the threads exist."""
        self._lock = threading.Lock()
        self._calls: deque[Callable[[], None]] = deque()
        self._threads = 0

    def submit(self, call: Callable[[], None]) -> None:
        """Have a thread make the call, which must not raise. Raises `RuntimeError` where the system has no thread to give."""
        with self._lock:
            self._calls.append(call)
            if self._threads == self._size:
                return
            try:
                threading.Thread(target=self._work, name="redshift-secrets worker", daemon=True).start()
            except RuntimeError:
                if not self._threads:  # else one of those that run will come to this call
                    self._calls.pop()
                    raise
            else:
                self._threads += 1

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._calls:
                    self._threads -= 1
                    break
                call = self._calls.popleft()
            call()
            del call  # what it holds is not kept while this thread waits for the lock
        forks.exiting_threads.add_this_thread()


class Turn:
    """The runs that one lookup starts: the first goes ahead, the others follow when it lets them.

    So of many processes that look the same things up at once, the one that goes ahead with the first of them does it all, and the
    others read what that has found.
    """

    def __init__(self, submit: Callable[[Callable[[], None]], None]) -> None:
        self._submit = submit
        self._lock = threading.Lock()
        self._following: list[Run[Any]] | None = None
        self._goes_ahead = False

    def start(self, run: Run[Any]) -> None:
        """Submit the run, or have it follow. Raises `RuntimeError` where the system has no thread to give."""
        with self._lock:
            if self._goes_ahead and self._following is not None:
                self._following.append(run)
                return
            self._submit(run)
            if not self._goes_ahead:
                self._goes_ahead, self._following = True, []

    def let_follow(self) -> None:
        """Submit what follows, now and from now on; called in the thread of the first run."""
        for run in self.take_following():
            self._submit(run)  # there is a thread: this one comes to it at the latest

    def take_following(self) -> list[Run[Any]]:
        """Return what follows, which is not submitted any more; called in the thread of the first run."""
        with self._lock:
            following, self._following = self._following or [], None
        return following


class Run(Generic[V]):
    """One call in another thread: `value` or `error` is set once it has ended, neither if it was withdrawn."""

    def __init__(self, work: Callable[[], V]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], object]] = []
        self._done = threading.Event()
        self.value: V | None = None
        self.error: BaseException | None = None
        self.withdrawn = False

    def __call__(self) -> None:
        """Make the call; raises nothing."""
        try:
            self.value = self._work()
        except BaseException as error:
            self.error = error
        finally:
            self._end()

    def withdraw(self) -> None:
        """End it instead of making the call: whoever waits for it is to look again."""
        self.withdrawn = True
        self._end()

    def _end(self) -> None:
        with self._lock:
            self._done.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            with suppress(RuntimeError):  # the event loop of a lookup that has gone is closed
                callback()

    @property
    def done(self) -> bool:
        """Whether the call has ended."""
        return self._done.is_set()

    def result(self) -> V:
        """Return what the call returned, or raise what it raised, once it has ended."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # it has ended

    def wait(self, deadline: Deadline) -> None:
        """Return when the call has ended, at the deadline at the latest."""
        self._done.wait(deadline.left())

    def on_done(self, callback: Callable[[], object]) -> None:
        """Have `callback` called in that thread when the call has ended; at once where it has."""
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(callback)
                return
        callback()


class Lookup:
    """One lookup: when it has to end, what it has waited for, and the farthest tier that it has asked.

    With `hurry`, it waits for nothing more and gets that error instead. `searches`, `claimed` and `memory` are for the caller:
    whether the lookup has begun to look for something that is missing, what it has found that it must answer for, and where its
    answer may be kept.
    """

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.tier = "process"
        self.hurry: RedshiftSecretsError | None = None
        self.searches = False
        self.claimed: Any = None
        self.memory: Any = None
        self.waited: dict[str, tuple[Run[Any], Deadline]] = {}


class MustWait(Exception):  # noqa: N818  # it is no error: the lookup is tried again
    """The lookup has to wait until these have ended, for each of them at most until its deadline."""

    def __init__(self, waits: Sequence[tuple[Run[Any], Deadline]]) -> None:
        super().__init__(waits)
        self.waits = waits

    def wait(self) -> None:
        """Wait for them in this thread."""
        for run, until in self.waits:
            run.wait(until)


def queued_seconds(thread_id: int | None) -> float:
    """Return how long a thread of this process was ready to run and did not get a processor; 0 where Linux does not report it.

    https://docs.kernel.org/scheduler/sched-stats.html#proc-pid-schedstat
    """
    try:
        with open(f"/proc/self/task/{thread_id}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
