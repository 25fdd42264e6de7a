"""The process tier: entries in memory, refreshed by one thread for all."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from cachetools import LRUCache
from msgspec import Struct

from redshift_secrets.cache import forks
from redshift_secrets.cache.single_flight import BackgroundCall, Deadline, copy_for_reraise

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

RETRY_AFTER_SECONDS = 10.0
"""How long a failed refresh is not tried again; until then its error answers at once where only an expired entry is left."""

_CLOCK_STEP_SECONDS = 1.0
"""A smaller difference is a clock that is kept in step, not one that was set back."""


class CacheEntry(Struct, Generic[V], frozen=True):
    """A value with its deadlines in seconds since the epoch: fresh until `stale_at`, stale until `expires_at`."""

    value: V
    stale_at: float
    expires_at: float


class ClockSafeEntry(Generic[V]):
    """An entry that was obtained just now. When the time of day is set back, it is kept no longer for that.

    `clock` returns seconds since the epoch, `monotonic` seconds on a clock that never jumps.
    """

    def __init__(self, entry: CacheEntry[V], clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._entry = entry
        self._clock = clock
        self._monotonic = monotonic
        self._offset = clock() - monotonic()

    def current(self) -> CacheEntry[V]:
        """Return the entry with its deadlines adjusted for wall-clock jumps. A clock that is set ahead ends them early."""
        set_back = self._offset - (self._clock() - self._monotonic())
        if set_back < _CLOCK_STEP_SECONDS:
            return self._entry
        entry = self._entry
        return CacheEntry(entry.value, entry.stale_at - set_back, entry.expires_at - set_back)


class ProcessCache(Generic[K, V]):
    """Entries by key. Safe among threads, and in the child of a fork.

    `describe` names an entry in logs and errors; `clock` returns seconds since the epoch, `monotonic` seconds on a clock
    that never jumps. At most `maxsize` entries are kept, the least recently used go first.
    """

    def __init__(
        self,
        describe: Callable[[K], str],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        maxsize: int = 4096,
    ) -> None:
        self._describe = describe
        self._clock = clock
        self._monotonic = monotonic
        self._maxsize = maxsize
        self._clear()
        forks.reset_in_child(self)

    def _clear(self) -> None:
        self._lock = threading.Lock()
        self._refreshes: dict[K, BackgroundCall[CacheEntry[V]]] = {}
        self._entries: LRUCache[K, ClockSafeEntry[V]] = LRUCache(self._maxsize)
        self._failures: LRUCache[K, ClockSafeEntry[Exception]] = LRUCache(self._maxsize)

    def reset_after_fork(self) -> None:
        """Called in the child: refreshing threads do not exist there, and one of them may have held the lock."""
        if self._lock.locked():
            self._clear()  # a thread was in the middle of a change, so nothing here can be trusted
        else:
            self._lock = threading.Lock()
            self._refreshes = {}

    def get(
        self,
        key: K,
        refresh: Callable[[], CacheEntry[V]],
        deadline: Deadline,
        on_wait: Callable[[], None] = lambda: None,
        look_elsewhere: Callable[[], CacheEntry[V] | None] = lambda: None,
    ) -> CacheEntry[V]:
        """Return the entry of `key`, calling `refresh` in a thread of its own when it is not fresh.

        Before that, `look_elsewhere` is called at once and in this thread. `on_wait` is called where the refresh has to be
        waited for. Raises what `refresh` raised when the entry has
        expired and cannot be refreshed, and `DeadlineError` when that takes longer than the deadline. A failure is
        remembered for `RETRY_AFTER_SECONDS`.
        """
        entry = self.peek(key)
        if entry is None or self._clock() >= entry.stale_at:
            elsewhere = look_elsewhere()
            if elsewhere is not None and (entry is None or elsewhere.stale_at > entry.stale_at):
                with self._lock:
                    self._store(key, elsewhere)
        with self._lock:
            entry = self._unexpired(self._entries, key)
            if entry is not None and self._clock() < entry.stale_at:
                return entry
            failure = self._unexpired(self._failures, key)
            if entry is not None:
                if failure is None:
                    self._refresh_in_background(key, refresh)
                return entry
            if failure is not None:
                raise copy_for_reraise(failure.value)
            running = self._start_refresh(key, refresh)
        on_wait()
        return self._wait(key, running, deadline)

    def refresh_in_background(self, key: K, refresh: Callable[[], CacheEntry[V]]) -> None:
        """Start a refresh if none is running and none failed a moment ago, and do not wait for it."""
        with self._lock:
            if self._unexpired(self._failures, key) is None:
                self._refresh_in_background(key, refresh)

    def refresh(self, key: K, refresh: Callable[[], CacheEntry[V]], deadline: Deadline) -> V:
        """Refresh now, whatever the entry's age, and return the new value; joins a refresh that is running."""
        with self._lock:
            running = self._start_refresh(key, refresh)
        return self._wait(key, running, deadline).value

    def peek(self, key: K) -> CacheEntry[V] | None:
        """Return the entry of `key` if it is fresh or stale, without any work."""
        with self._lock:
            return self._unexpired(self._entries, key)

    def _store(self, key: K, entry: CacheEntry[V]) -> None:
        self._entries[key] = ClockSafeEntry(entry, self._clock, self._monotonic)
        self._failures.pop(key, None)

    def _fail(self, key: K, error: Exception) -> None:
        until = self._clock() + RETRY_AFTER_SECONDS
        self._failures[key] = ClockSafeEntry(CacheEntry(error, until, until), self._clock, self._monotonic)

    def _unexpired(self, entries: LRUCache[K, ClockSafeEntry[T]], key: K) -> CacheEntry[T] | None:
        """The entry of `key` unless it has expired; then it is removed. The caller holds the lock."""
        found = entries.get(key)
        entry = found.current() if found is not None else None
        if entry is not None and self._clock() < entry.expires_at:
            return entry
        entries.pop(key, None)
        return None

    def _wait(self, key: K, running: BackgroundCall[CacheEntry[V]], deadline: Deadline) -> CacheEntry[V]:
        try:
            return running.wait(deadline)
        except Exception as error:
            with self._lock:
                # A time-out is a failure too: the next lookup is answered at once instead of waiting as long again.
                if self._refreshes.get(key) is running:
                    self._fail(key, error)
            raise

    def _refresh_in_background(self, key: K, refresh: Callable[[], CacheEntry[V]]) -> None:
        try:
            self._start_refresh(key, refresh)
        except RuntimeError as error:
            self._fail(key, error)
            log.warning("%s; the stale entry is still used", error)

    def _start_refresh(self, key: K, refresh: Callable[[], CacheEntry[V]]) -> BackgroundCall[CacheEntry[V]]:
        """Start a refresh, or return the one that is running. The caller holds the lock."""
        running = self._refreshes.get(key)
        if running is None:
            running = BackgroundCall(self._describe(key), refresh, lambda done: self._finish(key, done))
            self._refreshes[key] = running
            try:
                running.start()
            except RuntimeError as error:  # the system has no thread to give, or the interpreter is about to exit
                del self._refreshes[key]
                raise RuntimeError(f"{self._describe(key)} cannot be refreshed: {error}") from error
        return running

    def _finish(self, key: K, done: BackgroundCall[Any]) -> None:
        with self._lock:
            if self._refreshes.get(key) is done:
                del self._refreshes[key]
            if done.error is None and done.value is not None:
                self._store(key, done.value)
            elif done.error is not None:
                self._fail(key, done.error)
            level = logging.WARNING if self._unexpired(self._entries, key) is not None else logging.ERROR
        if done.error is not None:
            log.log(level, "%s could not be refreshed: %s", self._describe(key), done.error)
