"""What is cached: an entry with its ages, or why there is none; and the memory of this process for both."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from cachetools import LRUCache
from msgspec import Struct

from redshift_secrets.cache import forks
from redshift_secrets.cache.store import Rows
from redshift_secrets.errors import RedshiftSecretsError, error_from_json, error_to_json, known_error

V = TypeVar("V")

_AGES = struct.Struct(">dddd")
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 5.0, 60.0
_CLOCK_STEP_SECONDS = 1.0
"""A smaller difference is a clock that is kept in step, not one that was set back."""
_MAX_ENTRIES = 4096


class Entry(Struct, Generic[V], frozen=True):
    """A value and its ages, in seconds since the epoch: when it was made, and until when it is fresh, stale while
    revalidating, and stale if error. Follows docs/contract.md, "Ages"."""

    value: V
    made_at: float
    stale_at: float
    wait_at: float
    expires_at: float

    def shifted(self, seconds: float) -> Entry[V]:
        """Return the entry with all of its ages moved by so much."""
        ages = (self.made_at, self.stale_at, self.wait_at, self.expires_at)
        return Entry(self.value, *(age + seconds for age in ages))

    def is_fresh(self, now: float, since: float = float("-inf")) -> bool:
        """Whether the entry is fresh, and was made after `since`."""
        return now < self.stale_at and self.made_at > since

    def to_rows(self, encode: Callable[[V], Rows]) -> Rows:
        """Return the rows that carry the value and its ages to other processes."""
        ages = _AGES.pack(self.made_at, self.stale_at, self.wait_at, self.expires_at)
        return {name: ages + row for name, row in encode(self.value).items()}

    @classmethod
    def from_rows(cls, rows: Rows, decode: Callable[[Rows], V | None]) -> Entry[V] | None:
        """Return the entry that these rows carry; `None` for rows that do not."""
        value = decode({name: row[_AGES.size :] for name, row in rows.items()}) if rows else None
        if value is None:
            return None
        return cls(value, *_AGES.unpack_from(next(iter(rows.values()))))


class Failure(Struct, frozen=True):
    """Why the last refresh failed, how many have in a row, and when the next one is due (seconds since the epoch)."""

    error: Exception
    count: int
    retry_at: float

    @classmethod
    def after(cls, before: Failure | None, error: Exception, now: float) -> Failure:
        """Return the failure that follows `before`: the pause doubles, unless the last one ended long ago."""
        again = before is not None and now < before.expires_at
        count = before.count + 1 if before is not None and again else 1
        return cls(error, count, now + min(_FIRST_PAUSE_SECONDS * 2 ** min(count - 1, 10), _LONGEST_PAUSE_SECONDS))

    def shifted(self, seconds: float) -> Failure:
        """Return the failure with the next attempt moved by so much."""
        return Failure(self.error, self.count, self.retry_at + seconds)

    @property
    def expires_at(self) -> float:
        """When a further failure is no longer one in a row."""
        return self.retry_at + 2 * _LONGEST_PAUSE_SECONDS

    @property
    def known_error(self) -> RedshiftSecretsError:
        """The error in words that can be shown."""
        return known_error(self.error)

    def to_bytes(self) -> bytes:
        """Encode the failure, without the text of an unexpected exception."""
        return json.dumps([error_to_json(self.error), self.count, self.retry_at]).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Failure | None:
        """Decode what `to_bytes` encoded; `None` for anything else."""
        try:
            text, count, retry_at = json.loads(content)
            error = error_from_json(text)
            return None if error is None else cls(error, int(count), float(retry_at))
        except (TypeError, ValueError):
            return None


class Memory:
    """Entries and failures by name, until they expire; the least recently used go first. Safe among threads, and after a
    fork. When the time of day is set back, nothing is kept any longer for that.

    `clock` returns seconds since the epoch, `monotonic` seconds on a clock that never jumps.
    """

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self.clear()
        forks.reset_in_child(self)

    def clear(self) -> None:
        """Forget everything."""
        self._entries: LRUCache[str, tuple[Entry[Any], float]] = LRUCache(_MAX_ENTRIES)
        self._failures: LRUCache[str, tuple[Failure, float]] = LRUCache(_MAX_ENTRIES)

    def reset_after_fork(self) -> None:
        """Called in the child, where a thread of the parent may have held the lock."""
        if self._lock.locked():
            self.clear()  # that thread was in the middle of a change, so nothing here can be trusted
        self._lock = threading.Lock()

    def entry(self, name: str) -> Entry[Any] | None:
        """Return the entry of that name unless it has expired."""
        entry: Entry[Any] | None = self._unexpired(self._entries, name)
        return entry

    def failure(self, name: str) -> Failure | None:
        """Return the last failure unless there was an entry since."""
        failure: Failure | None = self._unexpired(self._failures, name)
        return failure

    def keep(self, name: str, kept: Entry[Any] | Failure) -> None:
        """Remember an entry, which ends all failures, or a failure."""
        with self._lock:
            if isinstance(kept, Failure):
                self._failures[name] = kept, self._clock() - self._monotonic()
            else:
                self._entries[name] = kept, self._clock() - self._monotonic()
                self._failures.pop(name, None)

    def _unexpired(self, kept: LRUCache[str, tuple[Any, float]], name: str) -> Any:
        with self._lock:
            found = kept.get(name)
        if found is None:
            return None
        value, offset = found
        # A clock that is set ahead ends entries early, one that is set back must not prolong them.
        set_back = offset - (self._clock() - self._monotonic())
        if set_back >= _CLOCK_STEP_SECONDS:
            value = value.shifted(-set_back)
        return value if self._clock() < value.expires_at else None
