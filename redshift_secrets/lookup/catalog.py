"""The keeper of what exists: every connection spec that can be seen from here, by conn_id.

Each scope (one kind of warehouse, one region, one account) is listed and fails on its own, and keeps what was last
known of it. The catalog as a whole follows the three ages; section 4 of the design says what a lookup may cost.
"""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from redshift_secrets.cache import (
    CLOCKS_DIFFER_SECONDS,
    CacheEntry,
    ClockSafeEntry,
    Deadline,
    Group,
    ProcessCache,
    Refreshed,
    Rows,
    SharedTiers,
)
from redshift_secrets.errors import CatalogUnavailableError, RedshiftSecretsError
from redshift_secrets.lookup import snapshot as snapshots
from redshift_secrets.lookup import spec as specs
from redshift_secrets.lookup.metrics import CATALOG_REFRESHES, Metrics, NoMetrics
from redshift_secrets.lookup.parallel import run_all
from redshift_secrets.lookup.rows import listings_from_bytes, warehouses_from_bytes, warehouses_to_bytes
from redshift_secrets.lookup.snapshot import CatalogMeta, Claims, Snapshot
from redshift_secrets.model import ConnectionSpec, Listing, Scope, Warehouse
from redshift_secrets.settings.settings import Settings

log = logging.getLogger(__name__)

MISS_REFRESH_SECONDS = 10.0
"""How often, at most, a missing conn_id that matches `connections_lookup_pattern` has everything listed again."""

_ALL = "all"
_WHAT = "the catalog of warehouses"

_THREADS = 16
_PATIENT_SECONDS = 60.0
_FIRST_RETRY_SECONDS = 10.0
_LOOK, _LOOK_SECONDS = "warehouse", 5.0
_SPREAD = 0.1


class WarehouseLister(Protocol):
    """What the catalog needs of AWS; `aws.door.AwsClient` is the real one."""

    def scopes(self) -> Sequence[Scope]:
        """Everything there is to list."""

    def list(self, scope: Scope) -> Sequence[Warehouse]:
        """The tagged warehouses of one scope."""

    def look(self, seen: Warehouse) -> Warehouse:
        """One warehouse as it is at this moment."""


