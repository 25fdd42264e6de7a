"""The catalog: every connection spec that can be seen from here, by conn_id.

Each scope (one kind of warehouse, one region, one account) is listed and fails on its own, and keeps what was last
known of it. What a lookup may cost: docs/contract.md, "Looking a conn_id up"; how long a catalog is used: "Ages".
"""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

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
from redshift_secrets.errors import CatalogUnavailableError, DeadlineError, RedshiftSecretsError
from redshift_secrets.lookup import snapshot as rows_of_catalog
from redshift_secrets.lookup.metrics import CATALOG_REFRESHES, Lookup, Metrics, NoMetrics
from redshift_secrets.lookup.parallel import run_all
from redshift_secrets.lookup.snapshot import CatalogMeta, Claims, Snapshot, build_snapshot
from redshift_secrets.lookup.spec import build_spec
from redshift_secrets.model import ConnectionSpec, Listing, Scope, Warehouse
from redshift_secrets.settings import Settings

log = logging.getLogger(__name__)

V = TypeVar("V")

MISS_REFRESH_SECONDS = 10.0
"""How often, at most, a missing conn_id that matches `connections_lookup_pattern` has everything listed again."""

_ALL = "all"
_WHAT = "the catalog of warehouses"

_WAIT_AFTER = 3
"""After so many times `catalog_ttl_seconds` a lookup waits for a new listing, and uses the old one only where that fails."""
_THREADS = 16
_PATIENCE_SECONDS = 60.0
_FIRST_RETRY_SECONDS = 10.0
_STATE, _STATE_SECONDS = "warehouse", 5.0
_SPREAD = 0.1


class WarehouseLister(Protocol):
    """What the catalog needs of AWS; `aws.client.AwsClient` implements it."""

    def scopes(self) -> Sequence[Scope]:
        """Return everything there is to list."""

    def list(self, scope: Scope) -> Sequence[Warehouse]:
        """Return the tagged warehouses of one scope."""

    def describe(self, warehouse: Warehouse) -> Warehouse:
        """Return one warehouse as it is at this moment."""


