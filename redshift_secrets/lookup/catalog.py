"""The catalog: every connection spec that can be seen from here, by conn_id.

Each scope (one kind of warehouse, one region, one account) is an item of its own: it is listed, fails, and is kept for as
long as docs/contract.md, "Ages", says, whatever becomes of the others. What may be decided where some of them are not
known: "Looking a conn_id up".

In a shared tier a listing is msgpack, never a pickle: one row, or where it is long a fixed number of small ones, of which a
lookup reads only that of its conn_id.
"""

from __future__ import annotations

import functools
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import MsgspecError, Struct, msgpack
from msgspec.structs import replace

from redshift_secrets.cache import get_logger
from redshift_secrets.cache.entry import Entry, Item
from redshift_secrets.cache.refresh import Refresher
from redshift_secrets.cache.store import Rows
from redshift_secrets.cache.workers import Lookup
from redshift_secrets.errors import ENDLESS_PAGING, AwsError, RedshiftSecretsError, known_error
from redshift_secrets.lookup.listing import Listing, build_listing, claim_changes
from redshift_secrets.lookup.metrics import CATALOG_REFRESHES, Metrics
from redshift_secrets.lookup.reasons import unanswered
from redshift_secrets.model import ConnectionSpec, Scope, VpcEndpoint, Warehouse, WarehouseKind, reveal
from redshift_secrets.settings import Settings

if TYPE_CHECKING:
    from redshift_secrets.cache.recall import Recall
    from redshift_secrets.lookup.audit import Audit

log = get_logger(__name__)

_WAIT_AFTER = 3
"""After so many times `catalog_ttl_seconds` a lookup waits for a new listing, and uses the old one only where that fails."""
_MISSING_SECONDS = 10.0
"""How long a missing conn_id that matches `managed_conn_ids` is not looked for again, at first."""
_MISSING_KEPT_SECONDS = 3600.0
"""How long it is known after that how many times it was looked for: what a DAG asks for every hour has been missing all the time."""
_STATE_SECONDS = 5.0
_ROW = ("value",)
_ALL, _PROBLEMS = "all", "problems"
_ONE_ROW = 32
"""So many conn_ids are read at once."""
_BUCKETS = 512
"""Rows that more conn_ids are spread over. Their number is fixed, so that each one is there, also when it is empty: a row
that is missing or damaged can then not be taken for a conn_id that no warehouse claims."""

