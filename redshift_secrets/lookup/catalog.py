"""The catalog: every connection spec that can be seen from here, by conn_id.

Each scope (one kind of warehouse, one region, one account) is an item of its own: it is listed, fails, and is kept for as
long as docs/contract.md, "Ages", says, whatever becomes of the others. What may be decided where some of them are not
known: "Looking a conn_id up".
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import MsgspecError, Struct, msgpack
from msgspec.structs import replace

from redshift_secrets.cache.entry import Entry, Item
from redshift_secrets.cache.recall import Recall
from redshift_secrets.cache.refresh import Lookup, Refresher
from redshift_secrets.errors import ENDLESS_PAGING, AwsError, RedshiftSecretsError, known_error
from redshift_secrets.lookup.listing import (
    ALL_ROWS,
    Listing,
    Specs,
    build_listing,
    claim_changes,
    listing_from_rows,
    listing_to_rows,
    rows_of,
)
from redshift_secrets.lookup.metrics import CATALOG_REFRESHES, Metrics
from redshift_secrets.lookup.reasons import unanswered
from redshift_secrets.lookup.spec import build_spec
from redshift_secrets.model import ConnectionSpec, Scope, Warehouse, WarehouseKind
from redshift_secrets.settings import Settings

if TYPE_CHECKING:
    from redshift_secrets.lookup.audit import Audit

log = logging.getLogger(__name__)

_WAIT_AFTER = 3
"""After so many times `catalog_ttl_seconds` a lookup waits for a new listing, and uses the old one only where that fails."""
_MISSING_SECONDS = 10.0
"""How long a missing conn_id that matches `managed_conn_ids` is not looked for again, at first."""
_STATE_SECONDS = 5.0
_ROW = ("value",)
_KINDS: Mapping[str, WarehouseKind] = {"clusters": "cluster", "workgroups": "workgroup"}
"""What the setting `warehouses` may name."""


class WarehouseLister(Protocol):
    """What the catalog needs of AWS; `aws.client.AwsClient` implements it."""

    def default_region(self) -> str:
        """Return the region to look in where the settings name none."""

    def list(self, scope: Scope, recall: Callable[[str, Callable[[], Any]], Any]) -> Sequence[Warehouse]:
        """Return the tagged warehouses of one scope, with what `recall` has of an attempt before."""

    def describe(self, warehouse: Warehouse) -> Warehouse:
        """Return one warehouse as it is at this moment."""

    def unanswered(self, kind: WarehouseKind, region: str) -> Sequence[str]:
        """Return the endpoints that were asked about warehouses of a kind in a region and have not answered yet."""


class Unseen(Struct, frozen=True):
    """A scope that nothing is known of, and why."""

    scope: Scope
    error: RedshiftSecretsError

    def __str__(self) -> str:
        return f"{self.scope}: {self.error}"

    @property
    def is_denied(self) -> bool:
        """Whether it may not be listed, which will not change by itself."""
        return getattr(self.error, "is_denied", False)


class Claims(Struct, frozen=True):
    """What is known of one conn_id: the specs of the warehouses that claim it, the oldest warehouse first.

    `scopes` are those that were looked at, `unseen` those of them that may claim it, too. The rest is in seconds since the epoch: when the oldest listing was made,
    and until when all are fresh.
    """

    specs: tuple[ConnectionSpec, ...]
    scopes: tuple[Scope, ...]
    unseen: tuple[Unseen, ...]
    listed_at: float
    stale_at: float


class Snapshot(Struct, frozen=True):
    """Everything that is known: specs by conn_id, scopes of which something is and of which nothing is, and what was left out
    of listings and why, as `Listing` has it.

    When the oldest and the newest listing were made, and until when all are fresh, is in seconds since the epoch.
    """

    specs: Specs
    seen: tuple[Scope, ...]
    unseen: tuple[Unseen, ...]
    ignored: tuple[str, ...]
    problems: tuple[str, ...]
    unread: tuple[str, ...]
    listed_at: float
    newest_at: float
    stale_at: float


def scopes_to_list(settings: Settings, home: Sequence[str]) -> tuple[Scope, ...]:
    """Return everything there is to list: each kind, in every region of every account, `home` being the caller's regions."""
    places: list[tuple[str | None, str]] = [(None, region) for region in home]
    for account in settings.accounts:
        places += [(account.role_arn, region) for region in account.regions or home]
    kinds = [kind for name, kind in _KINDS.items() if name in settings.warehouses]
    return tuple(dict.fromkeys(Scope(kind, region, role) for role, region in places for kind in kinds))


