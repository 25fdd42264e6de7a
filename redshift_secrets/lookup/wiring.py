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
from redshift_secrets.cache.host.paths import default_cache_dir, ensure_private_dir
from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.sealing import Seal, host_key
from redshift_secrets.cache.store import NamespacedStore
from redshift_secrets.errors import NO_REDIS_KEY, SettingsError
from redshift_secrets.lookup.broker import Aws, Broker
from redshift_secrets.lookup.caller import cache_key, caller_fingerprint, settings_fingerprint
from redshift_secrets.lookup.metrics import Metrics
from redshift_secrets.model import Credential, MintRequest, Scope, Warehouse
from redshift_secrets.settings import Settings

if TYPE_CHECKING:
    from redshift_secrets.aws.client import AwsClient

log = logging.getLogger(__name__)

_brokers: dict[str, Broker] = {}
_NOT_SHARED = "nothing is cached for other processes of this host: %s"
_MAX_BROKERS = 3
"""More are not kept: a process whose environment names one caller after another does not fill its memory."""


def broker_key(settings: Settings, environ: Mapping[str, str] = os.environ) -> str:
    """Return a text that is the same for lookups of this process that one broker can answer: those with the same settings,
    as the same caller, from the same host store."""
    folder = _host_folder(settings, environ)
    return cache_key(caller_fingerprint(environ), [settings, folder])


def existing_broker(key: str) -> Broker | None:
    """Return the broker of this key, if this process has created it."""
    return _brokers.get(key)


def get_or_create_broker(key: str, create: Callable[[], Broker]) -> Broker:
    """Return the broker of this key, created with `create` where there is none. From 3.0 to 3.2 Airflow constructs a
    backend for each lookup of a task or a trigger: without this each would start with an empty memory."""
    broker = _brokers.get(key)
    if broker is None:
        # One dictionary operation at a time needs no lock; of two threads that come here at once, one finds what the other
        # created, or is the second to drop the oldest.
        broker = _brokers.setdefault(key, create())
        for oldest in list(_brokers)[:-_MAX_BROKERS]:
            forget_broker(oldest)
    return broker


def forget_broker(key: str) -> None:
    """Create a new one at the next lookup of a new backend."""
    _brokers.pop(key, None)


class LazyAwsClient:
    """Creates the AWS client at the first call: a task that finds everything in the cache never loads boto3.

    When the environment begins to name another caller, a new client is created as that one: what is cached goes by what
    the environment names at that moment. Before anything is requested as another caller than the first, `changed` is
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
        self._created: tuple[str, AwsClient] | None = None

    @property
    def _client(self) -> AwsClient:
        caller = self.caller()
        if self._created is None or self._created[0] != caller:
            # In a child that is forked in the middle of it, boto3 would stay half loaded.
            with forks.no_fork_here:
                from redshift_secrets.aws.client import AwsClient

            # Two threads that come here at once create one client too many, which costs nothing else.
            self._created = caller, AwsClient(self._settings, clock=self._clock)
        return self._created[1]

    def caller(self) -> str:
        """Return a fingerprint of the caller that boto3 would find now, without asking AWS."""
        caller = caller_fingerprint(self._environ)
        if self._first is None:
            self._first = caller
        if caller != self._first:
            self._changed()
        return caller

    def knows_identity(self) -> bool:
        """Whether `sts_identity` answers at once."""
        return self._created is not None and self._created[1].knows_identity()

    def scopes(self) -> Sequence[Scope]:
        """See `aws.client.AwsClient`."""
        return self._client.scopes()

    def list(self, scope: Scope) -> Sequence[Warehouse]:
        """See `aws.client.AwsClient`."""
        return self._client.list(scope)

    def describe(self, warehouse: Warehouse) -> Warehouse:
        """See `aws.client.AwsClient`."""
        return self._client.describe(warehouse)

    def mint(self, request: MintRequest) -> Credential:
        """See `aws.client.AwsClient`."""
        return self._client.mint(request)

    def sts_identity(self) -> str | None:
        """See `aws.client.AwsClient`."""
        return self._client.sts_identity()


def create_broker(
    settings: Settings,
    stores: Sequence[SharedStore] = (),
    *,
    mask: Callable[[str, float], None],
    aws: Aws | None = None,
    airflow_cache_ttl_seconds: int = 0,
    metrics: Metrics | None = None,
    clock: Callable[[], float] = time.time,
) -> Broker:
    """Return a broker for these settings, which uses these stores; nothing is opened before its first lookup."""
    return Broker(
        settings,
        aws if aws is not None else LazyAwsClient(settings, clock),
        mask=mask,
        airflow_cache_ttl_seconds=airflow_cache_ttl_seconds,
        metrics=metrics,
        tiers=SharedTiers(stores, clock=clock),
        cache_key=functools.partial(cache_key, settings_fingerprint(settings)),
        clock=clock,
    )


def create_stores(
    settings: Settings,
    aws: LazyAwsClient,
    *,
    airflow_keys: Sequence[str] | None,
    environ: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.time,
    redis_patience_seconds: float = 0.25,
    redis_lease_seconds: float = 10.0,
) -> tuple[NamespacedStore, ...]:
    """Return the stores that the setting `cache` asks for, from near to far, each with the caller as its namespace.

    `airflow_keys` seal what is cached where `cache.key` is not set. Raises `SettingsError` for a fleet tier without a key.
    """
    cache = settings.cache
    keys = cache.key or airflow_keys
    stores: list[NamespacedStore] = []
    folder = _host_folder(settings, environ)
    if folder is not None:
        seal = _host_seal(keys, folder)
        if seal is not None:
            # By key: two Airflows of one OS user with different keys would overwrite each other's rows.
            host = HostStore(folder, seal, clock=clock)
            stores.append(NamespacedStore(host, aws.caller, names=seal.fingerprints))
    if cache.redis_url is not None:
        from redshift_secrets.cache.redis.store import RedisStore

        if keys is None:
            raise SettingsError([NO_REDIS_KEY])
        fleet = RedisStore(
            cache.redis_url,
            Seal(keys),
            clock=clock,
            patience_seconds=redis_patience_seconds,
            lease_seconds=redis_lease_seconds,
        )
        stores.append(NamespacedStore(fleet, aws.sts_identity, aws.knows_identity))
    return tuple(stores)


def _host_folder(settings: Settings, environ: Mapping[str, str]) -> Path | None:
    """The folder of the host store, `None` where it is off or has no place."""
    if not settings.cache.host:
        return None
    try:
        return default_cache_dir(settings.cache.path, environ)
    except FileNotFoundError as error:
        log.warning(_NOT_SHARED, error)
        return None


def _host_seal(keys: Sequence[str] | None, folder: Path) -> Seal | None:
    try:
        if keys:
            return Seal(keys)
        ensure_private_dir(folder)
        return Seal([host_key(folder)])
    except OSError as error:
        log.warning(_NOT_SHARED, error)
        return None
