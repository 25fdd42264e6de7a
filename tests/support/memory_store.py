"""A shared store in memory, for several "processes" of one test: what a host or fleet store does, without files or sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from redshift_secrets.cache.store import Rows
from redshift_secrets.cache.tiers import Tier


class MemoryLease:
    """A lease that ends when it is released; `renewals` counts how often it was renewed."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release
        self.renewals = 0

    def renew(self) -> None:
        self.renewals += 1

    def release(self) -> None:
        self._release()


class MemoryStore:
    """A `SharedStore` named `host` or `fleet`. `groups` has what is stored, with when it was written and when it expires.

    `leases` are the groups whose lease somebody has: a test may add one, as if a process that never ends had it, or `"*"` for
    all. `is_full` means that it takes no entry, `reads` counts reads.
    """

    def __init__(self, clock: Callable[[], float], name: str = "host") -> None:
        self.name = name
        self.across_hosts = name == "fleet"
        self.groups: dict[str, tuple[dict[str, bytes], float, float]] = {}
        self.leases: set[str] = set()
        self.is_full = False
        self.reads = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._mark: str | None = None
        self._flushes = 0

    def read(self, wanted: Mapping[str, Sequence[str]]) -> dict[str, dict[str, bytes]]:
        self.reads += 1
        found: dict[str, dict[str, bytes]] = {}
        for group, names in wanted.items():
            rows, written_at, expires_at = self.groups.get(group, ({}, 0.0, 0.0))
            if written_at <= self._clock() < expires_at:
                found[group] = {name: rows[name] for name in names if name in rows}
        return found

    def replace(self, group: str, rows: Rows, expires_at: float) -> None:
        if not self.is_full:
            self.groups[group] = (dict(rows), self._clock(), expires_at)

    def try_lock(self, group: str) -> MemoryLease | None:
        with self._lock:
            if group in self.leases or "*" in self.leases:
                return None
            self.leases.add(group)
        return MemoryLease(lambda: self.leases.discard(group))

    def is_taken(self, group: str) -> bool:
        return not self.across_hosts and (group in self.leases or "*" in self.leases)

    def clear(self, group: str | None = None) -> None:
        if group is None:
            self.groups.clear()
        else:
            self.groups.pop(group, None)

    def mark_flushed(self) -> None:
        self._flushes += 1
        self._mark = f"{self._flushes:09}"  # sorts after the last one

    def flush_mark(self) -> str | None:
        return self._mark

    def entries(self) -> Iterator[str]:
        """Return the groups that carry an entry, and not a failure or unfinished answers."""
        return (group for group in self.groups if not group.endswith(("!", "+")))


def tier(store: MemoryStore, caller: str = "caller") -> Tier:
    """Return the store as `caller` sees it."""
    return Tier(store, caller)
