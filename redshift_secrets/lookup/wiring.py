"""Puts the parts together for one configuration: settings in, a broker with its tiers out."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from redshift_secrets.cache import forks, get_logger
from redshift_secrets.cache.host.paths import default_cache_dir, ensure_private_dir
from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.refresh import Refresher
from redshift_secrets.cache.sealing import Seal, host_key
from redshift_secrets.cache.store import SharedStore
from redshift_secrets.cache.tiers import Tier
from redshift_secrets.errors import NO_REDIS_KEY, CallerChangedError, RedshiftSecretsError, SettingsError
from redshift_secrets.lookup.broker import Aws, Broker
from redshift_secrets.lookup.caller import caller_fingerprint, fingerprint, settings_fingerprint, without_logins
from redshift_secrets.lookup.credential_source import credential_source
from redshift_secrets.lookup.metrics import Metrics, NoMetrics
from redshift_secrets.model import Credential, MintRequest, Scope, Warehouse, WarehouseKind
from redshift_secrets.settings import Settings

if TYPE_CHECKING:
    from redshift_secrets.aws.client import AwsClient
    from redshift_secrets.lookup.audit import Audit
    from redshift_secrets.lookup.host_identity import HostIdentity

log = get_logger(__name__)

_brokers: dict[tuple[str, str], Broker] = {}
_NOT_SHARED = "nothing is cached for other processes of this host: %s"
_PATIENCE_OF_REFRESHES = 4
_METADATA_IDENTITY_SECONDS = 900.0
LOCAL_IDENTITY_SECONDS = 3600.0
"""For what is told apart on a host by its content anyway. It is as long as a password is valid."""
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


def forget_brokers(settings_key: str) -> None:
    """Have the next lookup with these settings create a broker."""
    for key in [key for key in list(_brokers) if key[0] == settings_key]:
        _brokers.pop(key, None)


class LazyAwsClient:
    """Creates the AWS client at the first call: a task that finds everything in the cache never loads boto3.

    `caller` is the fingerprint of the caller that the lookups are for. What AWS answers to another one would be cached for
    the wrong caller: once `environ` names another one, or STS another identity than before, calls raise
    `CallerChangedError`. The next lookup gets a new client, in a new broker.
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
        self._first: dict[str, AwsClient] = {}
        self._identity: str | None = None
        self._has_changed = False
        self.on_change: Callable[[], None] = lambda: None
        """Called when another identity than before was found out."""

    def knows_identity(self) -> bool:
        """Whether `sts_identity` answers at once."""
        return self._created is not None and self._created.knows_identity()

    def sts_identity(self) -> str | None:
        """Return what `aws.client.AwsClient` does, and expect it of every call from then on."""
        identity = self._client.sts_identity()
        if identity is not None:
            self.expect(identity)
        return identity

    def ask_identity(self) -> str | None:
        """Return what STS answers for credentials that are looked for now, which need not be those of the client's calls."""
        self._check_environment()
        client = self._new_client()
        identity = client.sts_identity()
        self._keep(client)
        return identity

    def expect(self, identity: str) -> None:
        """Have calls made as another identity raise `CallerChangedError`, which this does where another one was expected."""
        if self._identity is None:
            self._identity = identity
        elif self._identity != identity:
            self._change()

    def default_region(self) -> str:
        """See `aws.client.AwsClient`."""
        return self._client.default_region()

    def list(self, scope: Scope, recall: Callable[[str, Callable[[], Any]], Any]) -> Sequence[Warehouse]:
        """See `aws.client.AwsClient`."""
        client = self._client
        warehouses = client.list(scope, recall)
        self._check_caller(client)
        return warehouses

    def describe(self, warehouse: Warehouse) -> Warehouse:
        """See `aws.client.AwsClient`."""
        client = self._client
        described = client.describe(warehouse)
        self._check_caller(client)
        return described

    def unanswered(self, kind: WarehouseKind, region: str) -> Sequence[str]:
        """See `aws.client.AwsClient`; never creates one."""
        return self._created.unanswered(kind, region) if self._created is not None else ()

    def mint(self, request: MintRequest) -> Credential:
        """See `aws.client.AwsClient`."""
        client = self._client
        try:
            credential = client.mint(request, self._identity)
        except CallerChangedError:
            self._change()
        self._check_environment()
        return credential

    @property
    def _client(self) -> AwsClient:
        self._check_environment()
        return self._created or self._keep(self._new_client())

    def _keep(self, client: AwsClient) -> AwsClient:
        """Return the client of this process: of the threads that come first at the same time, all get that of one, since each client
        reads the models of AWS's services for itself. A lock would have to be reset in the child of a fork."""
        self._created = self._created or self._first.setdefault("client", client)
        return self._created

    def _new_client(self) -> AwsClient:
        # In a child that is forked in the middle of it, boto3 would stay half loaded, and so would what its answers are read with.
        with forks.no_fork_here:
            from redshift_secrets.aws.client import AwsClient
            from redshift_secrets.lookup import spec  # noqa: F401

        return AwsClient(self._settings, clock=self._clock)

    def _check_environment(self) -> None:
        """Called before and after each call: credentials are looked for in the middle of one."""
        if self._has_changed or without_logins(caller_fingerprint(self._environ)) != without_logins(self._caller):
            raise CallerChangedError()

    def _check_caller(self, client: AwsClient) -> None:
        self._check_environment()
        if self._identity is not None:
            identity = client.sts_identity()
            if identity is not None:
                self.expect(identity)

    def _change(self) -> NoReturn:
        self._has_changed = True
        for key in [key for key in list(_brokers) if key[1] == self._caller]:
            _brokers.pop(key, None)
        self.on_change()
        raise CallerChangedError()


