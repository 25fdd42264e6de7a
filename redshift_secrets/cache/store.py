"""What a tier outside this process looks like: the host's store and the fleet's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from redshift_secrets.cache.hits import Hits

CLOCKS_DIFFER_SECONDS = 300.0
"""By how much the clocks of two hosts may differ: AWS takes no request of a host whose clock is farther off."""


class Lease(Protocol):
    """The right to renew one group, held by one process of the tier. It ends with the process that holds it."""

    def release(self) -> None:
        """Let others renew. May be called once, by the thread that got it; never raises."""


class SharedStore(Protocol):
    """Rows of bytes in groups, sealed by the store itself before they leave this process.

    Nothing that goes wrong with a store is an error of a lookup: a store that is missing, full, locked, corrupt,
    unreadable or written by somebody else reads as empty, and what is written to it is lost. It says so in one log
    line, not in one for each lookup. Safe among threads, and in the child of a fork.
    """

    name: str
    """`host` or `fleet`, for logs and metrics."""

    @property
    def ready(self) -> bool:
        """Whether a read answers at once. A lookup does not read a store that is not; a renewal may."""

    def read(self, group: str, names: Sequence[str]) -> dict[str, bytes]:
        """Return those of the named rows that are there and not past their end, and that nobody has changed or moved.

        What was written later than now is not there: the clock was set back since, and nobody can tell how old it is.
        """

    def replace(self, group: str, rows: Mapping[str, bytes], expires_at: float) -> None:
        """Make `rows` all that the group has, at once for every reader, until `expires_at` (seconds since the epoch)."""

    def claim(self, group: str) -> Lease | None:
        """Return the right to renew the group, without waiting; `None` while another process has it.

        Where a store cannot tell, everyone gets the right: too many renewals are better than none.
        """

    def clear(self, group: str | None = None) -> None:
        """Forget one group, or everything, and then the counts as well."""

    def count(self, group: str, found: bool) -> None:
        """Count one lookup of the group, which was there or was not, for all processes that use the store."""

    def hits(self) -> Hits:
        """Return what was counted since the store was made or emptied."""
