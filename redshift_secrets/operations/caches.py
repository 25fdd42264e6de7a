"""The tiers that processes share: what is in them, and emptying them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from redshift_secrets.cache import flushes
from redshift_secrets.cache.host.paths import ensure_private_dir
from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.store import SharedStore
from redshift_secrets.cache.tiers import Tier as SharedTier
from redshift_secrets.lookup.inventory import CachedConnection
from redshift_secrets.operations.inspect import login_user
from redshift_secrets.operations.site import site_audit, site_broker, site_tiers
from redshift_secrets.settings import Settings


class Tier(Struct, frozen=True):
    """One tier: a sentence about it, and a row for each connection that its catalog has."""

    about: str
    rows: tuple[dict[str, str], ...]


class Flushed(Struct, frozen=True):
    """What a flush did: a line for each tier, and whether it reached every process that it should."""

    lines: tuple[str, ...]
    complete: bool


def describe_tiers(settings: Settings, clock: Callable[[], float] = time.time) -> list[Tier]:
    """Return what the shared tiers have, near to far, without asking AWS for more than the caller's identity."""
    return [_tier(settings, tier, clock()) for tier in site_tiers(settings)]


def flush(
    settings: Settings,
    conn_id: str | None,
    *,
    catalog: bool = False,
    tagged: Sequence[str] = (),
    requested_by: str | None = None,
) -> Flushed:
    """Empty every shared tier, or remove one conn_id or what was listed from each, and have running processes forget what they
    remember. Of one conn_id and of the `catalog`, those of this process's caller are removed; with the latter, that the conn_ids
    that were `tagged` were missing. The audit has what was done, with `requested_by` as in `site_audit`.

    Raises `RedshiftSecretsError`, for one `PerDagCredentialsError`.
    """
    flushed = _flush(settings, site_tiers(settings), conn_id, catalog, tagged)
    audit = site_audit(settings, requested_by)
    if audit is not None:
        audit.flushed(conn_id, flushed.lines)
    return flushed


def _flush(
    settings: Settings, tiers: Sequence[SharedTier], conn_id: str | None, catalog: bool, tagged: Sequence[str]
) -> Flushed:
    if not tiers:
        why = "it has no place, set cache.path" if settings.cache.host else "cache.host is off"
        line = (
            f"nothing is shared: no host store ({why}) and no fleet store (cache.redis_url is not set). No other process was"
            " reached: each keeps what it remembers until that is refreshed, or until it is restarted"
        )
        return Flushed((line,), complete=False)
    if catalog:
        found = [site_broker(settings, tiers).inventory.flush_catalog(tiers, tagged)]
    elif conn_id is None:
        # The farthest first, or a process would copy a row back.
        found = [{tier.store.name: flushes.flush(tier.store)} for tier in reversed(tiers)]
    else:
        # Each store's own catalog decides which entries are those of the conn_id.
        found = [site_broker(settings, [tier]).inventory.flush(tiers, conn_id) for tier in tiers]
    troubles = {tier.store.name: _trouble(tier, whose=catalog or conn_id is not None) for tier in tiers}
    for failed in found:
        troubles |= {name: troubles[name] or why for name, why in failed.items()}
    if not any(found) and not any(troubles.values()):
        line = (
            f"no shared tier has {conn_id!r} for the AWS identity of this command, so nothing was removed; without a conn_id,"
            " flush empties everything"
        )
        return Flushed((line,), complete=True)
    what = "the catalog" if catalog else "all entries" if conn_id is None else f"the entries of {conn_id!r}"
    lines = tuple(f"{name}: NOT cleared, {why}" if why else f"{name}: cleared {what}" for name, why in troubles.items())
    return Flushed(lines, complete=not any(troubles.values()))


def _trouble(tier: SharedTier, whose: bool) -> str | None:
    """Why a tier could not be emptied of all entries, or of those of one caller."""
    from redshift_secrets.cache.redis.store import RedisStore

    if whose and tier.place("") is None:
        return "STS does not confirm the caller, whose entries they are"
    if isinstance(tier.store, RedisStore):
        return tier.store.describe().trouble
    if isinstance(tier.store, HostStore):
        try:
            ensure_private_dir(tier.store.describe().folder)
        except OSError as error:
            return str(error)
    return None


def _tier(settings: Settings, tier: SharedTier, now: float) -> Tier:
    snapshot, connections = site_broker(settings, [tier]).inventory.cached()
    if snapshot is None:
        catalog = "no catalog"
    else:
        catalog = f"a catalog of {_counted(len(snapshot.specs), 'conn_id')}, refreshed {_in(snapshot.stale_at - now)}"
    rows = tuple(_row(tier.store.name, each, now) for each in connections)
    return Tier(f"{tier.store.name}: {_where(tier.store)}; {catalog}", rows)


def _where(store: SharedStore) -> str:
    from redshift_secrets.cache.redis.store import RedisStore

    if isinstance(store, HostStore):
        host = store.describe()
        kind = "in memory" if host.memory_backed else "on disk"
        return f"{host.folder} ({kind}), {host.size // 1024} KiB, {_counted(host.rows, 'row')}, key {host.fingerprint}"
    if isinstance(store, RedisStore):
        fleet = store.describe()
        state = fleet.trouble if fleet.trouble else _counted(fleet.groups or 0, "group")
        return f"{fleet.url}, {state}, key {fleet.key_fingerprint}"
    return store.name


def _row(tier: str, cached: CachedConnection, now: float) -> dict[str, str]:
    spec, entry = cached.spec, cached.credential
    row = {"tier": tier, "conn_id": spec.conn_id, "warehouse": spec.warehouse.identifier}
    if entry is None:
        none = "one for each DAG" if spec.per_dag else "none"
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