class Catalog:
    """Finds the warehouses that claim a conn_id.

    A process that listed everything keeps the snapshot; any other reads what it needs, row by row, from the shared
    tiers under `group`. `clock` gives seconds since the epoch, `monotonic` seconds on a clock that never jumps, `rand`
    numbers from 0 to 1 to spread refreshes.
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
        self._metas: ProcessCache[str, CatalogMeta] = ProcessCache(
            lambda _key: _WHAT, clock=clock, monotonic=monotonic, maxsize=1
        )
        self._states: ProcessCache[str, Warehouse] = ProcessCache(
            lambda arn: f"the state of {arn}", clock=clock, monotonic=monotonic
        )
        self._listed: ClockSafeEntry[Snapshot] | None = None
        self._miss_failed_at = float("-inf")

    @property
    def _own(self) -> CacheEntry[Snapshot] | None:
        """The last snapshot that this process itself took, however old."""
        listed = self._listed
        return listed.current() if listed is not None else None

    def find(self, conn_id: str, lookup: Lookup) -> CacheEntry[Claims]:
        """Return what is known of `conn_id`; lists everything first where nothing unexpired is known.

        Raises `CatalogUnavailableError` when nothing could be listed and `DeadlineError` when that took too long.
        """
        found, now = self._cached(conn_id, lookup), self._clock()
        if found is not None and now < found.stale_at:
            return found
        behind = found is not None and (found.wait_at is None or now < found.wait_at)
        accept = self._is_usable if found is None else self._is_fresh
        refresh = functools.partial(self._refresh, accept, behind=behind)
        try:
            self._metas.get(_ALL, refresh, lookup.deadline, lookup.waits, lambda: _meta_of(found))
        except DeadlineError as error:
            self._tiers.report_time_out(self._meta_group(), error)
            raise
        if found is None:
            return self._after_refresh(conn_id, lookup)
        return found if behind else self._cached(conn_id, lookup) or found

    def refresh_for_miss(self, claims: CacheEntry[Claims], lookup: Lookup) -> CacheEntry[Claims]:
        """Return what is known of a missing conn_id after listing again, which is done at most once in
        `MISS_REFRESH_SECONDS`.

        Scopes in back-off are not listed. Where listing fails, what was known before is the answer.
        """
        newest = self._cached(claims.value.conn_id, lookup) or claims
        if newest.value.warehouses or not self._may_list_for_miss(newest.value.meta):
            return newest
        lookup.waits()
        try:
            self._metas.refresh(_ALL, functools.partial(self._refresh, self._is_recent, at_once=True), lookup.deadline)
        except Exception as error:
            self._miss_failed_at = self._clock()
            reason = error if isinstance(error, RedshiftSecretsError) else type(error).__name__
            log.warning("the catalog could not be listed again for a missing conn_id: %s", reason)
            return newest
        return self._cached(claims.value.conn_id, lookup) or newest

    def refresh_behind(self) -> None:
        """List again behind the lookups, since AWS has shown that what was listed is no longer true."""
        known_at = self._clock()
        newer = functools.partial(self._refresh, lambda meta: meta.value.taken_at > known_at, behind=True, at_once=True)
        self._metas.refresh_in_background(_ALL, newer)

    def snapshot(self, deadline: Deadline) -> Snapshot:
        """Return everything that is known, for commands that list; raises as `find`."""
        own = self._own
        if own is None or self._clock() >= own.expires_at:
            self._metas.get(_ALL, functools.partial(self._refresh, self._is_usable), deadline)
        elif self._clock() >= own.stale_at:
            self._metas.refresh_in_background(_ALL, functools.partial(self._refresh, self._is_fresh, behind=True))
        own = self._own
        if own is not None:
            return own.value
        found = self._tiers.get(self._listings_group(), anywhere=True)
        return build_snapshot(found.value if found else (), self._clock(), self._settings)

    def cached(self) -> CacheEntry[Snapshot] | None:
        """Return what the nearest shared tier has of the whole catalog, without asking AWS."""
        found = self._tiers.get(self._listings_group())
        if found is None:
            return None
        snapshot = build_snapshot(found.value, self._clock(), self._settings)
        return CacheEntry(snapshot, found.stale_at, found.expires_at, found.wait_at)

    def specs(self, conn_id: str, warehouses: Sequence[Warehouse]) -> tuple[ConnectionSpec, ...]:
        """Return one spec of `conn_id` for each of the warehouses, the oldest first."""
        oldest_first = sorted(warehouses, key=lambda warehouse: (warehouse.created_at, warehouse.arn))
        return tuple(build_spec(warehouse, conn_id, self._settings) for warehouse in oldest_first)

    def describe(self, spec: ConnectionSpec, lookup: Lookup) -> ConnectionSpec:
        """Return the spec with its warehouse as it is at this moment; all processes together ask AWS at most once in a few
        seconds."""
        listed = spec.warehouse

        def ask() -> Refreshed[Warehouse]:
            found = self._aws.describe(listed)
            until = self._clock() + _STATE_SECONDS
            return Refreshed(
                CacheEntry(found, until, until), lambda: {_STATE: rows_of_catalog.warehouses_to_bytes([found])}
            )

        def decode(rows: Rows) -> Warehouse | None:
            found = rows_of_catalog.warehouses_from_bytes(rows[_STATE]) if _STATE in rows else None
            return found[0] if found else None

        def refresh() -> CacheEntry[Warehouse]:
            return self._tiers.get_or_refresh(
                group, ask, deadline=Deadline(self._settings.aws_timeout_seconds, self._monotonic)
            )

        def look_in_store() -> CacheEntry[Warehouse] | None:
            return self._from_store(group, lookup)

        group = Group(f"{self._group} {listed.arn}", f"the state of {listed}", (_STATE,), decode, lambda: (_STATE,))
        found = self._states.get(listed.arn, refresh, lookup.deadline, lookup.waits, look_in_store).value
        # Its tags stay those it was listed with, which decided that it has the conn_id and which team may ask.
        return build_spec(replace(found, tags=listed.tags), spec.conn_id, self._settings)

    def _cached(self, conn_id: str, lookup: Lookup, *, anywhere: bool = False) -> CacheEntry[Claims] | None:
        """What is known of a conn_id without asking AWS: from this process's snapshot, else from the nearest tier."""
        own, now = self._own, self._clock()
        if own is not None and now < own.stale_at:
            return _claims_in(own, conn_id)
        shared = self._from_store(self._claims_group(conn_id), lookup, anywhere=anywhere)
        if own is None or now >= own.expires_at or (shared is not None and shared.stale_at > own.stale_at):
            return shared
        return _claims_in(own, conn_id)

    def _from_store(self, group: Group[V], lookup: Lookup, *, anywhere: bool = False) -> CacheEntry[V] | None:
        found = self._tiers.get(group, anywhere=anywhere)
        if found is not None:
            lookup.reached(self._tiers.stores[0].name)
        return found

    def _after_refresh(self, conn_id: str, lookup: Lookup) -> CacheEntry[Claims]:
        found = self._cached(conn_id, lookup, anywhere=True)
        if found is None:
            # There is a meta row without the rows that belong to it: the store was emptied or damaged. Only a newer one
            # will do.
            damaged = self._shared_meta()
            since = damaged.value.taken_at if damaged else float("-inf")
            newer = functools.partial(self._refresh, lambda meta: meta.value.taken_at > since)
            self._metas.refresh(_ALL, newer, lookup.deadline)
            found = self._cached(conn_id, lookup, anywhere=True)
        if found is None:
            raise CatalogUnavailableError(["what another process listed cannot be read here"])
        return found

    def _is_usable(self, _meta: CacheEntry[CatalogMeta]) -> bool:
        return True

    def _is_fresh(self, meta: CacheEntry[CatalogMeta]) -> bool:
        return self._clock() < meta.stale_at

    def _is_recent(self, meta: CacheEntry[CatalogMeta]) -> bool:
        return self._was_recently(meta.value.taken_at)

    def _may_list_for_miss(self, meta: CatalogMeta) -> bool:
        return not self._was_recently(meta.taken_at) and not self._was_recently(self._miss_failed_at)

    def _was_recently(self, moment: float) -> bool:
        # Also where it lies ahead by less: hosts do not agree on the time. By more, the clock was set back since.
        return abs(self._clock() - moment) < MISS_REFRESH_SECONDS

    def _refresh(
        self, accept: Callable[[CacheEntry[CatalogMeta]], bool], *, behind: bool = False, at_once: bool = False
    ) -> CacheEntry[CatalogMeta]:
        """Take a catalog that another process put into the shared tiers, or list for all of them."""
        own = self._own
        mine = CacheEntry(own.value.meta, own.stale_at, own.expires_at, own.wait_at) if own else None
        if mine is not None and self._clock() < mine.expires_at and accept(mine):
            return mine  # a thread that came a moment too late to join the refresh before
        return self._tiers.get_or_refresh(
            self._meta_group(),
            functools.partial(self._list, behind=behind, at_once=at_once),
            accept=accept,
            stale_value=(mine or self._metas.peek(_ALL) or self._shared_meta()) if behind else None,
            deadline=Deadline(self._settings.aws_timeout_seconds, self._monotonic),
        )

    def _list(self, *, behind: bool, at_once: bool) -> Refreshed[CatalogMeta]:
        """List what is due (with `at_once`, all that is not in back-off) and take a new snapshot of all that is known."""
        now = self._clock()
        known = {listing.scope: listing for listing in self._known_listings()}
        listings = [
            self._without_expired(known.get(scope, Listing(scope)), now) for scope in dict.fromkeys(self._aws.scopes())
        ]
        due = [x for x in listings if x.due_at <= now or (at_once and x.failures == 0)]
        # Half of the time of a lookup: the other half is for minting, also while one region does not answer. Where no
        # lookup waits, and where nothing is known yet, a slow listing is waited for: the next lookup finds it.
        seconds = _PATIENCE_SECONDS if behind else self._settings.aws_timeout_seconds / 2
        deadline = Deadline(seconds, self._monotonic)
        patience = Deadline(max(_PATIENCE_SECONDS, seconds), self._monotonic) if not known else None
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
        snapshot = build_snapshot(listings, now, self._settings)
        for problem in snapshot.problems:
            log.warning("%s", problem)
        oldest = min(x.listed_at for x in listings if x.listed_at is not None)
        stale_at = min(listing.due_at for listing in listings)
        expires_at = oldest + self._settings.catalog_max_stale_seconds
        wait_at = now + _WAIT_AFTER * self._settings.catalog_ttl_seconds
        entry = CacheEntry(snapshot, stale_at, expires_at, wait_at)
        self._listed = ClockSafeEntry(entry, self._clock, self._monotonic)
        meta = CacheEntry(snapshot.meta, stale_at, expires_at, wait_at)
        return Refreshed(meta, lambda: rows_of_catalog.snapshot_to_rows(snapshot))

    def _known_listings(self) -> tuple[Listing, ...]:
        """What this process or another one listed before, whichever is newer."""
        entry = self._own
        own = entry.value if entry else None
        shared = self._shared_meta()
        if shared is not None and (own is None or shared.value.taken_at > own.meta.taken_at):
            found = self._tiers.get(self._listings_group())
            if found is not None:
                return found.value
        return own.listings if own is not None else ()

    def _shared_meta(self) -> CacheEntry[CatalogMeta] | None:
        return self._tiers.get(self._meta_group())

    def _meta_group(self) -> Group[CatalogMeta]:
        names = (rows_of_catalog.META,)
        return Group(self._group, _WHAT, names, rows_of_catalog.meta_from_rows, rows_of_catalog.all_rows)

    def _listings_group(self) -> Group[tuple[Listing, ...]]:
        name = rows_of_catalog.LISTINGS

        def decode(rows: Rows) -> tuple[Listing, ...] | None:
            return rows_of_catalog.listings_from_bytes(rows[name]) if name in rows else None

        return Group(self._group, _WHAT, (name,), decode, rows_of_catalog.all_rows)

    def _claims_group(self, conn_id: str) -> Group[Claims]:
        names = (rows_of_catalog.META, rows_of_catalog.claims_row(conn_id))

        def decode(rows: Rows) -> Claims | None:
            meta = rows_of_catalog.meta_from_rows(rows)
            warehouses = rows_of_catalog.claims_from_rows(rows, conn_id)
            return Claims(conn_id, warehouses, meta) if meta is not None and warehouses is not None else None

        return Group(self._group, _WHAT, names, decode, rows_of_catalog.all_rows)

    def _without_expired(self, listing: Listing, now: float) -> Listing:
        """The listing, without what was last known of it where that is too old to be used."""
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
        kept = "nothing is known of it" if before.listed_at is None else "its last listing is kept"
        log.warning("%s could not be listed, %s: %s", before.scope, kept, error)
        return replace(before, error=error, failures=failures, due_at=now + pause)


def _claims_in(snapshot: CacheEntry[Snapshot], conn_id: str) -> CacheEntry[Claims]:
    value = snapshot.value
    claims = Claims(conn_id, value.claims.get(conn_id, ()), value.meta)
    return CacheEntry(claims, snapshot.stale_at, snapshot.expires_at, snapshot.wait_at)


def _meta_of(claims: CacheEntry[Claims] | None) -> CacheEntry[CatalogMeta] | None:
    if claims is None:
        return None
    return CacheEntry(claims.value.meta, claims.stale_at, claims.expires_at, claims.wait_at)
