"""A shared store as one asker sees it: nobody finds what another one left there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

from redshift_secrets.cache.hits import Hits
from redshift_secrets.cache.store import Lease, SharedStore


class BoundStore:
    """A `SharedStore` in which every group belongs to the one who asks.

    `who` returns a text that only this asker has, or `None` where it cannot be told: then nothing is read, nothing is
    written, and whoever wants to renew may. It may take its time unless `ready` says that it is known. With `names`, what
    the first of them writes is kept apart from what others do, and what is missing there is read from the next.
    """

    def __init__(
        self,
        store: SharedStore,
        who: Callable[[], str | None],
        ready: Callable[[], bool] = lambda: True,
        names: Sequence[str] = ("",),
    ) -> None:
        self.store = store
        self.name = store.name
        self._who = who
        self._ready = ready
        self._names = tuple(names)

    @property
    def ready(self) -> bool:
        """See `SharedStore`."""
        return self._ready()

    def get_ready(self) -> None:
        """Find out who asks, however long that takes."""
        self._who()

    def read(self, group: str, names: Sequence[str]) -> dict[str, bytes]:
        """See `SharedStore`."""
        for own in self._all_own(group):
            rows = self.store.read(own, names)
            if rows:
                return rows
        return {}

    def replace(self, group: str, rows: Mapping[str, bytes], expires_at: float) -> None:
        """See `SharedStore`."""
        own = self._own(group)
        if own is not None:
            self.store.replace(own, rows, expires_at)

    def claim(self, group: str) -> Lease | None:
        """See `SharedStore`."""
        own = self._own(group)
        return _FreeClaim() if own is None else self.store.claim(own)

    def clear(self, group: str | None = None) -> None:
        """Forget one group of this asker, or everything of everyone."""
        if group is None:
            self.store.clear()
            return
        for own in self._all_own(group):
            self.store.clear(own)

    def count(self, group: str, found: bool) -> None:
        """See `SharedStore`."""
        own = self._own(group)
        if own is not None:
            self.store.count(own, found)

    def hits(self) -> Hits:
        """See `SharedStore`; those of everyone."""
        return self.store.hits()

    def hits_of(self, group: str) -> int:
        """Return how often this asker found the group."""
        own = self._own(group)
        return 0 if own is None else self.store.hits().of(own)

    def _own(self, group: str) -> str | None:
        return next(iter(self._all_own(group)), None)

    def _all_own(self, group: str) -> list[str]:
        who = self._who()
        if who is None:
            return []
        return [hashlib.sha256(f"{who}{name}\0{group}".encode()).hexdigest() for name in self._names]


class _FreeClaim:
    """The right of one whom no store can keep apart from others."""

    def release(self) -> None:
        """Nothing to give back."""
