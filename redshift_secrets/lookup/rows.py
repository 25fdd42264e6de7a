"""How warehouses and credentials are written in a shared tier: JSON, never pickles. Pure."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any

from msgspec.structs import asdict

from redshift_secrets.model import Credential, Listing, Scope, VpcEndpoint, Warehouse


def credential_to_bytes(credential: Credential) -> bytes:
    """Write a credential down. It holds the password: for sealing, not for anything else."""
    return json.dumps(asdict(credential)).encode()


def credential_from_bytes(content: bytes) -> Credential | None:
    """Read what `credential_to_bytes` wrote; `None` for anything else."""
    try:
        return Credential(**json.loads(content))
    except (TypeError, ValueError):
        return None


def warehouses_to_bytes(warehouses: Sequence[Warehouse]) -> bytes:
    """Write warehouses down."""
    return json.dumps(warehouses, default=asdict).encode()


def warehouses_from_bytes(content: bytes) -> tuple[Warehouse, ...] | None:
    """Read what `warehouses_to_bytes` wrote; `None` for anything else."""
    try:
        return tuple(_warehouse(raw) for raw in json.loads(content))
    except (KeyError, TypeError, ValueError):
        return None


def listings_to_bytes(listings: Sequence[Listing]) -> bytes:
    """Write down everything that is known, compressed: only who lists again reads it."""
    return zlib.compress(json.dumps(listings, default=asdict).encode(), 1)


def listings_from_bytes(content: bytes) -> tuple[Listing, ...] | None:
    """Read what `listings_to_bytes` wrote; `None` for anything else."""
    try:
        return tuple(_listing(raw) for raw in json.loads(zlib.decompress(content)))
    except (KeyError, TypeError, ValueError, zlib.error):
        return None


def _warehouse(raw: dict[str, Any]) -> Warehouse:
    endpoints = tuple(VpcEndpoint(**endpoint) for endpoint in raw.pop("vpc_endpoints"))
    return Warehouse(**raw, vpc_endpoints=endpoints)


def _listing(raw: dict[str, Any]) -> Listing:
    scope, warehouses = Scope(**raw.pop("scope")), raw.pop("warehouses")
    return Listing(scope=scope, warehouses=tuple(_warehouse(each) for each in warehouses), **raw)
