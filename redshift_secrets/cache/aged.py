"""The process tier: values with three ages in memory, renewed by one thread for all."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from cachetools import TLRUCache, TTLCache
from msgspec import Struct

from redshift_secrets.cache import forks
from redshift_secrets.cache.deadline import Deadline
from redshift_secrets.cache.flight import Flight, again

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

RETRY_AFTER_SECONDS = 10.0
"""How long a failed renewal is not tried again; until then its error answers at once where nothing usable is left."""


class Aged(Struct, Generic[V], frozen=True):
    """A value and its ages, in seconds since the epoch: fresh until, then usable until, then dead."""

    value: V
    fresh_until: float
    usable_until: float


class AgedCache(Generic[K, V]):
    """Values by key under the rule of the three ages. Safe among threads, and in the child of a fork.

    `what` says in logs and errors what a value is; `clock` returns seconds since the epoch. At most `maxsize` values
    are kept, the least recently used go first.
    """

    def __init__(
        self, what: Callable[[K], str], *, clock: Callable[[], float] = time.time, maxsize: int = 4096
    ) -> None:
        self._what = what
        self._clock = clock
        self._maxsize = maxsize
        self._forget()
        forks.reset_in_child(self)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[K, Flight[Aged[V]]] = {}
        self._entries: TLRUCache[K, Aged[V]] = TLRUCache(
            self._maxsize, ttu=lambda _key, aged, _now: aged.usable_until, timer=self._clock
        )
        self._failures: TTLCache[K, Exception] = TTLCache(self._maxsize, RETRY_AFTER_SECONDS, timer=self._clock)

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
        with self._lock:
            aged = self._entries.get(key)
        if aged is None or self._clock() >= aged.fresh_until:
            recalled = recall()
            if recalled is not None and (aged is None or recalled.fresh_until > aged.fresh_until):
                self.put(key, recalled)
        with self._lock:
            aged = self._entries.get(key)
            if aged is not None and self._clock() < aged.fresh_until:
                return aged
            failure = self._failures.get(key)
            if aged is not None:
                if failure is None:
                    self._fly_behind(key, renew)
                return aged
            if failure is not None:
                raise again(failure)
            flight = self._fly(key, renew)
        return self._wait(key, flight, deadline)

    def renew_behind(self, key: K, renew: Callable[[], Aged[V]]) -> None:
        """Start a renewal if none is under way and none failed a moment ago, and do not wait for it."""
        with self._lock:
            if key not in self._failures:
                self._fly_behind(key, renew)

    def renewed(self, key: K, renew: Callable[[], Aged[V]], deadline: Deadline) -> V:
        """Renew the value now, whatever its age, and return the new one; joins a renewal that is under way."""
        with self._lock:
            flight = self._fly(key, renew)
        return self._wait(key, flight, deadline).value

    def put(self, key: K, aged: Aged[V]) -> None:
        """Keep a value that was obtained elsewhere."""
        with self._lock:
            self._entries[key] = aged
            self._failures.pop(key, None)

    def peek(self, key: K) -> Aged[V] | None:
        """Return what is kept of `key` if it is fresh or usable, without any work."""
        with self._lock:
            return self._entries.get(key)

    def _wait(self, key: K, flight: Flight[Aged[V]], deadline: Deadline) -> Aged[V]:
        try:
            return flight.wait(deadline)
        except Exception as error:
            with self._lock:
                # Late is a failure too: the next lookup is answered at once instead of waiting as long again.
                if self._flights.get(key) is flight:
                    self._failures[key] = error
            raise

    def _fly_behind(self, key: K, renew: Callable[[], Aged[V]]) -> None:
        try:
            self._fly(key, renew)
        except RuntimeError as error:
            self._failures[key] = error
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
                self._entries[key] = flight.value
                self._failures.pop(key, None)
            elif flight.error is not None:
                self._failures[key] = flight.error
            level = logging.WARNING if key in self._entries else logging.ERROR
        if flight.error is not None:
            log.log(level, "%s could not be renewed: %s", self._what(key), flight.error)
