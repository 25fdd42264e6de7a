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
from redshift_secrets.cache.flight import Flight, again

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

RETRY_AFTER_SECONDS = 10.0
"""How long a failed renewal is not tried again; until then its error answers at once where nothing usable is left."""

_SET_BACK_SECONDS = 1.0
"""Less is no clock that was set back, but one that is kept in step."""


class Aged(Struct, Generic[V], frozen=True):
    """A value and its ages, in seconds since the epoch: fresh until, then usable until, then dead."""

    value: V
    fresh_until: float
    usable_until: float


class Kept(Generic[V]):
    """A value that was obtained at this moment. When the time of day is set back, it lives no longer for that.

    `clock` returns seconds since the epoch, `monotonic` seconds on a clock that never jumps.
    """

    def __init__(self, aged: Aged[V], clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._aged = aged
        self._clock = clock
        self._monotonic = monotonic
        self._ahead = clock() - monotonic()

    def now(self) -> Aged[V]:
        """Return the value, with its ages in what is the time of day now. A clock that is set ahead ends them early."""
        set_back = self._ahead - (self._clock() - self._monotonic())
        if set_back < _SET_BACK_SECONDS:
            return self._aged
        aged = self._aged
        return Aged(aged.value, aged.fresh_until - set_back, aged.usable_until - set_back)


class AgedCache(Generic[K, V]):
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
        self._flights: dict[K, Flight[Aged[V]]] = {}
        self._entries: LRUCache[K, Kept[V]] = LRUCache(self._maxsize)
        self._failures: LRUCache[K, Kept[Exception]] = LRUCache(self._maxsize)

    def reset_after_fork(self) -> None:
        """Called in the child: the threads that flew are not here, and a lock may have been held by one of them."""
        if self._lock.locked():
            self._forget()  # a thread was in the middle of a change, so nothing here can be trusted
        else:
            self._lock = threading.Lock()
            self._flights = {}

    def get(self, key: K, renew: Callable[[], Aged[V]], deadline: Deadline) -> V:
        """Return the value of `key`, calling `renew` in a thread of its own when it is not fresh.

        Raises what `renew` raised when the value is dead and cannot be renewed, and `DeadlineError` when that takes
        longer than the deadline. A failure is remembered for `RETRY_AFTER_SECONDS`.
        """
        return self.aged(key, renew, deadline).value

    def aged(
        self,
        key: K,
        renew: Callable[[], Aged[V]],
        deadline: Deadline,
        recall: Callable[[], Aged[V] | None] = lambda: None,
    ) -> Aged[V]:
        """Like `get`, with the ages of the value. What is not fresh here is first looked for with `recall`, at once and
        in this thread."""
        aged = self.peek(key)
        if aged is None or self._clock() >= aged.fresh_until:
            recalled = recall()
            if recalled is not None and (aged is None or recalled.fresh_until > aged.fresh_until):
                self.put(key, recalled)
        with self._lock:
            aged = self._alive(self._entries, key)
            if aged is not None and self._clock() < aged.fresh_until:
                return aged
            failure = self._alive(self._failures, key)
            if aged is not None:
                if failure is None:
                    self._fly_behind(key, renew)
                return aged
            if failure is not None:
                raise again(failure.value)
            flight = self._fly(key, renew)
        return self._wait(key, flight, deadline)

    def renew_behind(self, key: K, renew: Callable[[], Aged[V]]) -> None:
        """Start a renewal if none is under way and none failed a moment ago, and do not wait for it."""
        with self._lock:
            if self._alive(self._failures, key) is None:
                self._fly_behind(key, renew)

    def renewed(self, key: K, renew: Callable[[], Aged[V]], deadline: Deadline) -> V:
        """Renew the value now, whatever its age, and return the new one; joins a renewal that is under way."""
        with self._lock:
            flight = self._fly(key, renew)
        return self._wait(key, flight, deadline).value

    def put(self, key: K, aged: Aged[V]) -> None:
        """Keep a value that was obtained elsewhere."""
        with self._lock:
            self._keep(key, aged)

    def peek(self, key: K) -> Aged[V] | None:
        """Return what is kept of `key` if it is fresh or usable, without any work."""
        with self._lock:
            return self._alive(self._entries, key)

    def _keep(self, key: K, aged: Aged[V]) -> None:
        self._entries[key] = Kept(aged, self._clock, self._monotonic)
        self._failures.pop(key, None)

    def _fail(self, key: K, error: Exception) -> None:
        until = self._clock() + RETRY_AFTER_SECONDS
        self._failures[key] = Kept(Aged(error, until, until), self._clock, self._monotonic)

    def _alive(self, kept: LRUCache[K, Kept[T]], key: K) -> Aged[T] | None:
        """What is kept of `key` unless it is dead; then it is forgotten. The caller holds the lock."""
        found = kept.get(key)
        aged = found.now() if found is not None else None
        if aged is not None and self._clock() < aged.usable_until:
            return aged
        kept.pop(key, None)
        return None

    def _wait(self, key: K, flight: Flight[Aged[V]], deadline: Deadline) -> Aged[V]:
        try:
            return flight.wait(deadline)
        except Exception as error:
            with self._lock:
                # Late is a failure too: the next lookup is answered at once instead of waiting as long again.
                if self._flights.get(key) is flight:
                    self._fail(key, error)
            raise

    def _fly_behind(self, key: K, renew: Callable[[], Aged[V]]) -> None:
        try:
            self._fly(key, renew)
        except RuntimeError as error:
            self._fail(key, error)
            log.warning("%s; what is kept still works", error)

    def _fly(self, key: K, renew: Callable[[], Aged[V]]) -> Flight[Aged[V]]:
        """Start a renewal, or return the one under way. The caller holds the lock."""
        flight = self._flights.get(key)
        if flight is None:
            flight = Flight(self._what(key), renew, lambda landed: self._land(key, landed))
            self._flights[key] = flight
            try:
                flight.start()
            except RuntimeError as error:  # no thread to be had: out of them, or the interpreter is about to exit
                del self._flights[key]
                raise RuntimeError(f"{self._what(key)} cannot be renewed: {error}") from error
        return flight

    def _land(self, key: K, flight: Flight[Any]) -> None:
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
