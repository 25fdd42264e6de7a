"""What a tier outside this process looks like, and how callers are kept apart in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

CLOCKS_DIFFER_SECONDS = 300.0
"""By how much the clocks of two hosts may differ: AWS rejects requests of a host whose clock is farther off."""


class Lease(Protocol):
    """The right to refresh one group, held by one process of the tier. It ends with that process."""

    def release(self) -> None:
        """Let others refresh. May be called once, by the thread that got it; never raises."""


class FreeLease:
    """The right to refresh where no lock can be had: too many refreshes are better than none."""

    def release(self) -> None:
        """Nothing to release."""


class SharedStore(Protocol):
    """Rows of bytes in groups, sealed by the store itself before they leave this process.

    Nothing that goes wrong with a store is an error of a lookup: a store that is missing, full, locked, corrupt,
    unreadable or written by somebody else reads as empty, and what is written to it is lost. It logs that once, not for
    each lookup. Safe among threads, and in the child of a fork.
    """

    name: str
    """`host` or `fleet`, for logs and metrics."""

    across_hosts: bool
    """Whether processes of other hosts read it."""

    @property
    def ready(self) -> bool:
        """Whether a read answers at once. A lookup does not read a store that is not ready; a refresh may."""

    def read(self, group: str, names: Sequence[str]) -> dict[str, bytes]:
        """Return those of the named rows that are there, unexpired, and neither changed nor moved by anyone.

        A row written later than now is not returned: the clock was set back since, and its age is unknown.
        """

    def replace(self, group: str, rows: Mapping[str, bytes], expires_at: float) -> None:
        """Make `rows` all that the group has, at once for every reader, until `expires_at` (seconds since the epoch)."""

    def try_lock(self, group: str) -> Lease | None:
        """Return the right to refresh the group, without waiting; `None` while another process has it.

        Where a store cannot tell, everyone gets a `FreeLease`.
        """

    def clear(self, group: str | None = None) -> None:
        """Remove one group, or everything."""


class NamespacedStore:
    """A `SharedStore` in which every group belongs to one caller.

    `namespace` returns a text that only this caller has, or `None` where the caller cannot be determined: then nothing is
    read, nothing is written, and everyone may refresh. It may take its time unless `ready` says that it is known. With
    `names`, the first is written and read; what is missing there is read from the next.
    """

    def __init__(
        self,
        store: SharedStore,
        namespace: Callable[[], str | None],
        ready: Callable[[], bool] = lambda: True,
        names: Sequence[str] = ("",),
    ) -> None:
        self.store = store
        self.name = store.name
        self.across_hosts = store.across_hosts
        self._namespace = namespace
        self._ready = ready
        self._names = tuple(names)

    @property
    def ready(self) -> bool:
        """See `SharedStore`."""
        return self._ready()

    def get_ready(self) -> None:
        """Determine the caller, however long that takes."""
        self._namespace()

    def read(self, group: str, names: Sequence[str]) -> dict[str, bytes]:
        """See `SharedStore`."""
        for key in self._keys(group):
            rows = self.store.read(key, names)
            if rows:
                return rows
        return {}

    def replace(self, group: str, rows: Mapping[str, bytes], expires_at: float) -> None:
        """See `SharedStore`."""
        for key in self._keys(group)[:1]:
            self.store.replace(key, rows, expires_at)

    def try_lock(self, group: str) -> Lease | None:
        """See `SharedStore`."""
        keys = self._keys(group)
        return self.store.try_lock(keys[0]) if keys else FreeLease()

    def clear(self, group: str | None = None) -> None:
        """Remove one group of this caller, or everything of everyone."""
        if group is None:
            self.store.clear()
            return
        for key in self._keys(group):
            self.store.clear(key)

    def _keys(self, group: str) -> list[str]:
        namespace = self._namespace()
        if namespace is None:
            return []
        return [hashlib.sha256(f"{namespace}{name}\0{group}".encode()).hexdigest() for name in self._names]
