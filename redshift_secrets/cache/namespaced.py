"""A shared store as one caller sees it: no caller finds what another one left there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

from redshift_secrets.cache.store import FreeLease, Lease, SharedStore


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
