"""What is known of all warehouses at one moment, and how a lookup that needs one conn_id of it reads no more. Pure."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence

from msgspec import Struct

from redshift_secrets.lookup import spec as specs
from redshift_secrets.lookup import tags
from redshift_secrets.lookup.rows import listings_to_bytes, warehouses_from_bytes, warehouses_to_bytes
from redshift_secrets.model import Listing, Private, Warehouse
from redshift_secrets.settings.settings import Settings

META, LISTINGS = "head", "listings"
"""Rows of a catalog in a shared tier: what every lookup reads, and what only who lists again does."""

_CLAIMS = "claims "
_BUCKETS = 512
"""Rows that the conn_ids are spread over. Their number is fixed, so that each one is there, also when it is empty: a row
that is missing or damaged can then not be taken for a conn_id that nobody claims."""


class CatalogMeta(Struct, frozen=True):
    """What a lookup must know of the catalog as a whole. `unlisted_scopes` says of each scope of which nothing is known, why:
    what lives there can be neither found nor ruled out."""

    taken_at: float
    unlisted_scopes: tuple[str, ...]


class Claims(Struct, frozen=True):
    """What is known of one conn_id: the warehouses that claim it."""

    conn_id: str
    warehouses: tuple[Warehouse, ...]
    head: CatalogMeta


class Snapshot(Private, frozen=True):
    """Everything that is known at one moment, with an index from conn_id to the warehouses that claim it."""

    hidden = ("claims",)

    listings: tuple[Listing, ...]
    head: CatalogMeta
    claims: Mapping[str, tuple[Warehouse, ...]]
    ignored: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def take(listings: Sequence[Listing], now: float, settings: Settings) -> Snapshot:
    """Put everything that is listed together. `now` is in seconds since the epoch."""
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
    unlisted_scopes = tuple(f"{listing.scope}: {listing.error}" for listing in listings if listing.listed_at is None)
    return Snapshot(
        listings=tuple(listings),
        head=CatalogMeta(now, unlisted_scopes),
        claims={conn_id: tuple(found) for conn_id, found in claims.items()},
        ignored=tuple(ignored),
        problems=tuple(problems),
    )


def rows_of(snapshot: Snapshot) -> Mapping[str, bytes]:
    """Write a snapshot down in small rows, so that a lookup reads no more than its own."""
    buckets: dict[str, dict[str, str]] = {f"{_CLAIMS}{number}": {} for number in range(_BUCKETS)}
    for conn_id, found in snapshot.claims.items():
        buckets[row_of(conn_id)][conn_id] = warehouses_to_bytes(found).decode()
    return {
        **{name: json.dumps(claims).encode() for name, claims in buckets.items()},
        META: json.dumps([snapshot.head.taken_at, snapshot.head.unlisted_scopes]).encode(),
        LISTINGS: listings_to_bytes(snapshot.listings),
    }


def meta_from_rows(rows: Mapping[str, bytes]) -> CatalogMeta | None:
    """Read the head; `None` for rows without one."""
    try:
        taken_at, unlisted_scopes = json.loads(rows[META])
        return CatalogMeta(float(taken_at), tuple(unlisted_scopes))
    except (KeyError, TypeError, ValueError):
        return None


def claims_from_rows(rows: Mapping[str, bytes], conn_id: str) -> tuple[Warehouse, ...] | None:
    """Read the warehouses that claim `conn_id`; `None` for rows that cannot tell."""
    try:
        claims = json.loads(rows[row_of(conn_id)])
        return warehouses_from_bytes(claims[conn_id].encode()) if conn_id in claims else ()
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def all_names() -> Sequence[str]:
    """Return the name of every row of a catalog."""
    return (META, LISTINGS, *(f"{_CLAIMS}{number}" for number in range(_BUCKETS)))


def row_of(conn_id: str) -> str:
    """Return the name of the row that has what is known of one conn_id."""
    return f"{_CLAIMS}{zlib.crc32(conn_id.encode()) % _BUCKETS}"
