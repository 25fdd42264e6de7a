"""What a tier outside this process looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

CLOCKS_DIFFER_SECONDS = 300.0
"""By how much the clocks of two hosts may differ: AWS rejects requests of a host whose clock is farther off."""

Rows = Mapping[str, bytes]


class Lease(Protocol):
    """The right to refresh one group, held by one process of the tier. It ends with that process."""

    def renew(self) -> None:
        """Keep a lease that would expire by itself; called while the refresh makes progress. Never raises."""

    def release(self) -> None:
        """Let others refresh. May be called once, by any thread of the process that got it; never raises."""


class FreeLease:
    """The right to refresh where no lock can be had: too many refreshes are better than none."""

    def renew(self) -> None:
        """Nothing to renew."""

    def release(self) -> None:
        """Nothing to release."""


class SharedStore(Protocol):
    """Rows of bytes in groups, sealed by the store itself before they leave this process. Names of groups have no `/`.

    Nothing that goes wrong with a store is an error of a lookup: a store that is missing, full, locked, corrupt,
    unreadable or written by somebody else reads as empty, and what is written to it is lost. It logs that once, not for
    each lookup. Safe among threads, and in the child of a fork.
    """

    name: str
    """`host` or `fleet`, for logs and metrics."""

    across_hosts: bool
    """Whether processes of other hosts read it."""

    def read(self, wanted: Mapping[str, Sequence[str]]) -> dict[str, dict[str, bytes]]:
        """Return, for each group in `wanted`, those of the named rows that are there, unexpired, and neither changed nor
        moved by anyone; all of them in one transaction or one round trip.

        A row written later than now is not returned: the clock was set back since, and its age is unknown.
        """

    def replace(self, group: str, rows: Rows, expires_at: float) -> None:
        """Make `rows` all that the group has, at once for every reader, until `expires_at` (seconds since the epoch)."""

    def try_lock(self, group: str) -> Lease | None:
        """Return the right to refresh the group, without waiting; `None` while another process has it.

        Where a store cannot tell, everyone gets a `FreeLease`.
        """

    def is_taken(self, group: str) -> bool:
        """Whether another process certainly had the lease of the group a moment ago; `False` where it takes more than a few
        microseconds to know. May be `True` when that process was killed."""

    def clear(self, group: str | None = None) -> str | None:
        """Remove one group, or everything, whatever key it is sealed with. Return why that failed, `None` where it is gone."""

    def mark_flushed(self) -> str | None:
        """Have every process that uses this store find another `flush_mark`. Return why that failed, `None` where it will."""

    def flush_mark(self) -> str | None:
        """Return a text that changes with each `mark_flushed`, across hosts to one that sorts after it; `None` where there was none
        or it cannot be read."""
