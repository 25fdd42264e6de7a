"""Fork safety: what a child must drop (locks that another thread may hold, calls whose thread is gone, sockets), and what a
fork must wait for.

`os.register_at_fork` cannot be undone and calls hooks in reverse order, so two locks taken in two hooks would sooner or later
deadlock. Hence one set of hooks for the whole package, which takes no lock that is held for long.
https://docs.python.org/3/library/os.html#os.register_at_fork
"""

from __future__ import annotations

import logging  # noqa: F401  # its hook must come after ours: it takes a lock that threads in `no_fork_here` need
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Protocol

_POLL_SECONDS = 0.001


class ResetAfterFork(Protocol):
    """An object that can reset itself in the child of a fork."""

    def reset_after_fork(self) -> None:
        """Reset; called in the child before any other code, while it has a single thread."""


class ForkGate:
    """`with no_fork_here:` around code that a fork must not interrupt: a child forked during an import or inside SQLite would
    deadlock, on a half-imported module or on a lock held by a thread that it does not have.

    Any number of threads may be inside at once. A fork waits until they have left; threads that want to enter meanwhile wait
    for the fork. Threads do not exclude each other, so there is no lock order to keep: inside, a thread may enter again, take
    locks, and fork. A fork waits as long as the slowest code inside, so nothing there may use the network, start a program,
    or wait for a lock whose owner does. Whatever goes wrong, no wait is longer than `bound_seconds`.
    """

    def __init__(self, bound_seconds: float = 10.0) -> None:
        self._bound = bound_seconds
        # Its lock is an RLock, since a signal handler may fork in the thread that holds it.
        self._changed = threading.Condition()
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
        """Stop threads from entering, and wait until all other threads have left."""
        me = threading.get_ident()
        with self._changed:
            self._forks += 1
            self._changed.wait_for(lambda: not self._inside.keys() - {me}, self._bound)

    def after_fork_in_parent(self) -> None:
        """Let threads enter again; also called when the fork failed."""
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        """Forget all threads but the one that forked."""
        me = threading.get_ident()
        self._changed = threading.Condition()
        self._inside = Counter({me: self._inside[me]} if me in self._inside else {})
        self._forks = 0


class ExitingThreads:
    """Threads that are about to exit. OpenSSL cleans up after an exiting thread under a lock that every new TLS context needs:
    a child forked at that moment would wait for it forever.

    `exists` returns whether the system still has a thread, `sleep` takes seconds.
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
        self._exiting: dict[int, None] = {}

    def add_this_thread(self) -> None:
        """Add the current thread, as the last thing it does; remove threads that have exited, which would pile up."""
        for thread in list(self._exiting):
            if not self._exists(thread):
                self._exiting.pop(thread, None)
        self._exiting[threading.get_native_id()] = None

    def before_fork(self) -> None:
        """Wait until they have exited, but not forever: the system may have reused the id of one for another thread."""
        left = self._bound
        for thread in list(self._exiting):
            while left > 0 and self._exists(thread) and thread != threading.get_native_id():
                self._sleep(_POLL_SECONDS)
                left -= _POLL_SECONDS
            self._exiting.pop(thread, None)

    def after_fork_in_child(self) -> None:
        """Forget them: the child has none of these threads."""
        self._exiting = {}


def reset_in_child(target: ResetAfterFork) -> None:
    """Call `target.reset_after_fork()` in every child forked from now on, until `target` is garbage-collected."""
    with no_fork_here:
        _targets.add(target)


def _before_fork() -> None:
    no_fork_here.before_fork()
    exiting_threads.before_fork()


def _after_fork_in_child() -> None:
    no_fork_here.after_fork_in_child()
    exiting_threads.after_fork_in_child()
    for target in list(_targets):
        target.reset_after_fork()


no_fork_here = ForkGate()
exiting_threads = ExitingThreads()
_targets: weakref.WeakSet[ResetAfterFork] = weakref.WeakSet()
os.register_at_fork(
    before=_before_fork, after_in_parent=no_fork_here.after_fork_in_parent, after_in_child=_after_fork_in_child
)