class Catalog:
    """Finds the warehouses that claim a conn_id.

    A process that listed everything keeps the snapshot; any other reads what it needs, row by row, from the shared
    tiers under `group`. `clock` gives seconds since the epoch, `monotonic` seconds on a clock that never jumps, `rand`
    numbers from 0 to 1 to spread renewals.
    """

    def __init__(
        self,
        settings: Settings,
        aws: WarehouseLister,
        *,
        tiers: SharedTiers | None = None,
        group: str = "catalog",
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._aws = aws
        self._tiers = tiers if tiers is not None else SharedTiers(clock=clock)
        self._group = group
        self._metrics = metrics or NoMetrics()
        self._clock = clock
        self._monotonic = monotonic
        self._rand = rand
        self._heads: ProcessCache[str, CatalogMeta] = ProcessCache(
            lambda _key: _WHAT, clock=clock, monotonic=monotonic, maxsize=1
        )
        self._looks: ProcessCache[str, Warehouse] = ProcessCache(
            lambda arn: f"the state of {arn}", clock=clock, monotonic=monotonic
        )
        self._kept: ClockSafeEntry[Snapshot] | None = None
        self._miss_failed_at = float("-inf")

    @property
    def _own(self) -> CacheEntry[Snapshot] | None:
        """What this process itself took last, however old."""
        kept = self._kept
        return kept.now() if kept is not None else None

    def find(self, conn_id: str, deadline: Deadline) -> CacheEntry[Claims]:
        """Return what is known of `conn_id`; lists everything first where nothing usable is.

        Raises `CatalogUnavailableError` when nothing could be listed and `DeadlineError` when that took too long.
        """
        found = self._recall(conn_id, counted=True)
        if found is None:
            self._heads.aged(_ALL, functools.partial(self._renew, self._alive), deadline)
            return self._after_renewal(conn_id, deadline)
        if self._clock() >= found.stale_at:
            self._heads.refresh_in_background(_ALL, functools.partial(self._renew, self._fresh, behind=True))
        return found

    def renewed_for_miss(self, claims: CacheEntry[Claims], deadline: Deadline) -> CacheEntry[Claims]:
        """Return what is known of a missing conn_id after listing again, which is done at most once in
        `MISS_REFRESH_SECONDS`.

        Scopes in back-off are left alone. Where listing fails, what was known before is the answer.
        """
        newest = self._recall(claims.value.conn_id) or claims
        if newest.value.warehouses or not self._may_list_for_miss(newest.value.head):
            return newest
        try:
            self._heads.renewed(_ALL, functools.partial(self._renew, self._recent, at_once=True), deadline)
        except Exception as error:
            self._miss_failed_at = self._clock()
            told = error if isinstance(error, RedshiftSecretsError) else type(error).__name__
            log.warning("the catalog could not be listed again for a missing conn_id: %s", told)
            return newest
        return self._recall(claims.value.conn_id) or newest

    def snapshot(self, deadline: Deadline) -> Snapshot:
        """Return everything that is known, for those who list; raises as `find`."""
        own = self._own
        if own is None or self._clock() >= own.expires_at:
            self._heads.aged(_ALL, functools.partial(self._renew, self._alive), deadline)
        elif self._clock() >= own.stale_at:
            self._heads.refresh_in_background(_ALL, functools.partial(self._renew, self._fresh, behind=True))
        own = self._own
        if own is not None:
            return own.value
        found = self._tiers.recall(self._listings_group(), anywhere=True)
        return snapshots.take(found.value if found else (), self._clock(), self._settings)

    def recalled(self) -> CacheEntry[Snapshot] | None:
        """Return what the nearest shared tier has of the whole catalog, without asking AWS."""
        found = self._tiers.recall(self._listings_group())
        if found is None:
            return None
        return CacheEntry(snapshots.take(found.value, self._clock(), self._settings), found.stale_at, found.expires_at)

    def specs(self, conn_id: str, warehouses: Sequence[Warehouse]) -> tuple[ConnectionSpec, ...]:
        """Return one spec of `conn_id` for each of the warehouses, the oldest first."""
        claims = sorted(warehouses, key=lambda warehouse: (warehouse.created_at, warehouse.arn))
        return tuple(specs.build(warehouse, conn_id, self._settings) for warehouse in claims)

    def look(self, spec: ConnectionSpec, deadline: Deadline) -> ConnectionSpec:
        """Return the spec with its warehouse as it is at this moment, asked of AWS at most once in a few seconds by all
        processes together."""
        seen = spec.warehouse

        def ask() -> Refreshed[Warehouse]:
            found = self._aws.look(seen)
            until = self._clock() + _LOOK_SECONDS
            return Refreshed(CacheEntry(found, until, until), lambda: {_LOOK: warehouses_to_bytes([found])})

        def decode(rows: Rows) -> Warehouse | None:
            found = warehouses_from_bytes(rows[_LOOK]) if _LOOK in rows else None
            return found[0] if found else None

        def renew() -> CacheEntry[Warehouse]:
            return self._tiers.get_or_refresh(
                group, ask, deadline=Deadline(self._settings.aws_timeout_seconds, self._monotonic)
            )

        group = Group(f"{self._group} {seen.arn}", f"the state of {seen}", (_LOOK,), decode, lambda: (_LOOK,))
        warehouse = self._looks.aged(seen.arn, renew, deadline, lambda: self._tiers.recall(group)).value
        # Its tags stay those it was listed with, which decided that it has the conn_id and which team may ask.
        return specs.build(replace(warehouse, tags=seen.tags), spec.conn_id, self._settings)

    def _recall(self, conn_id: str, *, anywhere: bool = False, counted: bool = False) -> CacheEntry[Claims] | None:
        """What is known of a conn_id without asking AWS: from this process's snapshot, else from the nearest tier."""
        own, now = self._own, self._clock()
        if own is not None and now < own.stale_at:
            return _claims_of(own, conn_id)
        shared = self._tiers.recall(self._claims_group(conn_id), anywhere=anywhere, counted=counted)
        if own is None or now >= own.expires_at or (shared is not None and shared.stale_at > own.stale_at):
            return shared
        return _claims_of(own, conn_id)

    def _after_renewal(self, conn_id: str, deadline: Deadline) -> CacheEntry[Claims]:
        found = self._recall(conn_id, anywhere=True)
        if found is None:
            # There is a head without the rows that belong to it: the store was emptied or damaged. Only a newer one will do.
            damaged = self._shared_head()
            since = damaged.value.taken_at if damaged else float("-inf")
            newer = functools.partial(self._renew, lambda head: head.value.taken_at > since)
            self._heads.renewed(_ALL, newer, deadline)
            found = self._recall(conn_id, anywhere=True)
        if found is None:
            raise CatalogUnavailableError(["what another process listed cannot be read here"])
        return found

    def _alive(self, _head: CacheEntry[CatalogMeta]) -> bool:
        return True

    def _fresh(self, head: CacheEntry[CatalogMeta]) -> bool:
        return self._clock() < head.stale_at

    def _recent(self, head: CacheEntry[CatalogMeta]) -> bool:
        return self._is_recent(head.value.taken_at)

    def _may_list_for_miss(self, head: CatalogMeta) -> bool:
        return not self._is_recent(head.taken_at) and not self._is_recent(self._miss_failed_at)

    def _is_recent(self, moment: float) -> bool:
        # Also where it lies ahead by less: hosts do not agree on the time. By more, the clock was set back since.
        return abs(self._clock() - moment) < MISS_REFRESH_SECONDS

    def _renew(
        self, good: Callable[[CacheEntry[CatalogMeta]], bool], *, behind: bool = False, at_once: bool = False
    ) -> CacheEntry[CatalogMeta]:
        """Take a head that another process put into the shared tiers, or list for all of them."""
        own = self._own
        mine = CacheEntry(own.value.head, own.stale_at, own.expires_at) if own else None
        if mine is not None and self._clock() < mine.expires_at and good(mine):
            return mine  # a thread that was a moment too late to join the flight before
        return self._tiers.get_or_refresh(
            self._head_group(),
            functools.partial(self._list, behind=behind, at_once=at_once),
            good=good,
            meanwhile=(mine or self._heads.peek(_ALL) or self._shared_head()) if behind else None,
            deadline=Deadline(self._settings.aws_timeout_seconds, self._monotonic),
        )

    def _list(self, *, behind: bool, at_once: bool) -> Refreshed[CatalogMeta]:
        """List what is due (with `at_once`, all that is not in back-off) and take a new snapshot of all that is known."""
        now = self._clock()
        known = {listing.scope: listing for listing in self._known_listings()}
        listings = [
            self._remembered(known.get(scope, Listing(scope)), now) for scope in dict.fromkeys(self._aws.scopes())
        ]
        due = [x for x in listings if x.due_at <= now or (at_once and x.failures == 0)]
        # Half of the time of a lookup: the other half is for minting, also while one region does not answer. Where
        # nobody waits, and where nothing is known yet, what takes longer is waited for: who asks next will find it.
        seconds = _PATIENT_SECONDS if behind else self._settings.aws_timeout_seconds / 2
        deadline = Deadline(seconds, self._monotonic)
        patience = Deadline(max(_PATIENT_SECONDS, seconds), self._monotonic) if not known else None
        calls = [functools.partial(self._aws.list, listing.scope) for listing in due]
        answers = dict(
            zip(
                (x.scope for x in due),
                run_all(calls, threads=_THREADS, deadline=deadline, patience=patience),
                strict=True,
            )
        )
        listings = [self._updated(x, answers[x.scope], deadline) if x.scope in answers else x for x in listings]
        if all(listing.listed_at is None for listing in listings):
            raise CatalogUnavailableError([f"{x.scope}: {x.error}" for x in listings])
        self._metrics.incr(CATALOG_REFRESHES)
        snapshot = snapshots.take(listings, now, self._settings)
        for problem in snapshot.problems:
            log.warning("%s", problem)
        oldest = min(x.listed_at for x in listings if x.listed_at is not None)
        stale_at = min(listing.due_at for listing in listings)
        expires_at = oldest + self._settings.catalog_max_stale_seconds
        self._kept = ClockSafeEntry(CacheEntry(snapshot, stale_at, expires_at), self._clock, self._monotonic)
        return Refreshed(CacheEntry(snapshot.head, stale_at, expires_at), lambda: snapshots.rows_of(snapshot))

    def _known_listings(self) -> tuple[Listing, ...]:
        """What this process or another one listed before, whichever is newer."""
        kept = self._own
        own = kept.value if kept else None
        shared = self._shared_head()
        if shared is not None and (own is None or shared.value.taken_at > own.head.taken_at):
            found = self._tiers.recall(self._listings_group())
            if found is not None:
                return found.value
        return own.listings if own is not None else ()

    def _shared_head(self) -> CacheEntry[CatalogMeta] | None:
        return self._tiers.recall(self._head_group())

    def _head_group(self) -> Group[CatalogMeta]:
        return Group(self._group, _WHAT, (snapshots.META,), snapshots.meta_from_rows, snapshots.all_names)

    def _listings_group(self) -> Group[tuple[Listing, ...]]:
        def decode(rows: Rows) -> tuple[Listing, ...] | None:
            return listings_from_bytes(rows[snapshots.LISTINGS]) if snapshots.LISTINGS in rows else None

        return Group(self._group, _WHAT, (snapshots.LISTINGS,), decode, snapshots.all_names)

    def _claims_group(self, conn_id: str) -> Group[Claims]:
        name = snapshots.row_of(conn_id)

        def decode(rows: Rows) -> Claims | None:
            head = snapshots.meta_from_rows(rows)
            warehouses = snapshots.claims_from_rows(rows, conn_id)
            return Claims(conn_id, warehouses, head) if head is not None and warehouses is not None else None

        return Group(self._group, _WHAT, (snapshots.META, name), decode, snapshots.all_names)

    def _remembered(self, listing: Listing, now: float) -> Listing:
        """The listing, without what was last known of it where that is too old to be served."""
        latest = now + self._longest_pause() + CLOCKS_DIFFER_SECONDS
        if (listing.listed_at or 0) > now + CLOCKS_DIFFER_SECONDS or listing.due_at > latest:
            # Nothing was listed after now, and nothing is put off for so long: the clock was set back since.
            listed_at = min(listing.listed_at, now) if listing.listed_at is not None else None
            listing = replace(listing, listed_at=listed_at, due_at=now, failures=0)
        if listing.listed_at is None or now < listing.listed_at + self._settings.catalog_max_stale_seconds:
            return listing
        return replace(listing, warehouses=(), listed_at=None)

    def _longest_pause(self) -> float:
        return max(self._settings.catalog_ttl_seconds, _FIRST_RETRY_SECONDS)

    def _updated(self, before: Listing, answer: Sequence[Warehouse] | Exception | None, deadline: Deadline) -> Listing:
        now = self._clock()
        ttl = self._settings.catalog_ttl_seconds
        if answer is not None and not isinstance(answer, Exception):
            due_at = now + ttl * (1 - _SPREAD * self._rand())
            return Listing(before.scope, tuple(answer), listed_at=now, due_at=due_at)
        if answer is not None and not isinstance(answer, RedshiftSecretsError):
            log.error("%s could not be listed", before.scope, exc_info=answer)
        error = f"no answer within {deadline.seconds:g} s" if answer is None else str(answer)
        # A region that is denied for good must not cost a call every ten seconds: the pause doubles.
        failures = before.failures + 1
        pause = min(_FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 10), self._longest_pause())
        kept = "nothing is known of it" if before.listed_at is None else "what was last known of it is kept"
        log.warning("%s could not be listed, %s: %s", before.scope, kept, error)
        return replace(before, error=error, failures=failures, due_at=now + pause)


def _claims_of(snapshot: CacheEntry[Snapshot], conn_id: str) -> CacheEntry[Claims]:
    value = snapshot.value
    claims = Claims(conn_id, value.claims.get(conn_id, ()), value.head)
    return CacheEntry(claims, snapshot.stale_at, snapshot.expires_at)
