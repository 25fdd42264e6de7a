"""The process tier: entries in memory, refreshed by one thread for all."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from cachetools import LRUCache
from msgspec import Struct
from msgspec.structs import replace

from redshift_secrets.cache import forks
from redshift_secrets.cache.single_flight import BackgroundCall, Deadline, copy_for_reraise
from redshift_secrets.errors import known_error

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 5.0, 60.0
FAILURE_KEPT_SECONDS = 2 * _LONGEST_PAUSE_SECONDS
"""How long after its pause a failure is remembered, so that the next one doubles the pause."""

_CLOCK_STEP_SECONDS = 1.0
"""A smaller difference is a clock that is kept in step, not one that was set back."""


class CacheEntry(Struct, Generic[V], frozen=True):
    """A value with its deadlines in seconds since the epoch: fresh until `stale_at`, stale until `expires_at`.

    From `wait_at` on (`None`: never) it is only returned where a refresh fails; before, while one is running.
    """

    value: V
    stale_at: float
    expires_at: float
    wait_at: float | None = None

    def shifted(self, seconds: float) -> CacheEntry[V]:
        """Return the entry with all deadlines moved by so much."""
        wait_at = None if self.wait_at is None else self.wait_at + seconds
        return CacheEntry(self.value, self.stale_at + seconds, self.expires_at + seconds, wait_at)


class Failure(Struct, frozen=True):
    """Why the last refresh failed, how many have in a row, and when the next one is due (seconds since the epoch)."""

    error: Exception
    count: int
    retry_at: float

    @classmethod
    def after(cls, before: Failure | None, error: Exception, now: float) -> Failure:
        """Return the failure that follows `before`: the pause doubles."""
        count = 1 if before is None else before.count + 1
        return cls(error, count, now + min(_FIRST_PAUSE_SECONDS * 2 ** min(count - 1, 10), _LONGEST_PAUSE_SECONDS))


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
        return self._entry.shifted(-set_back)


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
        self._failures: LRUCache[K, ClockSafeEntry[Failure]] = LRUCache(self._maxsize)

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
        waited for: where the entry has expired, until the deadline; where it is in its last window, for half of the time
        that is left. Raises what `refresh` raised when the entry has expired and cannot be refreshed, and `DeadlineError`
        when that takes longer than the deadline. A failure is answered at once for a pause that doubles, and a stale entry
        is returned at once as long as refreshes fail.
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
            failure = self._failure(key)
            if entry is not None and (failure is not None or entry.wait_at is None or self._clock() < entry.wait_at):
                self._refresh_in_background(key, refresh)
                return entry
            if failure is not None and self._clock() < failure.retry_at:
                raise copy_for_reraise(failure.error)
            running = self._start_refresh(key, refresh)
        on_wait()
        if entry is None:
            return self._wait(key, running, deadline)
        try:
            return self._wait(key, running, deadline.half())
        except Exception as error:
            stale_for = self._clock() - entry.stale_at
            reason = known_error(error)
            log.warning("%s, stale for %.0f s, is still used: %s", self._describe(key), stale_for, reason)
            return entry

    def refresh_in_background(self, key: K, refresh: Callable[[], CacheEntry[V]]) -> None:
        """Start a refresh if none is running and none failed a moment ago, and do not wait for it."""
        with self._lock:
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

    def _failure(self, key: K) -> Failure | None:
        kept = self._unexpired(self._failures, key)
        return None if kept is None else replace(kept.value, retry_at=kept.stale_at)

    def _fail(self, key: K, error: Exception) -> None:
        failure = Failure.after(self._failure(key), error, self._clock())
        entry = CacheEntry(failure, failure.retry_at, failure.retry_at + FAILURE_KEPT_SECONDS)
        self._failures[key] = ClockSafeEntry(entry, self._clock, self._monotonic)

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
                # A time-out is a failure too: the next lookup is answered at once instead of waiting as long again. Of
                # many that wait for one refresh, the first one records it.
                failure = self._failure(key)
                if self._refreshes.get(key) is running and (failure is None or self._clock() >= failure.retry_at):
                    self._fail(key, error)
            raise

    def _refresh_in_background(self, key: K, refresh: Callable[[], CacheEntry[V]]) -> None:
        """Start a refresh unless the last one failed a moment ago. The caller holds the lock."""
        failure = self._failure(key)
        if failure is not None and self._clock() < failure.retry_at:
            return
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
