"""Whether the stores that processes share can be written and read here, and with which key."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.redis.store import RedisStore
from redshift_secrets.cache.store import SharedStore
from redshift_secrets.operations.doctor.verdicts import Status, Verdict, verdict
from redshift_secrets.settings import Settings

_TRIAL_SECONDS = 10.0


def store_verdicts(
    settings: Settings,
    stores: Callable[[], Sequence[SharedStore]],
    airflow_keys: Sequence[str] | None,
    *,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> list[Verdict]:
    """Write a row into each store, read it and remove it again. `stores` creates them; what goes wrong meanwhile is logged."""
    key = "a key file of this host"
    if settings.cache.key:
        key = "cache.key"
    elif airflow_keys:
        key = "[core] fernet_key"
    with _logged() as lines:
        found = list(stores())
        verdicts = [_tried(store, key, lines, clock, monotonic) for store in found]
    kinds = {type(store) for store in found}
    if not settings.cache.host:
        verdicts.insert(
            0, verdict("stores", "ok", "no host store (cache.host is off): each process lists and mints for itself")
        )
    elif HostStore not in kinds:
        reason = "; ".join(lines) or "it has no place"
        verdicts.insert(
            0, verdict("stores", "problem", f"host store: {reason}. Set cache.path to a folder of this OS user")
        )
    if settings.cache.redis_url is None:
        verdicts.append(
            verdict("stores", "ok", "no fleet store (cache.redis_url is not set): each host lists and mints for itself")
        )
    return verdicts


def _tried(
    store: SharedStore, key: str, lines: list[str], clock: Callable[[], float], monotonic: Callable[[], float]
) -> Verdict:
    lines.clear()
    trouble = None
    if isinstance(store, RedisStore):
        trouble = store.describe().trouble
    start = monotonic()
    group, row = f"doctor {secrets.token_hex(8)}", {"row": os.urandom(16)}
    if trouble is None:
        store.replace(group, row, clock() + _TRIAL_SECONDS)
        read = store.read({group: ["row"]}).get(group)
        store.clear(group)
        if read != row:
            trouble = "; ".join(dict.fromkeys(lines)) or "what was written cannot be read back"
    took = f"{(monotonic() - start) * 1000:.0f} ms"
    about, advice = _described(store, key)
    if trouble is not None:
        return verdict("stores", "problem", f"{about}: {trouble}. {advice}")
    status: Status = "ok"
    return verdict("stores", status, f"{about}: a row was written and read in {took}")


def _described(store: SharedStore, key: str) -> tuple[str, str]:
    """What a store is, and what to do where it cannot be used."""
    if isinstance(store, HostStore):
        host = store.describe()
        kind = "in memory" if host.memory_backed else "on disk"
        return (
            f"host store {host.folder} ({kind}, only for this OS user), sealed with {key} ({host.fingerprint})",
            "Until then each process lists and mints for itself",
        )
    if isinstance(store, RedisStore):
        fleet = store.describe()
        return (
            f"fleet store {fleet.url}, sealed with {key} ({fleet.key_fingerprint}), which has to be the same on every host",
            "Until then each host lists and mints for itself. Check cache.redis_url, and the way to it from here",
        )
    return store.name, ""


@contextmanager
def _logged() -> Iterator[list[str]]:
    """Collect what the cache logs meanwhile: stores are never an error, and say so there alone."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage().removeprefix("host store: ").rstrip("."))

    logger, handler = logging.getLogger("redshift_secrets"), Lines(logging.WARNING)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
