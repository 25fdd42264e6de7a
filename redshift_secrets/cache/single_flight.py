"""Single flight within a process: one thread does the work, any number of others may wait for its outcome."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from redshift_secrets.cache import forks
from redshift_secrets.errors import DeadlineError

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


class BackgroundCall(Generic[V]):
    """A call in a daemon thread: it does not keep the process from exiting, and a lookup need not wait for its end."""

    def __init__(self, what: str, work: Callable[[], V], on_done: Callable[[BackgroundCall[V]], None]) -> None:
        """`on_done` is called in the new thread as soon as `value` or `error` is set, before any waiting thread continues."""
        self._what = what
        self._work = work
        self._on_done = on_done
        self._done = threading.Event()
        self.value: V | None = None
        self.error: Exception | None = None

    def start(self) -> None:
        """Start the thread; raises `RuntimeError` where the system cannot start another."""
        threading.Thread(target=self._run, name=f"redshift-secrets {self._what}", daemon=True).start()

    def _run(self) -> None:
        try:
            self.value = self._work()
        except Exception as error:
            self.error = error
        finally:
            try:
                self._on_done(self)
            finally:
                forks.exiting_threads.add_this_thread()
                self._done.set()

    def wait(self, deadline: Deadline) -> V:
        """Return the value, or raise the error; raises `DeadlineError` when there is neither in time."""
        if not self._done.wait(deadline.left()):
            raise DeadlineError(self._what, deadline.seconds)
        if self.error is not None:
            raise copy_for_reraise(self.error)
        return self.value  # type: ignore[return-value]  # set whenever there is no error


def copy_for_reraise(error: Exception) -> Exception:
    """Return a copy of `error` to raise in another thread, so that threads do not share one traceback."""
    try:
        return copy.copy(error)
    except Exception:  # an error of another package may not be copyable: then it is shared after all
        return error
