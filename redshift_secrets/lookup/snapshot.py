"""Everything known of all warehouses at one moment, and how a lookup reads only its own conn_id of it. Pure.

In a shared tier a snapshot is JSON, never a pickle, in a fixed number of small rows.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from redshift_secrets.lookup import tags
from redshift_secrets.lookup.spec import ineligible
from redshift_secrets.model import Listing, Private, Scope, VpcEndpoint, Warehouse
from redshift_secrets.settings import Settings

META, LISTINGS = "head", "listings"
"""Rows of a catalog in a shared tier: what every lookup reads, and what only a refresh reads."""

_CLAIMS = "claims "
_BUCKETS = 512
"""Rows that the conn_ids are spread over. Their number is fixed, so that each one is there, also when it is empty: a row
that is missing or damaged can then not be taken for a conn_id that no warehouse claims."""


class CatalogMeta(Struct, frozen=True):
    """What a lookup must know of the catalog as a whole. `unlisted_scopes` says of each scope that was never listed, why:
    what is there can be neither found nor ruled out."""

    taken_at: float
    unlisted_scopes: tuple[str, ...]


class Claims(Struct, frozen=True):
    """What is known of one conn_id: the warehouses that claim it."""

    conn_id: str
    warehouses: tuple[Warehouse, ...]
    meta: CatalogMeta


class Snapshot(Private, frozen=True):
    """Everything known at one moment, with an index from conn_id to the warehouses that claim it."""

    hidden = ("claims",)

    listings: tuple[Listing, ...]
    meta: CatalogMeta
    claims: Mapping[str, tuple[Warehouse, ...]]
    ignored: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def build_snapshot(listings: Sequence[Listing], now: float, settings: Settings) -> Snapshot:
    """Return a snapshot of everything that is listed. `now` is in seconds since the epoch."""
    claims: dict[str, list[Warehouse]] = {}
    ignored: list[str] = []
    problems: list[str] = []
    # One warehouse may be listed twice, through two roles: the first of them serves it.
    warehouses = {warehouse.arn: warehouse for x in reversed(listings) for warehouse in reversed(x.warehouses)}
    for warehouse in reversed(warehouses.values()):
        reason = ineligible(warehouse, settings)
        if reason is not None:
            ignored.append(reason)
            continue
        conn_ids, wrong = tags.claimed(warehouse.tags, settings.tag_prefix)
        problems += [f"{problem} (on {warehouse})" for problem in wrong]
        for conn_id in conn_ids:
            claims.setdefault(conn_id, []).append(warehouse)
    unlisted = tuple(f"{listing.scope}: {listing.error}" for listing in listings if listing.listed_at is None)
    return Snapshot(
        listings=tuple(listings),
        meta=CatalogMeta(now, unlisted),
        claims={conn_id: tuple(found) for conn_id, found in claims.items()},
        ignored=tuple(ignored),
        problems=tuple(problems),
    )


def snapshot_to_rows(snapshot: Snapshot) -> Mapping[str, bytes]:
    """Return a snapshot as small rows, so that a lookup reads no more than its own."""
    buckets: dict[str, dict[str, str]] = {f"{_CLAIMS}{number}": {} for number in range(_BUCKETS)}
    for conn_id, found in snapshot.claims.items():
        buckets[claims_row(conn_id)][conn_id] = warehouses_to_bytes(found).decode()
    return {
        **{name: json.dumps(claims).encode() for name, claims in buckets.items()},
        META: json.dumps([snapshot.meta.taken_at, snapshot.meta.unlisted_scopes]).encode(),
        LISTINGS: listings_to_bytes(snapshot.listings),
    }


def all_rows() -> Sequence[str]:
    """Return the name of every row of a catalog."""
    return (META, LISTINGS, *(f"{_CLAIMS}{number}" for number in range(_BUCKETS)))


def claims_row(conn_id: str) -> str:
    """Return the name of the row that has the claims of one conn_id."""
    return f"{_CLAIMS}{zlib.crc32(conn_id.encode()) % _BUCKETS}"


def meta_from_rows(rows: Mapping[str, bytes]) -> CatalogMeta | None:
    """Return the meta row; `None` for rows without a readable one."""
    try:
        taken_at, unlisted = json.loads(rows[META])
        return CatalogMeta(float(taken_at), tuple(unlisted))
    except (KeyError, TypeError, ValueError):
        return None


def claims_from_rows(rows: Mapping[str, bytes], conn_id: str) -> tuple[Warehouse, ...] | None:
    """Return the warehouses that claim `conn_id`; `None` for rows that do not say."""
    try:
        claims = json.loads(rows[claims_row(conn_id)])
        return warehouses_from_bytes(claims[conn_id].encode()) if conn_id in claims else ()
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def warehouses_to_bytes(warehouses: Sequence[Warehouse]) -> bytes:
    """Encode warehouses."""
    return json.dumps(warehouses, default=asdict).encode()


def warehouses_from_bytes(content: bytes) -> tuple[Warehouse, ...] | None:
    """Decode what `warehouses_to_bytes` encoded; `None` for anything else."""
    try:
        return tuple(_warehouse(raw) for raw in json.loads(content))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def listings_to_bytes(listings: Sequence[Listing]) -> bytes:
    """Encode all listings, compressed: only a refresh reads them."""
    return zlib.compress(json.dumps(listings, default=asdict).encode(), 1)


def listings_from_bytes(content: bytes) -> tuple[Listing, ...] | None:
    """Decode what `listings_to_bytes` encoded; `None` for anything else."""
    try:
        return tuple(_listing(raw) for raw in json.loads(zlib.decompress(content)))
    except (AttributeError, KeyError, TypeError, ValueError, zlib.error):
        return None


def _warehouse(raw: dict[str, Any]) -> Warehouse:
    endpoints = tuple(VpcEndpoint(**endpoint) for endpoint in raw.pop("vpc_endpoints"))
    return Warehouse(**raw, vpc_endpoints=endpoints)


def _listing(raw: dict[str, Any]) -> Listing:
    scope, warehouses = Scope(**raw.pop("scope")), raw.pop("warehouses")
    return Listing(scope=scope, warehouses=tuple(_warehouse(each) for each in warehouses), **raw)
