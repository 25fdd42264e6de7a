"""The process tier: values with three ages in memory, renewed by one thread for all."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from cachetools import LRUCache
from msgspec import Struct

from redshift_secrets.cache import forks
from redshift_secrets.cache.deadline import Deadline
from redshift_secrets.cache.single_flight import BackgroundCall, copy_for_reraise

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

RETRY_AFTER_SECONDS = 10.0
"""How long a failed renewal is not tried again; until then its error answers at once where nothing usable is left."""

_SET_BACK_SECONDS = 1.0
"""Less is no clock that was set back, but one that is kept in step."""


class CacheEntry(Struct, Generic[V], frozen=True):
    """A value and its ages, in seconds since the epoch: fresh until, then usable until, then dead."""

    value: V
    stale_at: float
    expires_at: float


class ClockSafeEntry(Generic[V]):
    """A value that was obtained at this moment. When the time of day is set back, it lives no longer for that.

    `clock` returns seconds since the epoch, `monotonic` seconds on a clock that never jumps.
    """

    def __init__(self, aged: CacheEntry[V], clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._aged = aged
        self._clock = clock
        self._monotonic = monotonic
        self._ahead = clock() - monotonic()

    def now(self) -> CacheEntry[V]:
        """Return the value, with its ages in what is the time of day now. A clock that is set ahead ends them early."""
        set_back = self._ahead - (self._clock() - self._monotonic())
        if set_back < _SET_BACK_SECONDS:
            return self._aged
        aged = self._aged
        return CacheEntry(aged.value, aged.stale_at - set_back, aged.expires_at - set_back)


class ProcessCache(Generic[K, V]):
    """Values by key under the rule of the three ages. Safe among threads, and in the child of a fork.

    `what` says in logs and errors what a value is; `clock` returns seconds since the epoch, `monotonic` seconds on a clock
    that never jumps. At most `maxsize` values are kept, the least recently used go first.
    """

    def __init__(
        self,
        what: Callable[[K], str],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        maxsize: int = 4096,
    ) -> None:
        self._what = what
        self._clock = clock
        self._monotonic = monotonic
        self._maxsize = maxsize
        self._forget()
        forks.reset_in_child(self)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[K, BackgroundCall[CacheEntry[V]]] = {}
        self._entries: LRUCache[K, ClockSafeEntry[V]] = LRUCache(self._maxsize)
        self._failures: LRUCache[K, ClockSafeEntry[Exception]] = LRUCache(self._maxsize)

    def reset_after_fork(self) -> None:
        """Called in the child: the threads that flew are not here, and a lock may have been held by one of them."""
        if self._lock.locked():
            self._forget()  # a thread was in the middle of a change, so nothing here can be trusted
        else:
            self._lock = threading.Lock()
            self._flights = {}

    def get(self, key: K, renew: Callable[[], CacheEntry[V]], deadline: Deadline) -> V:
        """Return the value of `key`, calling `renew` in a thread of its own when it is not fresh.

        Raises what `renew` raised when the value is dead and cannot be renewed, and `DeadlineError` when that takes
        longer than the deadline. A failure is remembered for `RETRY_AFTER_SECONDS`.
        """
        return self.aged(key, renew, deadline).value

    def aged(
        self,
        key: K,
        renew: Callable[[], CacheEntry[V]],
        deadline: Deadline,
        recall: Callable[[], CacheEntry[V] | None] = lambda: None,
    ) -> CacheEntry[V]:
        """Like `get`, with the ages of the value. What is not fresh here is first looked for with `recall`, at once and
        in this thread."""
        aged = self.peek(key)
        if aged is None or self._clock() >= aged.stale_at:
            recalled = recall()
            if recalled is not None and (aged is None or recalled.stale_at > aged.stale_at):
                self.put(key, recalled)
        with self._lock:
            aged = self._alive(self._entries, key)
            if aged is not None and self._clock() < aged.stale_at:
                return aged
            failure = self._alive(self._failures, key)
            if aged is not None:
                if failure is None:
                    self._refresh_in_background(key, renew)
                return aged
            if failure is not None:
                raise copy_for_reraise(failure.value)
            flight = self._start_refresh(key, renew)
        return self._wait(key, flight, deadline)

    def refresh_in_background(self, key: K, renew: Callable[[], CacheEntry[V]]) -> None:
        """Start a renewal if none is under way and none failed a moment ago, and do not wait for it."""
        with self._lock:
            if self._alive(self._failures, key) is None:
                self._refresh_in_background(key, renew)

    def renewed(self, key: K, renew: Callable[[], CacheEntry[V]], deadline: Deadline) -> V:
        """Renew the value now, whatever its age, and return the new one; joins a renewal that is under way."""
        with self._lock:
            flight = self._start_refresh(key, renew)
        return self._wait(key, flight, deadline).value

    def put(self, key: K, aged: CacheEntry[V]) -> None:
        """Keep a value that was obtained elsewhere."""
        with self._lock:
            self._keep(key, aged)

    def peek(self, key: K) -> CacheEntry[V] | None:
        """Return what is kept of `key` if it is fresh or usable, without any work."""
        with self._lock:
            return self._alive(self._entries, key)

    def _keep(self, key: K, aged: CacheEntry[V]) -> None:
        self._entries[key] = ClockSafeEntry(aged, self._clock, self._monotonic)
        self._failures.pop(key, None)

    def _fail(self, key: K, error: Exception) -> None:
        until = self._clock() + RETRY_AFTER_SECONDS
        self._failures[key] = ClockSafeEntry(CacheEntry(error, until, until), self._clock, self._monotonic)

    def _alive(self, kept: LRUCache[K, ClockSafeEntry[T]], key: K) -> CacheEntry[T] | None:
        """What is kept of `key` unless it is dead; then it is forgotten. The caller holds the lock."""
        found = kept.get(key)
        aged = found.now() if found is not None else None
        if aged is not None and self._clock() < aged.expires_at:
            return aged
        kept.pop(key, None)
        return None

    def _wait(self, key: K, flight: BackgroundCall[CacheEntry[V]], deadline: Deadline) -> CacheEntry[V]:
        try:
            return flight.wait(deadline)
        except Exception as error:
            with self._lock:
                # Late is a failure too: the next lookup is answered at once instead of waiting as long again.
                if self._flights.get(key) is flight:
                    self._fail(key, error)
            raise

    def _refresh_in_background(self, key: K, renew: Callable[[], CacheEntry[V]]) -> None:
        try:
            self._start_refresh(key, renew)
        except RuntimeError as error:
            self._fail(key, error)
            log.warning("%s; what is kept still works", error)

    def _start_refresh(self, key: K, renew: Callable[[], CacheEntry[V]]) -> BackgroundCall[CacheEntry[V]]:
        """Start a renewal, or return the one under way. The caller holds the lock."""
        flight = self._flights.get(key)
        if flight is None:
            flight = BackgroundCall(self._what(key), renew, lambda landed: self._finish(key, landed))
            self._flights[key] = flight
            try:
                flight.start()
            except RuntimeError as error:  # no thread to be had: out of them, or the interpreter is about to exit
                del self._flights[key]
                raise RuntimeError(f"{self._what(key)} cannot be renewed: {error}") from error
        return flight

    def _finish(self, key: K, flight: BackgroundCall[Any]) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
            if flight.error is None and flight.value is not None:
                self._keep(key, flight.value)
            elif flight.error is not None:
                self._fail(key, flight.error)
            level = logging.WARNING if self._alive(self._entries, key) is not None else logging.ERROR
        if flight.error is not None:
            log.log(level, "%s could not be renewed: %s", self._what(key), flight.error)
