"""What must not cross a fork: locks another thread may hold, flights whose thread is gone, sockets; and what a fork must
not cut in two.

`os.register_at_fork` cannot be undone and calls hooks in the reverse order, so two locks taken in two hooks sooner or later
wait for each other. So there is one set of hooks for all of this package, and it takes no lock that is held for long.
https://docs.python.org/3/library/os.html#os.register_at_fork
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Protocol

_LOOK_SECONDS = 0.001


class ResetAfterFork(Protocol):
    """Something with a way to make itself whole in the child of a fork."""

    def reset_after_fork(self) -> None:
        """Called in the child, before any other code, while it has one thread."""


class ForkGate:
    """`with` it, any number of threads at once do what a fork must not cut in two: a child that finds a module half
    imported, or a lock of sqlite3 taken by a thread that is not there, never gets over it.

    A fork waits for the threads that are in there, and those that come meanwhile wait for the fork. It is not a lock that
    threads take from each other, so there is no order to keep: a thread may go in twice, may take locks in there, and may
    fork in there. Whatever goes wrong, nobody waits longer than `bound_seconds`.
    """

    def __init__(self, bound_seconds: float = 10.0) -> None:
        self._bound = bound_seconds
        self._changed = (
            threading.Condition()
        )  # on an RLock, because a signal handler may fork in the thread that has it
        self._inside: Counter[int] = Counter()
        self._forks = 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._changed:
            if self._forks and me not in self._inside:
                self._changed.wait_for(lambda: not self._forks, self._bound)
            self._inside[me] += 1

    def __exit__(self, *_error: object) -> None:
        me = threading.get_ident()
        with self._changed:
            self._inside[me] -= 1
            if not self._inside[me]:
                del self._inside[me]
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Let nobody in any more, and wait until all other threads are out."""
        me = threading.get_ident()
        with self._changed:
            self._forks += 1
            self._changed.wait_for(lambda: not self._inside.keys() - {me}, self._bound)

    def after_fork_in_parent(self) -> None:
        """Let the others in again; also called when the fork failed."""
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        """Only the thread that forked is here."""
        me = threading.get_ident()
        self._changed = threading.Condition()
        self._inside = Counter({me: self._inside[me]} if me in self._inside else {})
        self._forks = 0


class ExitingThreads:
    """Threads that have nothing left to do but to end, which is when OpenSSL takes a lock to forget them. A child that is
    forked while one of them is in there never gets past that lock, and each TLS context needs it.

    `exists` tells whether the system still has a thread, `sleep` takes seconds.
    """

    def __init__(
        self,
        exists: Callable[[int], bool] = lambda thread: os.path.exists(f"/proc/self/task/{thread}"),
        sleep: Callable[[float], None] = time.sleep,
        bound_seconds: float = 0.5,
    ) -> None:
        self._exists = exists
        self._sleep = sleep
        self._bound = bound_seconds
        self._ending: dict[int, None] = {}

    def add_this_thread(self) -> None:
        """The last thing that a thread of ours does. Threads that are gone are forgotten, or they would pile up."""
        for thread in list(self._ending):
            if not self._exists(thread):
                self._ending.pop(thread, None)
        self._ending[threading.get_native_id()] = None

    def before_fork(self) -> None:
        """Wait until they are gone, but not for ever: the system may have given the number of one to another thread."""
        left = self._bound
        for thread in list(self._ending):
            while left > 0 and self._exists(thread) and thread != threading.get_native_id():
                self._sleep(_LOOK_SECONDS)
                left -= _LOOK_SECONDS
            self._ending.pop(thread, None)

    def after_fork_in_child(self) -> None:
        """None of them is here."""
        self._ending = {}


def reset_in_child(thing: ResetAfterFork) -> None:
    """From now on call `thing.reset_after_fork()` in every child of this process, as long as `thing` lives."""
    with no_fork_here:
        _objects.add(thing)


def _before() -> None:
    no_fork_here.before_fork()
    exiting_threads.before_fork()


def _reset() -> None:
    no_fork_here.after_fork_in_child()
    exiting_threads.after_fork_in_child()
    for thing in list(_objects):
        thing.reset_after_fork()


no_fork_here = ForkGate()
exiting_threads = ExitingThreads()
_objects: weakref.WeakSet[ResetAfterFork] = weakref.WeakSet()
os.register_at_fork(before=_before, after_in_parent=no_fork_here.after_fork_in_parent, after_in_child=_reset)
