"""`redshift-secrets cache` and `flush`: the tiers that processes share."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from redshift_secrets.cache.bound import BoundStore
from redshift_secrets.cache.hits import Hits
from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.redis.store import RedisStore
from redshift_secrets.cli.list import login_user
from redshift_secrets.cli.site import site_broker, site_stores
from redshift_secrets.lookup.broker import Recalled
from redshift_secrets.settings.db_user import is_per_dag

COLUMNS = ("tier", "conn_id", "warehouse", "user", "credential", "renewed_in", "dies_in", "hits")


@dataclass(frozen=True)
class Tier:
    """One tier: a sentence about it, and a row for each connection that its catalog has."""

    about: str
    rows: list[dict[str, str]]


def collect() -> list[Tier]:
    """Return what the shared tiers have, near to far, without asking AWS for more than who we are."""
    return [_tier(store) for store in site_stores()]


def flush(conn_id: str | None) -> tuple[list[str], bool]:
    """Empty every shared tier, or forget one conn_id in each; returns a line for each tier, and whether all went well."""
    stores = site_stores()
    known = False
    for store in stores:
        if conn_id is None:
            store.clear()
        else:
            known |= site_broker([store]).forget(stores, conn_id)
    if not stores:
        return ["no tier is shared: cache.host is off"], True
    if conn_id is not None and not known:
        return [f"no shared tier knows {conn_id!r}, so there is nothing to forget"], True
    what = "everything" if conn_id is None else f"what was kept of {conn_id!r}"
    troubles = {store.name: _trouble(store) for store in stores}
    lines = [f"{name}: NOT emptied, {why}" if why else f"{name}: forgot {what}" for name, why in troubles.items()]
    return lines, not any(troubles.values())


def _trouble(store: BoundStore) -> str | None:
    """Why a store could not be emptied."""
    return store.store.describe().trouble if isinstance(store.store, RedisStore) else None


def _tier(store: BoundStore) -> Tier:
    now = time.time()
    snapshot, connections = site_broker([store]).recalled()
    if snapshot is None:
        catalog = "no catalog"
    else:
        catalog = f"a catalog of {len(snapshot.value.claims)} conn_ids, renewed {_in(snapshot.stale_at - now)}"
    rows = [_row(store, each, now) for each in connections]
    return Tier(f"{store.name}: {_where(store)}; {catalog}; {_counted(store.hits())}", rows)


def _counted(hits: Hits) -> str:
    if hits.since is None:
        return "no lookup counted yet"
    since = datetime.fromtimestamp(hits.since).astimezone().isoformat(sep=" ", timespec="seconds")
    return f"{hits.found} hits and {hits.missed} misses since {since}"


def _where(store: BoundStore) -> str:
    if isinstance(store.store, HostStore):
        host = store.store.describe()
        kind = "in memory" if host.memory_backed else "on disk"
        return f"{host.folder} ({kind}), {host.size // 1024} KiB, {host.rows} rows, key {host.fingerprint}"
    if isinstance(store.store, RedisStore):
        fleet = store.store.describe()
        state = f"cannot be reached: {fleet.trouble}" if fleet.trouble else f"{fleet.groups} groups"
        return f"{fleet.url}, {state}, key {fleet.key_fingerprint}"
    return store.name


def _row(store: BoundStore, recalled: Recalled, now: float) -> dict[str, str]:
    spec, kept = recalled.spec, recalled.credential
    row = {
        "tier": store.name,
        "conn_id": spec.conn_id,
        "warehouse": spec.warehouse.identifier,
        "user": login_user(spec),
    }
    hits = str(store.hits_of(recalled.group))
    if kept is None:
        none = "one for each DAG" if is_per_dag(spec) else "none"
        return {**row, "credential": none, "renewed_in": "", "dies_in": "", "hits": hits}
    return {
        **row,
        "user": kept.value.user,
        "credential": f"{now - kept.value.minted_at:.0f} s old",
        "renewed_in": _in(kept.stale_at - now),
        "dies_in": _in(kept.value.expires_at - now),
        "hits": hits,
    }


def _in(seconds: float) -> str:
    return f"in {seconds:.0f} s" if seconds > 0 else "at the next lookup"
