"""Notices that somebody has flushed a store, so that running processes forget what they remember of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import MsgspecError, msgpack

if TYPE_CHECKING:
    from redshift_secrets.cache.store import SharedStore
    from redshift_secrets.cache.tiers import Tier

_LOOK_SECONDS = 5.0
_NAME, _ROW = "newest flush mark of the fleet", "mark"
_KEPT_SECONDS = 30 * 86_400.0


def flush(store: SharedStore, groups: Sequence[str] | None = None) -> str | None:
    """Remove these groups from a store, or everything, so that no process has them or puts them back. Return why that failed,
    `None` where it is done.

    With the mark before, a refresh that stores what it was answered earlier finds that there was a flush. With the mark after, a
    process forgets what it read in between.
    """
    store.mark_flushed()
    removals = map(store.clear, [None] if groups is None else groups)
    why_not = next(filter(None, removals), None)  # a store that cannot remove one cannot remove others
    unmarked = store.mark_flushed()
    return why_not or unmarked


class Flushes:
    """Flushes of these tiers: looked for at most once in 5 s in each process, in the fleet once in 5 s for each host.

    `clock` returns seconds since the epoch, `monotonic` seconds on a clock that never jumps.
    """

    def __init__(self, tiers: Sequence[Tier], clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._tiers = tiers
        self._clock = clock
        self._monotonic = monotonic
        # A process that has only the fleet store does not pay a round trip for this at its first lookup: it forgets
        # everything once, when it first looks.
        self._look_at = (
            monotonic() + _LOOK_SECONDS if len(tiers) == 1 and tiers[0].store.across_hosts else float("-inf")
        )
        self._mark: tuple[str | None] | None = None
        # What this process itself has seen of the fleet store: a host store that takes no note has nothing to tell.
        self._fleet_mark: str | None = None
        self._fleet_was_flushed = False

    def happened(self) -> bool:
        """Whether there was a flush since the last look, or may have been, as far as another look is due."""
        if not self._tiers or self._monotonic() < self._look_at:
            return False
        self._look_at = self._monotonic() + _LOOK_SECONDS
        if len(self._tiers) > 1:
            self._look_at_fleet()
        before, self._mark = self._mark, (self._tiers[0].store.flush_mark(),)
        fleet_was_flushed, self._fleet_was_flushed = self._fleet_was_flushed, False
        return fleet_was_flushed or self._mark != before

    @property
    def asks_fleet(self) -> bool:
        """Whether `happened` would ask the fleet store now, which takes a round trip or longer."""
        return self._monotonic() >= self._look_at and any(tier.store.across_hosts for tier in self._tiers)

    def note(self) -> None:
        """Note the mark of the fleet store on a host that has none, before the host takes anything from there."""
        if len(self._tiers) > 1:
            self._look_at_fleet(is_first=True)

    def _look_at_fleet(self, is_first: bool = False) -> None:
        """Empty the host store where the fleet store was flushed since a process of this host looked."""
        host, fleet = (tier.store for tier in self._tiers)
        place = self._tiers[0].place(_NAME) if self._tiers[0].ready else None
        if place is None:
            return  # a lookup that finds the caller out is next
        looked_at, known = self._known_mark(host, place)
        if looked_at > 0:
            self._is_newer(known)
        # A new process on a host without a note has nothing to forget. Those that start together there leave the note to the
        # one that is the first to need Redis' client, which takes a tenth of a second to load.
        is_noted = looked_at > 0
        if (is_noted if is_first else not is_noted and self._mark is None) or self._was_looked_at(host, place):
            return
        lease = host.try_lock(place)
        if lease is None:
            return  # one process of the host looks
        try:
            if self._was_looked_at(host, place):
                return
            looked_at, known = self._known_mark(host, place)
            found = max(fleet.flush_mark() or known, known)
            if self._is_newer(found) or (looked_at > 0 and found != known):
                flush(host)
            row = msgpack.encode((self._clock(), found))
            host.replace(place, {_ROW: row}, self._clock() + _KEPT_SECONDS)
        finally:
            lease.release()

    def _is_newer(self, mark: str) -> bool:
        """Whether the fleet store was flushed since this process has seen its mark."""
        before, self._fleet_mark = self._fleet_mark, max(mark, self._fleet_mark or "")
        is_newer = before is not None and mark > before
        self._fleet_was_flushed |= is_newer
        return is_newer

    def _was_looked_at(self, host: SharedStore, place: str) -> bool:
        looked_at, _ = self._known_mark(host, place)
        return 0 <= self._clock() - looked_at < _LOOK_SECONDS

    @staticmethod
    def _known_mark(host: SharedStore, place: str) -> tuple[float, str]:
        """When a process of this host last looked, in seconds since the epoch, and the mark that it found."""
        row = host.read({place: (_ROW,)}).get(place, {}).get(_ROW)
        try:
            return msgpack.decode(row, type=tuple[float, str]) if row is not None else (0.0, "")
        except MsgspecError:
            return 0.0, ""
