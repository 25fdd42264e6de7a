"""What must not cross a fork: locks another thread may hold, flights whose thread is gone, sockets; and what a fork must
not cut in two.

`os.register_at_fork` cannot be undone and calls hooks in the reverse order, so two locks taken in two hooks sooner or later
wait for each other. So there is one set of hooks for all of this package, and it takes no lock that is held for long.
https://docs.python.org/3/library/os.html#os.register_at_fork
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from typing import Protocol


class ResetAfterFork(Protocol):
    """Something with a way to make itself whole in the child of a fork."""

    def reset_after_fork(self) -> None:
        """Called in the child, before any other code, while it has one thread."""


class Uncut:
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


def reset_in_child(thing: ResetAfterFork) -> None:
    """From now on call `thing.reset_after_fork()` in every child of this process, as long as `thing` lives."""
    with uncut:
        _objects.add(thing)


def _reset() -> None:
    uncut.after_fork_in_child()
    for thing in list(_objects):
        thing.reset_after_fork()


uncut = Uncut()
_objects: weakref.WeakSet[ResetAfterFork] = weakref.WeakSet()
os.register_at_fork(before=uncut.before_fork, after_in_parent=uncut.after_fork_in_parent, after_in_child=_reset)
