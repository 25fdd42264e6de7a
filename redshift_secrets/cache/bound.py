"""A shared store as one asker sees it: nobody finds what another one left there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

from redshift_secrets.cache.store import Claim, SharedStore


class BoundStore:
    """A `SharedStore` in which every group belongs to the one who asks.

    `who` returns a text that only this asker has, asked for once, or `None` where it cannot be told: then nothing is
    read, nothing is written, and whoever wants to renew may.
    """

    def __init__(self, store: SharedStore, who: Callable[[], str | None]) -> None:
        self.store = store
        self.name = store.name
        self._who = who
        self._known: str | None = None

    def read(self, group: str, names: Sequence[str]) -> dict[str, bytes]:
        """See `SharedStore`."""
        own = self._own(group)
        return {} if own is None else self.store.read(own, names)

    def replace(self, group: str, rows: Mapping[str, bytes], usable_until: float) -> None:
        """See `SharedStore`."""
        own = self._own(group)
        if own is not None:
            self.store.replace(own, rows, usable_until)

    def claim(self, group: str) -> Claim | None:
        """See `SharedStore`."""
        own = self._own(group)
        return _FreeClaim() if own is None else self.store.claim(own)

    def clear(self, group: str | None = None) -> None:
        """Forget one group of this asker, or everything of everyone."""
        own = None if group is None else self._own(group)
        if group is None or own is not None:
            self.store.clear(own)

    def _own(self, group: str) -> str | None:
        if self._known is None:
            self._known = self._who()
        if self._known is None:
            return None
        return hashlib.sha256(f"{self._known}\0{group}".encode()).hexdigest()


class _FreeClaim:
    """The right of one whom no store can keep apart from others."""

    def release(self) -> None:
        """Nothing to give back."""
