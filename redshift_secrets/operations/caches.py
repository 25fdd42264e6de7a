"""The tiers that processes share: what is in them, and emptying them."""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct

from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.store import NamespacedStore
from redshift_secrets.lookup.broker import CachedConnection
from redshift_secrets.operations.inspect import login_user
from redshift_secrets.operations.site import site_broker, site_stores
from redshift_secrets.settings import Settings
from redshift_secrets.settings.db_user import is_per_dag


class Tier(Struct, frozen=True):
    """One tier: a sentence about it, and a row for each connection that its catalog has."""

    about: str
    rows: tuple[dict[str, str], ...]


class Flushed(Struct, frozen=True):
    """What a flush did: a line for each tier, and whether all of them were emptied."""

    lines: tuple[str, ...]
    complete: bool


def describe_tiers(settings: Settings, clock: Callable[[], float] = time.time) -> list[Tier]:
    """Return what the shared tiers have, near to far, without asking AWS for more than the caller's identity."""
    return [_tier(settings, store, clock()) for store in site_stores(settings)]


def flush(settings: Settings, conn_id: str | None) -> Flushed:
    """Empty every shared tier, or remove one conn_id from each. Raises `PerDagCredentialsError`."""
    stores = site_stores(settings)
    if not stores:
        return Flushed(("no tier is shared: cache.host is off",), complete=True)
    if conn_id is None:
        for store in stores:
            store.clear()
    # Each store's own catalog decides which entries are those of the conn_id.
    elif True not in [site_broker(settings, [store]).flush(stores, conn_id) for store in stores]:
        return Flushed((f"no shared tier has {conn_id!r}, so there is nothing to remove",), complete=True)
    what = "all entries" if conn_id is None else f"the entries of {conn_id!r}"
    troubles = {store.name: _trouble(store) for store in stores}
    lines = tuple(f"{name}: NOT cleared, {why}" if why else f"{name}: cleared {what}" for name, why in troubles.items())
    return Flushed(lines, complete=not any(troubles.values()))


def _trouble(store: NamespacedStore) -> str | None:
    """Why a store could not be emptied."""
    from redshift_secrets.cache.redis.store import RedisStore

    return store.store.describe().trouble if isinstance(store.store, RedisStore) else None


def _tier(settings: Settings, store: NamespacedStore, now: float) -> Tier:
    snapshot, connections = site_broker(settings, [store]).cached()
    if snapshot is None:
        catalog = "no catalog"
    else:
        catalog = (
            f"a catalog of {_counted(len(snapshot.value.claims), 'conn_id')}, refreshed {_in(snapshot.stale_at - now)}"
        )
    rows = tuple(_row(store, each, now) for each in connections)
    return Tier(f"{store.name}: {_where(store)}; {catalog}", rows)


def _where(store: NamespacedStore) -> str:
    from redshift_secrets.cache.redis.store import RedisStore

    if isinstance(store.store, HostStore):
        host = store.store.describe()
        kind = "in memory" if host.memory_backed else "on disk"
        return f"{host.folder} ({kind}), {host.size // 1024} KiB, {_counted(host.rows, 'row')}, key {host.fingerprint}"
    if isinstance(store.store, RedisStore):
        fleet = store.store.describe()
        state = fleet.trouble if fleet.trouble else _counted(fleet.groups or 0, "group")
        return f"{fleet.url}, {state}, key {fleet.key_fingerprint}"
    return store.name


def _row(store: NamespacedStore, cached: CachedConnection, now: float) -> dict[str, str]:
    spec, entry = cached.spec, cached.credential
    row = {"tier": store.name, "conn_id": spec.conn_id, "warehouse": spec.warehouse.identifier}
    if entry is None:
        none = "one for each DAG" if is_per_dag(spec) else "none"
        return {**row, "user": login_user(spec), "credential": none, "refreshed_in": "", "expires_in": ""}
    return {
        **row,
        "user": entry.value.user,
        "credential": f"{now - entry.value.minted_at:.0f} s old",
        "refreshed_in": _in(entry.stale_at - now),
        "expires_in": _in(entry.value.expires_at - now),
    }


def _in(seconds: float) -> str:
    return f"in {seconds:.0f} s" if seconds > 0 else "at the next lookup"


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
