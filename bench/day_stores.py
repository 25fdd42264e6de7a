"""Stores for the simulation of a day: rows in its own memory, which count what a real store would be asked."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from redshift_secrets.cache.store import Lease, Rows

_FIELDS_PER_COMMAND = 500
_PURGE_SECONDS = 3600.0


class MemoryStore:
    """Rows by group, neither sealed nor copied. `counts["commands"]` is how many Redis commands a `RedisStore` would have sent.

    `clock` returns seconds since the epoch.
    """

    def __init__(self, name: str, clock: Callable[[], float], counts: Counter[str], *, across_hosts: bool) -> None:
        self.name = name
        self.across_hosts = across_hosts
        self._counts = counts
        self._clock = clock
        self._groups: dict[str, tuple[Rows, float]] = {}
        self._leased: set[str] = set()
        self._purge_at = clock() + _PURGE_SECONDS

    def read(self, wanted: Mapping[str, Sequence[str]]) -> dict[str, dict[str, bytes]]:
        """See `SharedStore.read`; one HMGET for each group."""
        now, found = self._clock(), {}
        for group, names in wanted.items():
            rows, expires_at = self._groups.get(group, ({}, 0.0))
            found[group] = {name: rows[name] for name in names if name in rows} if now < expires_at else {}
        self._counts["commands"] += len(wanted)
        return found

    def replace(self, group: str, rows: Rows, expires_at: float) -> None:
        """See `SharedStore.replace`; MULTI, DEL, some HSETs, PEXPIRE, EXEC."""
        self._counts["commands"] += 4 + math.ceil(len(rows) / _FIELDS_PER_COMMAND)
        self._groups[group] = rows, expires_at
        now = self._clock()
        if now >= self._purge_at:
            self._purge_at = now + _PURGE_SECONDS
            self._groups = {name: kept for name, kept in self._groups.items() if now < kept[1]}

    def try_lock(self, group: str) -> Lease | None:
        """See `SharedStore.try_lock`; one SET."""
        self._counts["commands"] += 1
        if group in self._leased:
            return None
        self._leased.add(group)
        return _Lease(self, group)

    def is_taken(self, group: str) -> bool:
        """See `SharedStore.is_taken`; no command."""
        return False

    def release(self, group: str) -> None:
        """End a lease; one EVAL."""
        self._counts["commands"] += 1
        self._leased.remove(group)

    def clear(self, group: str | None = None) -> None:
        """See `SharedStore.clear`; one DEL. Only single groups: nobody flushes in the simulation."""
        self._counts["commands"] += 1
        self._groups.pop(str(group), None)

    def mark_flushed(self) -> None:
        """See `SharedStore.mark_flushed`; one SET."""
        self._counts["commands"] += 1

    def flush_mark(self) -> str | None:
        """See `SharedStore.flush_mark`; one GET."""
        self._counts["commands"] += 1
        return None


class _Lease:
    """The lease on one group."""

    def __init__(self, store: MemoryStore, group: str) -> None:
        self._store = store
        self._group = group

    def renew(self) -> None:
        """See `Lease.renew`; nothing takes long enough here."""

    def release(self) -> None:
        """See `Lease.release`."""
        self._store.release(self._group)