class Catalog:
    """Finds the specs of a conn_id. Whatever takes a `Lookup` raises `MustWait` where that has to wait."""

    def __init__(
        self,
        settings: Settings,
        aws: WarehouseLister,
        refresher: Refresher,
        metrics: Metrics,
        audit: Audit | None = None,
    ) -> None:
        self._settings = settings
        self._aws = aws
        self._refresher = refresher
        self._metrics = metrics
        self._audit = audit

    def find(self, conn_id: str, lookup: Lookup, since: float = float("-inf")) -> Claims:
        """Return what is known of `conn_id`, with listings made after `since` (seconds since the epoch) where AWS answers."""
        scopes = self._scopes(lookup)
        rows = rows_of(conn_id)
        entries = self._refresher.get([self._listing(scope, rows, conn_id) for scope in scopes], lookup, since)
        seen, unseen = _divide(scopes, entries)
        specs = _merge([entry.value.specs.get(conn_id, ()) for entry in seen])
        return Claims(
            specs,
            scopes,
            unseen,
            min((entry.made_at for entry in seen), default=float("-inf")),
            min((entry.stale_at for entry in seen), default=float("-inf")),
        )

    def find_missing(self, conn_id: str, claims: Claims, lookup: Lookup) -> Claims:
        """Return what is known of a conn_id that was not found, after listing again where the last time is long enough ago.

        That is 10 s at first, doubling up to `catalog_ttl_seconds`, for all processes together.
        """
        now, ttl = self._refresher.clock(), self._settings.catalog_ttl_seconds
        again_at = claims.listed_at + _MISSING_SECONDS
        if now >= again_at or lookup.searches:  # which is tried again when the new listings are there
            item = self._missing(conn_id)
            known = self._refresher.peek(item, lookup)
            if known is None or now >= known.stale_at:
                lookup.searches = True
                since = now - _MISSING_SECONDS
                claims = self.find(conn_id, lookup, since)
                times = 1 if known is None else known.value + 1
                pause = min(_MISSING_SECONDS * 2 ** min(times, 20), max(_MISSING_SECONDS, ttl))
                known = Entry(times, now, now + pause, now + pause + ttl, now + pause + ttl)
                if not claims.specs and lookup.hurry is None:
                    self._refresher.put(item, known)
                if claims.listed_at <= since:
                    return replace(claims, stale_at=now)  # the listing may still come, and have it
            again_at = known.stale_at
        return claims if claims.specs else replace(claims, stale_at=min(claims.stale_at, again_at))

    def refresh_behind(self, spec: ConnectionSpec) -> None:
        """List again behind the lookups, since AWS has shown that what was listed is no longer true."""
        warehouse = spec.warehouse
        scope = Scope(warehouse.kind, warehouse.region, warehouse.role_arn)
        self._refresher.refresh_behind(self._listing(scope, ALL_ROWS), self._refresher.clock())

    def snapshot(self, lookup: Lookup, since: float = float("-inf")) -> Snapshot:
        """Return everything that is known, with listings made after `since` (seconds since the epoch) where AWS answers."""
        scopes = self._scopes(lookup)
        items = [self._listing(scope, ALL_ROWS) for scope in scopes]
        return _snapshot(scopes, self._refresher.get(items, lookup, since))

    def names(self, lookup: Lookup) -> list[str]:
        """Return the names under which listings are cached."""
        return [self._listing(scope, ALL_ROWS).name for scope in self._scopes(lookup)]

    def cached(self) -> Snapshot | None:
        """Return what the nearest shared tier has of the whole catalog, without asking AWS."""
        region = None if self._home() else self._refresher.cached(self._region())
        scopes = scopes_to_list(self._settings, self._home() or ((region.value,) if region else ()))
        found = [(scope, self._refresher.cached(self._listing(scope, ALL_ROWS))) for scope in scopes]
        known = [(scope, entry) for scope, entry in found if entry is not None]
        return _snapshot([scope for scope, _ in known], [entry for _, entry in known]) if known else None

    def describe(self, spec: ConnectionSpec, lookup: Lookup) -> ConnectionSpec:
        """Return the spec with its warehouse as it is at this moment; all processes together ask AWS at most once in a few
        seconds."""
        listed = spec.warehouse

        def ask(_recall: Recall) -> Entry[Warehouse]:
            found, now = self._aws.describe(listed), self._refresher.clock()
            until = now + _STATE_SECONDS
            return Entry(found, now, until, until, until)

        item = Item(
            f"state {listed.arn} {listed.role_arn}",
            lambda: f"the state of {listed}",
            ask,
            _to_row,
            _from_row(Warehouse),
            _ROW,
            _ROW,
            unanswered=functools.partial(self._unanswered, Scope(listed.kind, listed.region, listed.role_arn)),
        )
        found = self._refresher.get_one(item, lookup).value
        # Its tags stay those it was listed with, which decided that it has the conn_id and which team may ask.
        return build_spec(replace(found, tags=listed.tags), spec.conn_id, self._settings)

    def _scopes(self, lookup: Lookup) -> tuple[Scope, ...]:
        """Everything there is to list: each kind, in every region of every account."""
        return scopes_to_list(self._settings, self._home() or (self._refresher.get_one(self._region(), lookup).value,))

    def _home(self) -> tuple[str, ...]:
        settings = self._settings
        return settings.regions or ((settings.region_name,) if settings.region_name else ())

    def _region(self) -> Item[str]:
        """The region of the caller, which a lookup on a warm host need not load boto3 to know."""

        def ask(_recall: Recall) -> Entry[str]:
            return self._aged(self._aws.default_region(), self._refresher.clock())

        return Item("region", lambda: "the AWS region of this process", ask, _to_row, _from_row(str), _ROW, _ROW)

    def _missing(self, conn_id: str) -> Item[int]:
        """How many times a conn_id was looked for and not found; fresh until it is to be looked for again."""
        return Item(
            f"missing {conn_id}", lambda: f"the search for {conn_id!r}", None, _to_row, _from_row(int), _ROW, _ROW
        )

    def _listing(self, scope: Scope, rows: Sequence[str], conn_id: str | None = None) -> Item[Listing]:
        """The listing of a scope, of which a store returns some rows, and of those what they have of one conn_id, if one is given."""
        return Item(
            f"listing {scope.kind} {scope.region} {scope.role_arn}",
            lambda: f"the list of {scope}",
            functools.partial(self._list, scope),
            listing_to_rows,
            listing_from_rows if conn_id is None else functools.partial(listing_from_rows, conn_id=conn_id),
            rows,
            ALL_ROWS,
            kept=False,
            unanswered=functools.partial(self._unanswered, scope),
        )

    def _unanswered(self, scope: Scope) -> str:
        return unanswered(self._aws.unanswered(scope.kind, scope.region), scope, self._settings)

    def _list(self, scope: Scope, recall: Recall) -> Entry[Listing]:
        listed_at = recall.began_at
        try:
            listing = build_listing(self._aws.list(scope, recall), self._settings)
        except AwsError as error:
            if error.code == ENDLESS_PAGING:
                recall.forget()  # going on from there would not end either
            raise
        self._metrics.incr(CATALOG_REFRESHES)
        before = self._refresher.newest(self._listing(scope, ALL_ROWS))
        self._report(listing, before.value if before is not None else None)
        return self._aged(listing, listed_at)

    def _report(self, listing: Listing, before: Listing | None) -> None:
        """Log and write down what is new in a listing: in the one process that has made it for all, and once, not every few minutes."""
        for problem in listing.problems:
            if before is None or problem not in before.problems:
                log.warning("%s", problem)
        for change in claim_changes(before.specs, listing.specs) if before is not None else ():
            log.log(logging.WARNING if change.kind == "moved" else logging.INFO, "%s", change)
            if self._audit is not None:
                with suppress(Exception):
                    self._audit.claim_changed(change)

    def _aged(self, value: Any, made_at: float) -> Entry[Any]:
        ttl = self._settings.catalog_ttl_seconds
        return Entry(
            value,
            made_at,
            made_at + ttl,
            made_at + min(_WAIT_AFTER * ttl, self._settings.catalog_max_stale_seconds),
            made_at + self._settings.catalog_max_stale_seconds,
        )


