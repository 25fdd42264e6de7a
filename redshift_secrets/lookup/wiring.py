"""Puts the parts together for one configuration: settings in, a broker with its tiers out."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redshift_secrets.cache import forks
from redshift_secrets.cache.host.paths import default_cache_dir, ensure_private_dir
from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.refresh import Refresher
from redshift_secrets.cache.sealing import Seal, host_key
from redshift_secrets.cache.tiers import Tier
from redshift_secrets.errors import NO_REDIS_KEY, CallerChangedError, RedshiftSecretsError, SettingsError
from redshift_secrets.lookup.broker import Aws, Broker
from redshift_secrets.lookup.caller import caller_fingerprint, fingerprint, settings_fingerprint
from redshift_secrets.lookup.metrics import Metrics, NoMetrics
from redshift_secrets.model import Credential, MintRequest, Scope, Warehouse
from redshift_secrets.settings import Settings

if TYPE_CHECKING:
    from redshift_secrets.aws.client import AwsClient

log = logging.getLogger(__name__)

_brokers: dict[tuple[str, str], Broker] = {}
_NOT_SHARED = "nothing is cached for other processes of this host: %s"
_MAX_BROKERS = 3
"""More are not kept: a process whose environment names one caller after another does not fill its memory."""


def settings_key(settings: Settings) -> str:
    """Return a text that is the same for settings that one broker can serve."""
    return fingerprint(settings)


def existing_broker(settings_key: str, environ: Mapping[str, str] = os.environ) -> Broker | None:
    """Return the broker for these settings and the caller that `environ` names, if this process has created it."""
    return _brokers.get((settings_key, caller_fingerprint(environ)))


def get_or_create_broker(
    settings_key: str, create: Callable[[str], Broker], environ: Mapping[str, str] = os.environ
) -> Broker:
    """Return the broker for these settings and the caller that `environ` names, created with `create` where there is none.

    `settings_key` is the same for the same settings. From 3.0 to 3.2 Airflow constructs a backend for each lookup of a
    task or a trigger: without this each would start with an empty memory.
    """
    caller = caller_fingerprint(environ)
    broker = _brokers.get((settings_key, caller))
    if broker is None:
        # One dictionary operation at a time needs no lock; of two threads that come here at once, one finds what the other
        # created, or is the second to drop the oldest.
        broker = _brokers.setdefault((settings_key, caller), create(caller))
        for oldest in list(_brokers)[:-_MAX_BROKERS]:
            _brokers.pop(oldest, None)
    return broker


class LazyAwsClient:
    """Creates the AWS client at the first call: a task that finds everything in the cache never loads boto3.

    `caller` is the fingerprint of the caller that the lookups are for. Once `environ` names another one, no call is made:
    its answer would be cached for the wrong caller. The next lookup is for the new one.
    """

    def __init__(
        self,
        settings: Settings,
        caller: str,
        clock: Callable[[], float] = time.time,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._settings = settings
        self._caller = caller
        self._clock = clock
        self._environ = environ
        self._created: AwsClient | None = None

    @property
    def _client(self) -> AwsClient:
        if caller_fingerprint(self._environ) != self._caller:
            raise CallerChangedError()
        if self._created is None:
            # In a child that is forked in the middle of it, boto3 would stay half loaded.
            with forks.no_fork_here:
                from redshift_secrets.aws.client import AwsClient

            # Two threads that come here at once create one client too many, which costs nothing else.
            self._created = AwsClient(self._settings, clock=self._clock)
        return self._created

    def knows_identity(self) -> bool:
        """Whether `sts_identity` answers at once."""
        return self._created is not None and self._created.knows_identity()

    def sts_identity(self) -> str | None:
        """See `aws.client.AwsClient`."""
        return self._client.sts_identity()

    def default_region(self) -> str:
        """See `aws.client.AwsClient`."""
        return self._client.default_region()

    def list(self, scope: Scope, recall: Callable[[str, Callable[[], Any]], Any]) -> Sequence[Warehouse]:
        """See `aws.client.AwsClient`."""
        return self._client.list(scope, recall)

    def describe(self, warehouse: Warehouse) -> Warehouse:
        """See `aws.client.AwsClient`."""
        return self._client.describe(warehouse)

    def mint(self, request: MintRequest) -> Credential:
        """See `aws.client.AwsClient`."""
        return self._client.mint(request)


def create_broker(
    settings: Settings,
    aws: Aws,
    tiers: Sequence[Tier] = (),
    *,
    mask: Callable[[str, float], None],
    airflow_cache_ttl_seconds: int = 0,
    metrics: Metrics | None = None,
    clock: Callable[[], float] = time.time,
) -> Broker:
    """Return a broker for these settings, which uses these tiers; nothing is opened before its first lookup."""
    refresher = Refresher(tiers, timeout_seconds=settings.aws_timeout_seconds, clock=clock)
    return Broker(
        settings,
        aws,
        refresher,
        mask=mask,
        metrics=metrics or NoMetrics(),
        airflow_cache_ttl_seconds=airflow_cache_ttl_seconds,
    )


def create_tiers(
    settings: Settings,
    caller: str,
    aws: LazyAwsClient,
    *,
    airflow_keys: Sequence[str] | None,
    clock: Callable[[], float] = time.time,
    redis_patience_seconds: float = 0.25,
    redis_lease_seconds: float = 10.0,
) -> tuple[Tier, ...]:
    """Return the tiers that the setting `cache` asks for, from near to far, for the caller of this fingerprint.

    `airflow_keys` seal what is cached where `cache.key` is not set. Raises `SettingsError` for a fleet tier without a key.
    """
    cache = settings.cache
    keys = cache.key or airflow_keys
    tiers: list[Tier] = []
    configuration = settings_fingerprint(settings)
    folder = _host_folder(settings)
    if folder is not None:
        seal = _host_seal(keys, folder)
        if seal is not None:
            tiers.append(Tier(HostStore(folder, seal, clock=clock), f"{caller} {configuration}"))
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
        tiers.append(Tier(fleet, functools.partial(_fleet_namespace, aws, configuration), aws.knows_identity))
    return tuple(tiers)


def _fleet_namespace(aws: LazyAwsClient, configuration: str) -> str | None:
    try:
        identity = aws.sts_identity()
    except RedshiftSecretsError:
        return None  # the call that needs it most says why
    return None if identity is None else f"{identity} {configuration}"


def _host_folder(settings: Settings) -> Path | None:
    """The folder of the host store, `None` where it is off or has no place."""
    if not settings.cache.host:
        return None
    try:
        return default_cache_dir(settings.cache.path)
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
