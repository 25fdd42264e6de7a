"""The keeper of what exists: every connection spec that can be seen from here, by conn_id.

Each scope (one kind of warehouse, one region, one account) is listed and fails on its own, and keeps what was last
known of it. The catalog as a whole follows the three ages; section 4 of the design says what a lookup may cost.
"""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from redshift_secrets import specs, tags
from redshift_secrets.cache import Aged, AgedCache, Deadline
from redshift_secrets.errors import CatalogUnavailableError, RedshiftSecretsError
from redshift_secrets.model import ConnectionSpec, Scope, Warehouse
from redshift_secrets.parallel import run_all
from redshift_secrets.settings import Settings

log = logging.getLogger(__name__)

MISS_REFRESH_SECONDS = 10.0
"""How often, at most, a missing conn_id that matches `connections_lookup_pattern` has everything listed again."""

_THREADS = 16
_FIRST_RETRY_SECONDS = 10.0
_LOOK_SECONDS = 5.0
_SPREAD = 0.1


class Lister(Protocol):
    """What the catalog needs of AWS; `aws.door.Aws` is the real one."""

    def scopes(self) -> Sequence[Scope]:
        """Everything there is to list."""

    def list(self, scope: Scope) -> Sequence[Warehouse]:
        """The tagged warehouses of one scope."""

    def look(self, seen: Warehouse) -> Warehouse:
        """One warehouse as it is at this moment."""


@dataclass(frozen=True)
class Listing:
    """What is known of one scope. `listed_at` is `None` until it was listed once; `error` is why the last try failed."""

    scope: Scope
    warehouses: tuple[Warehouse, ...] = ()
    listed_at: float | None = None
    error: str | None = None
    failures: int = 0
    due_at: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """Everything that is known at one moment, with an index from conn_id to the warehouses that claim it."""

    listings: tuple[Listing, ...]
    taken_at: float
    claims: Mapping[str, tuple[Warehouse, ...]] = field(repr=False)
    ignored: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def unseen(self) -> tuple[Listing, ...]:
        """The scopes of which nothing is known: what lives there can be neither found nor ruled out."""
        return tuple(listing for listing in self.listings if listing.listed_at is None)