def create_broker(
    settings: Settings,
    aws: Aws,
    tiers: Sequence[Tier] = (),
    *,
    mask: Callable[[str, float], None],
    airflow_cache_ttl_seconds: int = 0,
    metrics: Metrics | None = None,
    audit: Audit | None = None,
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
        audit=audit,
        airflow_cache_ttl_seconds=airflow_cache_ttl_seconds,
    )


def create_tiers(
    settings: Settings,
    caller: str,
    aws: LazyAwsClient,
    *,
    airflow_keys: Sequence[str] | None,
    clock: Callable[[], float] = time.time,
    environ: Mapping[str, str] = os.environ,
    redis_patience_seconds: float = 0.25,
    redis_lease_seconds: float = 10.0,
) -> tuple[Tier, ...]:
    """Return the tiers that the setting `cache` asks for, from near to far, for the caller of this fingerprint.

    `environ` is what the fingerprint was made of. `airflow_keys` seal what is cached where `cache.key` is not set. Raises
    `SettingsError` for a fleet tier without a key.
    """
    cache = settings.cache
    keys = cache.key or airflow_keys
    tiers: list[Tier] = []
    configuration = settings_fingerprint(settings)
    identity: LazyAwsClient | HostIdentity = aws
    folder = _host_folder(settings)
    seal = _host_seal(keys, folder) if folder is not None else None
    if folder is not None and seal is not None:
        host = Tier(HostStore(folder, seal, clock=clock), f"{caller} {configuration}")
        source = credential_source(environ, settings.profile_name)
        if source == "metadata" or (source == "local" and cache.redis_url is not None):
            from redshift_secrets.lookup.host_identity import HostIdentity  # few processes need it

            ask, kept_seconds = aws.sts_identity, LOCAL_IDENTITY_SECONDS
            if source == "metadata":
                ask, kept_seconds = aws.ask_identity, _METADATA_IDENTITY_SECONDS
            identity = HostIdentity(host, ask, aws.expect, settings.aws_timeout_seconds, kept_seconds, clock=clock)
            aws.on_change = identity.forget
        tiers.append(host if source == "local" else _tier(host.store, identity, str(host.namespace)))
    if cache.redis_url is not None:
        from redshift_secrets.cache.redis.store import RedisStore

        if keys is None:
            raise SettingsError([NO_REDIS_KEY])
        fleet = RedisStore(
            cache.redis_url,
            Seal(keys),
            clock=clock,
            # Behind a host store only refreshes come here, and what they do without Redis, asking AWS, takes longer than that.
            patience_seconds=redis_patience_seconds * (_PATIENCE_OF_REFRESHES if tiers else 1),
            lease_seconds=redis_lease_seconds,
        )
        tiers.append(_tier(fleet, identity, configuration))
    return tuple(tiers)


def _tier(store: SharedStore, identity: LazyAwsClient | HostIdentity, rest: str) -> Tier:
    """Return the tier of the caller that `identity` finds out."""
    return Tier(store, functools.partial(_namespace, identity, rest), identity.knows_identity)


def _namespace(identity: LazyAwsClient | HostIdentity, rest: str) -> str | None:
    try:
        arn = identity.sts_identity()
    except RedshiftSecretsError:
        return None  # the call that needs it most says why
    return None if arn is None else f"{arn} {rest}"


def audit_key(settings: Settings, airflow_keys: Sequence[str] | None) -> str | None:
    """Return the key that passwords are told apart with in the audit: the one that seals what is cached, `None` where there is
    none that can be used."""
    keys = settings.cache.key or airflow_keys
    if keys:
        return keys[0]
    folder = _host_folder(settings)
    with suppress(OSError):
        return host_key(folder) if folder is not None else None
    return None


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
