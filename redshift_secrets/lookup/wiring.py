"""Puts the parts together for one configuration: settings in, a broker with its tiers out."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from redshift_secrets.cache import SharedStore, SharedTiers, forks
from redshift_secrets.cache.bound import BoundStore
from redshift_secrets.cache.host.paths import default_cache_dir, ensure_private_dir
from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.sealing import Seal, host_key
from redshift_secrets.errors import NO_FLEET_KEY, SettingsError
from redshift_secrets.lookup import caller as asker
from redshift_secrets.lookup.broker import Aws, Broker
from redshift_secrets.lookup.metrics import Metrics
from redshift_secrets.model import Credential, MintRequest, Scope, Warehouse
from redshift_secrets.settings.settings import Settings

if TYPE_CHECKING:
    from redshift_secrets.aws.client import AwsClient

log = logging.getLogger(__name__)

_brokers: dict[str, Broker] = {}
_MAX_BROKERS = 3
"""More are not kept: a process whose environment names one AWS identity after another does not fill its memory."""


def broker_key(settings: Settings, environ: Mapping[str, str] = os.environ) -> str:
    """Return a text that is the same for lookups of this process that one broker can answer: those with the same settings,
    as the same AWS identity, from the same host's store."""
    folder = default_cache_dir(settings.cache.path, environ) if settings.cache.host else None
    return asker.cache_key(asker.caller_fingerprint(environ), [settings, folder])


def existing_broker(name: str) -> Broker | None:
    """Return the broker of this name, if this process has made it."""
    return _brokers.get(name)


def get_or_create_broker(name: str, make: Callable[[], Broker]) -> Broker:
    """Return the broker of this name, made with `make` where there is none. From 3.0 to 3.2 Airflow constructs a backend
    for each lookup of a task or a trigger: without this none would find what the one before has in memory."""
    broker = _brokers.get(name)
    if broker is None:
        # One dictionary operation at a time needs no lock; of two threads that come here at once, one finds what the other
        # made, or is the second to drop the oldest.
        broker = _brokers.setdefault(name, make())
        for oldest in list(_brokers)[:-_MAX_BROKERS]:
            forget_broker(oldest)
    return broker


def forget_broker(name: str) -> None:
    """Make a new one at the next lookup of a new backend."""
    _brokers.pop(name, None)


class LazyAwsClient:
    """The door to AWS, opened at the first call: a task that finds everything in the cache never loads boto3.

    When the environment begins to name another AWS identity, the door is opened anew as that one: what is cached goes by
    what the environment names at that moment. Before anything is asked for as another one than the first, `changed` is
    called.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        environ: Mapping[str, str] = os.environ,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._environ = environ
        self._changed = changed
        self._first: str | None = None
        self._opened: tuple[str, AwsClient] | None = None

    @property
    def _aws(self) -> AwsClient:
        asker_now = self.asker()
        if self._opened is None or self._opened[0] != asker_now:
            # In a child that is forked in the middle of it, boto3 would stay half loaded.
            with forks.no_fork_here:
                from redshift_secrets.aws.client import AwsClient

            # Two threads that come here at once make one door too many, which costs nothing but a client.
            self._opened = asker_now, AwsClient(self._settings, clock=self._clock)
        return self._opened[1]

    def asker(self) -> str:
        """Return what tells whom boto3 would find here now, without asking AWS."""
        asker_now = asker.caller_fingerprint(self._environ)
        if self._first is None:
            self._first = asker_now
        if asker_now != self._first:
            self._changed()
        return asker_now

    def knows_identity(self) -> bool:
        """Whether `sts_identity` answers at once."""
        return self._opened is not None and self._opened[1].knows_identity()

    def scopes(self) -> Sequence[Scope]:
        """See `aws.door.AwsClient`."""
        return self._aws.scopes()

    def list(self, scope: Scope) -> Sequence[Warehouse]:
        """See `aws.door.AwsClient`."""
        return self._aws.list(scope)

    def look(self, seen: Warehouse) -> Warehouse:
        """See `aws.door.AwsClient`."""
        return self._aws.look(seen)

    def mint(self, request: MintRequest) -> Credential:
        """See `aws.door.AwsClient`."""
        return self._aws.mint(request)

    def sts_identity(self) -> str | None:
        """See `aws.door.AwsClient`."""
        return self._aws.sts_identity()


def create_broker(
    settings: Settings,
    stores: Sequence[SharedStore] = (),
    *,
    on_secret: Callable[[str], None],
    aws: Aws | None = None,
    airflow_cache_ttl_seconds: int = 0,
    metrics: Metrics | None = None,
    clock: Callable[[], float] = time.time,
) -> Broker:
    """Return a broker for these settings, which knows what the stores know; nothing is opened before its first lookup."""
    return Broker(
        settings,
        aws if aws is not None else LazyAwsClient(settings, clock),
        on_secret=on_secret,
        airflow_cache_ttl_seconds=airflow_cache_ttl_seconds,
        metrics=metrics,
        tiers=SharedTiers(stores, clock=clock),
        cache_key=functools.partial(asker.cache_key, asker.settings_fingerprint(settings)),
        clock=clock,
    )


def create_stores(
    settings: Settings,
    aws: LazyAwsClient,
    *,
    airflow_keys: Sequence[str] | None,
    environ: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.time,
) -> tuple[BoundStore, ...]:
    """Return the stores that the setting `cache` asks for, from near to far, each bound to who asks.

    `airflow_keys` seal what is cached where `cache.key` is not set. Raises `SettingsError` for a fleet tier without a
    key, or with a URL that redis-py does not take.
    """
    cache = settings.cache
    keys = cache.key or airflow_keys
    stores: list[BoundStore] = []
    if cache.host:
        folder = default_cache_dir(cache.path, environ)
        seal = _host_seal(keys, folder)
        if seal is not None:
            # By key: two Airflows of one OS user with different keys would overwrite each other's rows.
            host = HostStore(folder, seal, clock=clock)
            stores.append(BoundStore(host, aws.asker, names=seal.fingerprints))
    if cache.redis_url is not None:
        from redshift_secrets.cache.redis.store import RedisStore

        if keys is None:
            raise SettingsError([NO_FLEET_KEY])
        try:
            fleet = RedisStore(cache.redis_url, Seal(keys), clock=clock)
        except ValueError as error:
            raise SettingsError([f"cache.redis_url: {error}"]) from None
        stores.append(BoundStore(fleet, aws.sts_identity, aws.knows_identity))
    return tuple(stores)


def _host_seal(keys: Sequence[str] | None, folder: Path) -> Seal | None:
    try:
        if keys:
            return Seal(keys)
        ensure_private_dir(folder)
        return Seal([host_key(folder)])
    except OSError as error:
        log.warning("nothing is cached for other processes of this host: %s", error)
        return None