class Catalog:
    """Finds connection specs. `clock` gives seconds since the epoch, `monotonic` seconds on a clock that never jumps,
    `rand` numbers from 0 to 1 to spread renewals."""

    def __init__(
        self,
        settings: Settings,
        aws: Lister,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._aws = aws
        self._clock = clock
        self._monotonic = monotonic
        self._rand = rand
        self._cache: AgedCache[str, Snapshot] = AgedCache(
            lambda _key: "the catalog of warehouses", clock=clock, maxsize=1
        )
        self._looks: AgedCache[str, Warehouse] = AgedCache(lambda arn: f"the state of {arn}", clock=clock)
        self._last: Snapshot | None = None
        self._miss_failed_at = float("-inf")

    def snapshot(self, deadline: Deadline) -> Snapshot:
        """Return what is known; lists everything first where nothing usable is.

        Raises `CatalogUnavailableError` when nothing could be listed and `DeadlineError` when that took too long.
        """
        return self._cache.get("all", self._renew, deadline)

    def renewed_for_miss(self, snapshot: Snapshot, deadline: Deadline) -> Snapshot:
        """Return what is known after listing again, which is done at most once in `MISS_REFRESH_SECONDS`.

        Scopes in back-off are left alone. Where listing fails, what was known before is the answer.
        """
        newest = self._last or snapshot
        if self._clock() < max(newest.taken_at, self._miss_failed_at) + MISS_REFRESH_SECONDS:
            return newest
        try:
            return self._cache.renewed("all", functools.partial(self._renew, at_once=True), deadline)
        except RedshiftSecretsError as error:
            self._miss_failed_at = self._clock()
            log.warning("the catalog could not be listed again for a missing conn_id: %s", error)
            return newest

    def specs(self, snapshot: Snapshot, conn_id: str) -> tuple[ConnectionSpec, ...]:
        """Return one spec for each warehouse that claims `conn_id`, the oldest warehouse first."""
        claims = sorted(snapshot.claims.get(conn_id, ()), key=lambda warehouse: (warehouse.created_at, warehouse.arn))
        return tuple(specs.build(warehouse, conn_id, self._settings) for warehouse in claims)

    def look(self, spec: ConnectionSpec, deadline: Deadline) -> ConnectionSpec:
        """Return the spec with its warehouse as it is at this moment, asked of AWS at most once in a few seconds."""

        def ask() -> Aged[Warehouse]:
            # Its tags stay those it was listed with, which decided that it has the conn_id and which team may ask.
            warehouse = replace(self._aws.look(spec.warehouse), tags=spec.warehouse.tags)
            until = self._clock() + _LOOK_SECONDS
            return Aged(warehouse, until, until)

        warehouse = self._looks.get(spec.warehouse.arn, ask, deadline)
        return specs.build(warehouse, spec.conn_id, self._settings)

    def _renew(self, *, at_once: bool = False) -> Aged[Snapshot]:
        """List what is due (with `at_once`, all that is not in back-off) and take a new snapshot of all that is known."""
        now = self._clock()
        known = {listing.scope: listing for listing in self._last.listings} if self._last else {}
        listings = [self._kept(known.get(scope, Listing(scope)), now) for scope in dict.fromkeys(self._aws.scopes())]
        # Who was a moment too late to join the listing for another miss does not start one more.
        at_once = at_once and (self._last is None or now >= self._last.taken_at + MISS_REFRESH_SECONDS)
        due = [x for x in listings if x.due_at <= now or (at_once and x.failures == 0)]
        # Half of the time of a lookup: the other half is for minting, also while one region does not answer.
        deadline = Deadline(self._settings.aws_timeout_seconds / 2, self._monotonic)
        calls = [functools.partial(self._aws.list, listing.scope) for listing in due]
        answers = dict(zip((x.scope for x in due), run_all(calls, threads=_THREADS, deadline=deadline), strict=True))
        listings = [self._updated(x, answers[x.scope], deadline) if x.scope in answers else x for x in listings]
        if all(listing.listed_at is None for listing in listings):
            raise CatalogUnavailableError([f"{x.scope}: {x.error}" for x in listings])
        snapshot = self._last = _snapshot(listings, now, self._settings)
        oldest = min(x.listed_at for x in listings if x.listed_at is not None)
        return Aged(
            snapshot,
            fresh_until=min(listing.due_at for listing in listings),
            usable_until=oldest + self._settings.catalog_max_stale_seconds,
        )

    def _kept(self, listing: Listing, now: float) -> Listing:
        """The listing, without what was last known of it where that is too old to be served."""
        if listing.listed_at is None or now < listing.listed_at + self._settings.catalog_max_stale_seconds:
            return listing
        return replace(listing, warehouses=(), listed_at=None)

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
        pause = min(_FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 10), max(ttl, _FIRST_RETRY_SECONDS))
        kept = "nothing is known of it" if before.listed_at is None else "what was last known of it is kept"
        log.warning("%s could not be listed, %s: %s", before.scope, kept, error)
        return replace(before, error=error, failures=failures, due_at=now + pause)


def _snapshot(listings: Sequence[Listing], now: float, settings: Settings) -> Snapshot:
    claims: dict[str, list[Warehouse]] = {}
    ignored: list[str] = []
    problems: list[str] = []
    # One warehouse may be seen twice, as two identities: the first one that is listed serves it.
    warehouses = {warehouse.arn: warehouse for x in reversed(listings) for warehouse in reversed(x.warehouses)}
    for warehouse in reversed(warehouses.values()):
        reason = specs.ineligible(warehouse, settings)
        if reason is not None:
            ignored.append(reason)
            continue
        conn_ids, wrong = tags.claimed(warehouse.tags, settings.tag_prefix)
        problems += [f"{problem} (on {warehouse})" for problem in wrong]
        for conn_id in conn_ids:
            claims.setdefault(conn_id, []).append(warehouse)
    for problem in problems:
        log.warning("%s", problem)
    return Snapshot(
        listings=tuple(listings),
        taken_at=now,
        claims={conn_id: tuple(found) for conn_id, found in claims.items()},
        ignored=tuple(ignored),
        problems=tuple(problems),
    )