def _divide(
    scopes: Sequence[Scope], entries: Sequence[Entry[Listing] | Exception]
) -> tuple[list[Entry[Listing]], tuple[Unseen, ...]]:
    seen = [entry for entry in entries if isinstance(entry, Entry)]
    failed = [(x, entry) for x, entry in zip(scopes, entries, strict=True) if isinstance(entry, Exception)]
    return seen, tuple(Unseen(scope, known_error(error)) for scope, error in failed)


def _merge(found: Sequence[tuple[ConnectionSpec, ...]]) -> tuple[ConnectionSpec, ...]:
    """The specs of one conn_id in all scopes, the oldest warehouse first."""
    # One warehouse may be listed twice, through two roles: the first of them serves it.
    by_arn = {spec.warehouse.arn: spec for specs in reversed(found) for spec in specs}
    if len(by_arn) < 2:
        return tuple(by_arn.values())
    return tuple(sorted(by_arn.values(), key=lambda spec: (spec.warehouse.created_at, spec.warehouse.arn)))


def _snapshot(scopes: Sequence[Scope], entries: Sequence[Entry[Listing] | Exception]) -> Snapshot:
    seen, unseen = _divide(scopes, entries)
    listings = [entry.value for entry in seen]
    conn_ids = dict.fromkeys(conn_id for listing in listings for conn_id in listing.specs)
    return Snapshot(
        {conn_id: _merge([listing.specs.get(conn_id, ()) for listing in listings]) for conn_id in conn_ids},
        tuple(scope for scope, entry in zip(scopes, entries, strict=True) if isinstance(entry, Entry)),
        unseen,
        tuple(reason for listing in listings for reason in listing.ignored),
        tuple(problem for listing in listings for problem in listing.problems),
        tuple(why for listing in listings for why in listing.unread),
        min((entry.made_at for entry in seen), default=float("-inf")),
        max((entry.made_at for entry in seen), default=float("-inf")),
        min((entry.stale_at for entry in seen), default=float("-inf")),
    )


def _to_row(value: object) -> dict[str, bytes]:
    return {_ROW[0]: msgpack.encode(value)}


def _from_row(kind: type[Any]) -> Callable[[Any], Any]:
    def decode(rows: Any) -> Any:
        try:
            return msgpack.decode(rows[_ROW[0]], type=kind)
        except (KeyError, MsgspecError):
            return None

    return decode
