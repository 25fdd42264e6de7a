"""The threads that call Redis, so that a caller can stop waiting at any moment."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from redshift_secrets.cache import forks
from redshift_secrets.cache.workers import queued_seconds

T = TypeVar("T")


class ThreadCall(Generic[T]):
    """A call that runs in another thread. `done` is set as soon as `value` or `error` is."""

    def __init__(self, work: Callable[[], T], thread: int, queued_before: float) -> None:
        self.done = threading.Event()
        self.value: T | None = None
        self.error: Exception | None = None
        self._work = work
        self._thread = thread
        self._queued_before = queued_before

    def run(self) -> None:
        """Make the call in the current thread."""
        try:
            self.value = self._work()
        except Exception as error:
            self.error = error

    def queued_seconds(self) -> float:
        """Return how long the thread was ready to run during this call and did not get a processor."""
        return max(0.0, queued_seconds(self._thread) - self._queued_before)


class CallThreads:
    """Daemon threads that make calls. One waits for the next call; a call that finds none waiting gets a new thread.

    So no call waits behind another, and one that is stuck holds up nothing but its own thread. A thread whose call has
    ended ends too if another is waiting.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: CallThread | None = None
        forks.reset_in_child(self)

    def reset_after_fork(self) -> None:
        """Called in the child, which has none of the threads."""
        self._lock = threading.Lock()
        self._waiting = None

    def start(self, work: Callable[[], T]) -> ThreadCall[T]:
        """Start the call; raises `RuntimeError` where the system cannot start another thread."""
        with self._lock:
            thread, self._waiting = self._waiting, None
        queued_before = 0.0
        if thread is None:
            thread = CallThread(self._keep)
            thread.start()
        else:
            queued_before = queued_seconds(thread.native_id)
        call = ThreadCall(work, thread.native_id or 0, queued_before)
        thread.calls.put(call)
        return call

    def _keep(self, thread: CallThread) -> bool:
        """Return whether the thread is to wait for the next call."""
        with self._lock:
            self._waiting = self._waiting or thread
            return self._waiting is thread


class CallThread(threading.Thread):
    """Makes the `calls` that are put there, as long as `keep` returns true after one."""

    def __init__(self, keep: Callable[[CallThread], bool]) -> None:
        # Daemon: it does not keep the process from exiting.
        super().__init__(name="Redis (redshift-secrets)", daemon=True)
        self.calls: queue.SimpleQueue[ThreadCall[Any]] = queue.SimpleQueue()
        self._keep = keep

    def run(self) -> None:
        """See `Thread.run`."""
        kept = True
        while kept:
            call = self.calls.get()
            call.run()
            # Before the caller continues, whose next call is to find this thread, and whose fork is to wait for its end.
            kept = self._keep(self)
            if not kept:
                forks.exiting_threads.add_this_thread()
            call.done.set()
            # What a waiting thread refers to is never freed in the child of a fork, such as connections in a traceback.
            del call
