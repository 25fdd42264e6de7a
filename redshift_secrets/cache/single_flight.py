"""A single flight: one thread does the work, any number of others may wait for what comes out."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from redshift_secrets.cache import forks
from redshift_secrets.cache.deadline import Deadline
from redshift_secrets.errors import DeadlineError

V = TypeVar("V")


def copy_for_reraise(error: Exception) -> Exception:
    """A copy of `error` to raise in another thread, so that threads do not share one traceback."""
    try:
        return copy.copy(error)
    except Exception:  # an error of somebody else's that cannot be copied is shared after all
        return error


class BackgroundCall(Generic[V]):
    """Work that runs in a daemon thread: it neither holds up the exit of the process nor outlives a lookup's deadline."""

    def __init__(self, what: str, work: Callable[[], V], landed: Callable[[BackgroundCall[V]], None]) -> None:
        """`landed` is called in the thread of the flight when `value` or `error` is there, before anyone wakes up."""
        self._what = what
        self._work = work
        self._landed = landed
        self._done = threading.Event()
        self.value: V | None = None
        self.error: Exception | None = None

    def start(self) -> None:
        """Start the thread; raises `RuntimeError` where the system has no thread to give."""
        threading.Thread(target=self._run, name=f"redshift-secrets {self._what}", daemon=True).start()

    def _run(self) -> None:
        try:
            self.value = self._work()
        except Exception as error:
            self.error = error
        finally:
            try:
                self._landed(self)
            finally:
                forks.exiting_threads.add_this_thread()
                self._done.set()

    def wait(self, deadline: Deadline) -> V:
        """Return what came out, or raise its error; `DeadlineError` when it is not there in time."""
        if not self._done.wait(deadline.left()):
            raise DeadlineError(self._what, deadline.seconds)
        if self.error is not None:
            raise copy_for_reraise(self.error)
        return self.value  # type: ignore[return-value]  # set whenever there is no error