ALL_ROWS: Sequence[str] = (_ALL, _PROBLEMS, *map(str, range(_BUCKETS)))
"""The names of all rows that a listing may have."""

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
        seen, unseen = divide(dict(zip(scopes, entries, strict=True)))
        specs = merge([entry.value.specs.get(conn_id, ()) for entry in seen.values()])
        return Claims(
            specs,
            scopes,
            unseen,
            min((entry.made_at for entry in seen.values()), default=float("-inf")),
            min((entry.stale_at for entry in seen.values()), default=float("-inf")),
        )

    def find_missing(self, conn_id: str, claims: Claims, lookup: Lookup) -> Claims:
        """Return what is known of a conn_id that was not found, after listing again where the last time is long enough ago.

        That is 10 s at first, doubling up to `catalog_ttl_seconds`, for all processes together. What was listed for another one
        that is missing counts, so that many cause no more listings than one.
        """
        now, item = self._refresher.clock(), self._missing(conn_id)
        known = self._refresher.peek(item, lookup)
        again_at = claims.listed_at + _MISSING_SECONDS if known is None else known.stale_at
        # A lookup that searches is tried again when the new listings are there.
        if now >= again_at or (known is None and lookup.searches):
            times = 0 if known is None else known.value
            since = now - self._pause(times)
            if claims.listed_at <= since or lookup.searches:
                lookup.searches = True
                claims = self.find(conn_id, lookup, since)
            looked_at = now if lookup.searches else claims.listed_at
            again_at = looked_at + self._pause(times + 1)
            forgotten_at = again_at + max(_MISSING_KEPT_SECONDS, self._settings.catalog_ttl_seconds)
            if not claims.specs and lookup.hurry is None:
                self._refresher.put(item, Entry(times + 1, now, again_at, forgotten_at, forgotten_at))
            if claims.listed_at <= since:
                return replace(claims, stale_at=now)  # the listing may still come, and have it
        return claims if claims.specs else replace(claims, stale_at=min(claims.stale_at, again_at))

    def _pause(self, times: int) -> float:
        """How long a conn_id that was looked for and not found so many times is not looked for again."""
        longest = max(_MISSING_SECONDS, self._settings.catalog_ttl_seconds)
        return min(_MISSING_SECONDS * (1 << min(times, 20)), longest)

    def refresh_behind(self, spec: ConnectionSpec, since: float) -> None:
        """List again behind the lookups what was listed before AWS has shown, at `since` (seconds since the epoch), that it is no
        longer true. Where a later listing says the same, it is not the listing that is wrong."""
        warehouse = spec.warehouse
        scope = Scope(warehouse.kind, warehouse.region, warehouse.role_arn)
        known = self._refresher.cached(self._listing(scope, rows_of(spec.conn_id), spec.conn_id))
        if known is None or known.made_at <= since:
            self._refresher.refresh_behind(self._listing(scope, ALL_ROWS), since)

    def listings(self, lookup: Lookup, since: float = float("-inf")) -> dict[Scope, Entry[Listing] | Exception]:
        """Return the listing of each scope, or why there is none; made after `since` (seconds since the epoch) where AWS answers."""
        scopes = self._scopes(lookup)
        entries = self._refresher.get([self._listing(scope, ALL_ROWS) for scope in scopes], lookup, since)
        return dict(zip(scopes, entries, strict=True))

    def names(self, lookup: Lookup, conn_ids: Sequence[str] = ()) -> list[str]:
        """Return the names under which listings are cached, and how often these conn_ids were missing."""
        listings = [self._listing(scope, ALL_ROWS).name for scope in self._scopes(lookup)]
        return listings + [self._missing(conn_id).name for conn_id in conn_ids]

    def keep_for_comparison(self, lookup: Lookup) -> None:
        """Keep what was listed where a flush of the catalog leaves it: the next listing is compared with it."""
        for scope in self._scopes(lookup):
            listed = self._refresher.newest(self._listing(scope, ALL_ROWS))
            if listed is not None:
                self._refresher.put(self._listing_before(scope), listed)

    def cached_listings(self) -> dict[Scope, Entry[Listing]]:
        """Return each listing that the nearest shared tier has, without asking AWS."""
        region = None if self._home() else self._refresher.cached(self._region())
        scopes = scopes_to_list(self._settings, self._home() or ((region.value,) if region else ()))
        found = ((scope, self._refresher.cached(self._listing(scope, ALL_ROWS))) for scope in scopes)
        return {scope: entry for scope, entry in found if entry is not None}

    def describe(self, spec: ConnectionSpec, lookup: Lookup) -> ConnectionSpec:
        """Return the spec with its warehouse as it is at this moment; all processes together ask AWS at most once in a few
        seconds."""
        from redshift_secrets.lookup.spec import build_spec  # as in `build_listing`

        listed = spec.warehouse

        def ask(_recall: Recall) -> Entry[Warehouse]:
            found, now = self._aws.describe(listed), self._refresher.clock()
            until = now + _STATE_SECONDS
            return Entry(found, now, until, until, until)

        item = Item(
            _name_of_state(listed),
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

    def failing_since(self, spec: ConnectionSpec) -> float:
        """Return since when the look at the warehouse of a spec has failed each time, in seconds since the epoch; now where it has
        not."""
        return self._refresher.failing_since(_name_of_state(spec.warehouse))

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

    def _listing_before(self, scope: Scope) -> Item[Listing]:
        """The listing that was removed by the last flush of the catalog."""
        return replace(self._listing(scope, ALL_ROWS), name=f"before {scope.kind} {scope.region} {scope.role_arn}")

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
        if before is None:
            before = self._refresher.newest(self._listing_before(scope))
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


def divide(
    entries: Mapping[Scope, Entry[Listing] | Exception],
) -> tuple[dict[Scope, Entry[Listing]], tuple[Unseen, ...]]:
    """Return the scopes that something is known of, with what that is, and those that nothing is known of."""
    seen = {scope: entry for scope, entry in entries.items() if isinstance(entry, Entry)}
    failed = [(scope, entry) for scope, entry in entries.items() if isinstance(entry, Exception)]
    return seen, tuple(Unseen(scope, known_error(error)) for scope, error in failed)


def merge(found: Sequence[tuple[ConnectionSpec, ...]]) -> tuple[ConnectionSpec, ...]:
    """Return the specs of one conn_id in all scopes, the oldest warehouse first."""
    # One warehouse may be listed twice, through two roles: the first of them serves it.
    by_arn = {spec.warehouse.arn: spec for specs in reversed(found) for spec in specs}
    if len(by_arn) < 2:
        return tuple(by_arn.values())
    return tuple(sorted(by_arn.values(), key=lambda spec: (spec.warehouse.created_at, spec.warehouse.arn)))


def _name_of_state(warehouse: Warehouse) -> str:
    return f"state {warehouse.arn} {warehouse.role_arn}"


def _to_row(value: object) -> dict[str, bytes]:
    return {_ROW[0]: msgpack.encode(value)}


def _from_row(kind: type[Any]) -> Callable[[Any], Any]:
    def decode(rows: Any) -> Any:
        try:
            return msgpack.decode(rows[_ROW[0]], type=kind)
        except (KeyError, MsgspecError):
            return None

    return decode


# --- the rows of a listing


def listing_to_rows(listing: Listing) -> Rows:
    """Return a listing as rows."""
    problems = {_PROBLEMS: msgpack.encode((listing.ignored, listing.problems, listing.unread))}
    if len(listing.specs) <= _ONE_ROW:
        return {_ALL: msgpack.encode(listing.specs, enc_hook=reveal), **problems}
    buckets: dict[str, dict[str, tuple[ConnectionSpec, ...]]] = {str(number): {} for number in range(_BUCKETS)}
    for conn_id, found in listing.specs.items():
        buckets[_bucket(conn_id)][conn_id] = found
    return {name: msgpack.encode(specs, enc_hook=reveal) for name, specs in buckets.items()} | problems


def rows_of(conn_id: str) -> Sequence[str]:
    """Return the names of the rows one of which has the specs of a conn_id."""
    return _ALL, _bucket(conn_id)


def listing_from_rows(rows: Rows, conn_id: str | None = None) -> Listing | None:
    """Return the listing that these rows carry, or as much of it, or what it has of one conn_id; `None` for rows that carry none."""
    try:
        specs: dict[str, tuple[ConnectionSpec, ...]] = {}
        claims = {name: row for name, row in rows.items() if name != _PROBLEMS}
        for row in claims.values():
            listed = msgpack.decode(row)
            wanted = listed.keys() if conn_id is None else listed.keys() & {conn_id}
            specs |= {each: tuple(map(_spec, listed[each])) for each in wanted}
        ignored, problems, unread = msgpack.decode(rows[_PROBLEMS]) if _PROBLEMS in rows else ((), (), ())
        return Listing(specs, tuple(ignored), tuple(problems), tuple(unread)) if claims else None
    except (AttributeError, KeyError, MsgspecError, TypeError, ValueError):
        return None


def _spec(raw: dict[str, Any]) -> ConnectionSpec:
    # By hand: for a decoder of its own, msgspec looks at each annotation, which would double the time to import this module.
    warehouse = raw["warehouse"]
    endpoints = tuple(VpcEndpoint(**endpoint) for endpoint in warehouse.pop("vpc_endpoints"))
    lists = {name: tuple(raw[name]) for name in ("db_groups", "db_roles", "errors", "warnings")}
    if raw["own_address"] is not None:
        lists["own_address"] = tuple(raw["own_address"])
    return ConnectionSpec(**{**raw, **lists, "warehouse": Warehouse(**warehouse, vpc_endpoints=endpoints)})


def _bucket(conn_id: str) -> str:
    return str(zlib.crc32(conn_id.encode("utf-8", "surrogatepass")) % _BUCKETS)
