"""What must not cross a fork: locks another thread may hold, flights whose thread is gone, sockets.

`os.register_at_fork` cannot be undone, so it is called once, when the first object asks, and objects are held weakly.
https://docs.python.org/3/library/os.html#os.register_at_fork
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class ResetAfterFork(Protocol):
    """Something with a way to make itself whole in the child of a fork."""

    def reset_after_fork(self) -> None:
        """Called in the child, before any other code, while it has one thread."""


_objects: weakref.WeakSet[ResetAfterFork] = weakref.WeakSet()
_lock = threading.Lock()
_registered = False


def reset_in_child(thing: ResetAfterFork) -> None:
    """From now on call `thing.reset_after_fork()` in every child of this process, as long as `thing` lives."""
    global _registered
    with _lock:
        _objects.add(thing)
        if not _registered:
            os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_reset)
            _registered = True


def _reset() -> None:
    _lock.release()
    for thing in list(_objects):
        thing.reset_after_fork()
