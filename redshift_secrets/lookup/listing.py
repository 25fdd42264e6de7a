"""What was listed of one scope: connection specs by conn_id, and how a lookup reads only its own of them. Pure.

In a shared tier a listing is msgpack, never a pickle: one row, or where it is long a fixed number of small ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import MsgspecError, Struct, msgpack

from redshift_secrets.cache.store import Rows
from redshift_secrets.lookup import tags
from redshift_secrets.lookup.spec import build_spec, ineligible
from redshift_secrets.model import ConnectionSpec, VpcEndpoint, Warehouse, reveal
from redshift_secrets.settings import Settings

_ALL = "all"
_ONE_ROW = 32
"""So many conn_ids are read at once."""
_BUCKETS = 512
"""Rows that more conn_ids are spread over. Their number is fixed, so that each one is there, also when it is empty: a row
that is missing or damaged can then not be taken for a conn_id that no warehouse claims."""

ALL_ROWS: Sequence[str] = (_ALL, *map(str, range(_BUCKETS)))
"""The names of all rows that a listing may have."""

Specs = Mapping[str, tuple[ConnectionSpec, ...]]


class Listing(Struct, frozen=True):
    """The specs of one scope by conn_id, all of them or those of some conn_ids.

    `ignored` says which warehouses may claim nothing on this site, `problems` which claims cannot be read; a listing that
    comes from a shared tier has neither.
    """

    specs: Specs
    ignored: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def build_listing(warehouses: Sequence[Warehouse], settings: Settings) -> Listing:
    """Return the listing of these warehouses."""
    specs: dict[str, list[ConnectionSpec]] = {}
    ignored: list[str] = []
    problems: list[str] = []
    for warehouse in warehouses:
        reason = ineligible(warehouse, settings)
        if reason is not None:
            ignored.append(reason)
            continue
        conn_ids, wrong = tags.claimed(warehouse.tags, settings.tag_prefix)
        problems += [f"{problem} (on {warehouse})" for problem in wrong]
        for conn_id in conn_ids:
            specs.setdefault(conn_id, []).append(build_spec(warehouse, conn_id, settings))
    return Listing({conn_id: tuple(found) for conn_id, found in specs.items()}, tuple(ignored), tuple(problems))


def listing_to_rows(listing: Listing) -> Rows:
    """Return a listing as rows."""
    if len(listing.specs) <= _ONE_ROW:
        return {_ALL: msgpack.encode(listing.specs, enc_hook=reveal)}
    buckets: dict[str, dict[str, tuple[ConnectionSpec, ...]]] = {str(number): {} for number in range(_BUCKETS)}
    for conn_id, found in listing.specs.items():
        buckets[_bucket(conn_id)][conn_id] = found
    return {name: msgpack.encode(specs, enc_hook=reveal) for name, specs in buckets.items()}


def rows_of(conn_id: str) -> Sequence[str]:
    """Return the names of the rows one of which has the specs of a conn_id."""
    return _ALL, _bucket(conn_id)


def listing_from_rows(rows: Rows) -> Listing | None:
    """Return the listing that these rows carry, or as much of it; `None` for rows that carry none."""
    try:
        specs: dict[str, tuple[ConnectionSpec, ...]] = {}
        for row in rows.values():
            specs |= {conn_id: tuple(map(_spec, found)) for conn_id, found in msgpack.decode(row).items()}
        return Listing(specs) if rows else None
    except (AttributeError, KeyError, MsgspecError, TypeError):
        return None


def _spec(raw: dict[str, Any]) -> ConnectionSpec:
    # By hand: for a decoder of its own, msgspec looks at each annotation, which would double the time to import this module.
    warehouse = raw["warehouse"]
    endpoints = tuple(VpcEndpoint(**endpoint) for endpoint in warehouse.pop("vpc_endpoints"))
    lists = {name: tuple(raw[name]) for name in ("db_groups", "errors", "warnings")}
    return ConnectionSpec(**{**raw, **lists, "warehouse": Warehouse(**warehouse, vpc_endpoints=endpoints)})


def _bucket(conn_id: str) -> str:
    return str(zlib.crc32(conn_id.encode("utf-8", "surrogatepass")) % _BUCKETS)
