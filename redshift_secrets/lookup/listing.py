"""What was listed of one scope: connection specs by conn_id, and how a lookup reads only its own of them. Pure.

In a shared tier a listing is msgpack, never a pickle: one row, or where it is long a fixed number of small ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from msgspec import MsgspecError, Struct, msgpack

from redshift_secrets.cache.store import Rows
from redshift_secrets.errors import one_line
from redshift_secrets.lookup import tags
from redshift_secrets.lookup.spec import build_spec, ineligible
from redshift_secrets.model import ConnectionSpec, VpcEndpoint, Warehouse, reveal
from redshift_secrets.settings import Settings

_ALL, _PROBLEMS = "all", "problems"
_ONE_ROW = 32
"""So many conn_ids are read at once."""
_BUCKETS = 512
"""Rows that more conn_ids are spread over. Their number is fixed, so that each one is there, also when it is empty: a row
that is missing or damaged can then not be taken for a conn_id that no warehouse claims."""

ALL_ROWS: Sequence[str] = (_ALL, _PROBLEMS, *map(str, range(_BUCKETS)))
"""The names of all rows that a listing may have."""

Specs = Mapping[str, tuple[ConnectionSpec, ...]]


class Listing(Struct, frozen=True):
    """The specs of one scope by conn_id, all of them or those of some conn_ids.

    `ignored` says which warehouses may claim nothing on this site, `problems` are tags that cannot be read or have no effect,
    `unread` says of which warehouses it is not known what they claim.
    """

    specs: Specs
    ignored: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


class ClaimChange(Struct, frozen=True):
    """A conn_id that other warehouses of a scope claim than in the listing before: those that no longer do, and those that
    now do."""

    conn_id: str
    lost: tuple[Warehouse, ...]
    gained: tuple[Warehouse, ...]

    @property
    def kind(self) -> str:
        """`appeared`, `vanished` or `moved`."""
        if self.lost and self.gained:
            return "moved"
        return "appeared" if self.gained else "vanished"

    def __str__(self) -> str:
        lost, gained = map(str, self.lost), map(str, self.gained)
        if {each.arn for each in self.lost} & {each.arn for each in self.gained}:
            lost, gained = map(_with_creation, self.lost), map(_with_creation, self.gained)
        of, to = " and ".join(lost), " and ".join(gained)
        if self.kind == "moved":
            return f"connection {self.conn_id!r}: the claim moved from {of} to {to}"
        if self.kind == "appeared":
            return f"connection {self.conn_id!r} is now claimed by {to}"
        return f"connection {self.conn_id!r} is no longer claimed by {of}"


def claim_changes(before: Specs, now: Specs) -> list[ClaimChange]:
    """Return what has changed between two listings of one scope. A warehouse that was deleted and created again under its
    name is another one."""
    changes = []
    for conn_id in sorted({*before, *now}):
        old, new = ([spec.warehouse for spec in specs.get(conn_id, ())] for specs in (before, now))
        lost = tuple(each for each in old if not any(_is_same(each, other) for other in new))
        gained = tuple(each for each in new if not any(_is_same(each, other) for other in old))
        if lost or gained:
            changes.append(ClaimChange(conn_id, lost, gained))
    return changes


def _is_same(one: Warehouse, other: Warehouse) -> bool:
    times = {one.created_at, other.created_at} - {float("inf")}  # while it is being created, it has no time
    return one.arn == other.arn and len(times) < 2


def _with_creation(warehouse: Warehouse) -> str:
    if warehouse.created_at == float("inf"):
        return f"{warehouse} in creation"
    created = datetime.fromtimestamp(warehouse.created_at, timezone.utc)
    return f"{warehouse} created at {created:%Y-%m-%dT%H:%M:%SZ}"


def build_listing(warehouses: Sequence[Warehouse], settings: Settings) -> Listing:
    """Return the listing of these warehouses."""
    specs: dict[str, list[ConnectionSpec]] = {}
    ignored: list[str] = []
    problems: list[str] = []
    unread: list[str] = []
    for warehouse in warehouses:
        reason = ineligible(warehouse, settings)
        if reason is not None:
            ignored.append(one_line(reason))
            continue
        for what, why in warehouse.unknown.items():
            if what in ("identity", "tags"):
                problems.append(one_line(f"{why} (on {warehouse})"))
                unread += problems[-1:] if what == "tags" else ()
        conn_ids, wrong = tags.claimed(warehouse.tags, settings.tag_prefix)
        problems += [one_line(f"{problem} (on {warehouse})") for problem in wrong]
        for conn_id in conn_ids:
            if not settings.looks_up(conn_id):
                problems.append(
                    f"tag {settings.tag_prefix}{tags.MARKER}: {_why_not(conn_id, settings)} (on {warehouse})"
                )
                continue
            specs.setdefault(conn_id, []).append(build_spec(warehouse, conn_id, settings))
    found = {conn_id: tuple(claims) for conn_id, claims in specs.items()}
    return Listing(found, tuple(ignored), tuple(problems), tuple(unread))


def _why_not(conn_id: str, settings: Settings) -> str:
    """Return why no warehouse can claim a conn_id that is well formed."""
    if settings.managed_conn_ids is not None and not settings.managed_conn_ids.match(conn_id):
        return f"{conn_id!r} is outside managed_conn_ids, so no tag can claim it"
    return f"{conn_id!r} does not match connections_lookup_pattern, so it is never looked up"


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
