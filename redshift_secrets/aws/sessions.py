"""Sessions and clients: the identity, account and region of a call to AWS, and how long it may take."""

from __future__ import annotations

import functools
import os
import pwd
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    DeferredRefreshableCredentials,
    create_credential_resolver,
)
from botocore.exceptions import NoCredentialsError, RefreshWithMFAUnsupportedError
from cachetools import LRUCache

from redshift_secrets.aws.credential_errors import CREDENTIAL_SOURCES, credential_errors
from redshift_secrets.aws.errors import member, translate_errors
from redshift_secrets.aws.exchanges import exchanges
from redshift_secrets.aws.fork_safe_session import ForkSafeSession
from redshift_secrets.aws.odd_members import read_timestamp
from redshift_secrets.aws.recorded_credentials import RecordedCredentials
from redshift_secrets.cache import forks
from redshift_secrets.errors import AwsError
from redshift_secrets.model import reveal
from redshift_secrets.settings.settings import Settings

SessionTags = tuple[tuple[str, str], ...]
"""Keys and values of the tags that a role is assumed with."""

_MAX_TAGGED = 100
"""Sessions with tags that are kept, the latest used ones: a server may mint for any number of database users."""

_RETRY_IDENTITY_SECONDS = 60.0
"""How long to wait before asking STS again for the caller identity after it did not answer."""


class _Identity(NamedTuple):
    """The session of one identity, and its clients by region and service."""

    session: ForkSafeSession
    clients: dict[tuple[str, str], Any]


class Sessions:
    """One session per identity and one client per identity, region and service, created on first use.

    The base identity comes from boto3's default chain, or from `profile_name`; with `role_arn` it assumes that role. Each
    role of `accounts` is assumed by the resulting identity. A role that is assumed with session tags is an identity of its
    own. Credentials of assumed roles refresh themselves.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        session_name: Callable[[], str] | None = None,
    ) -> None:
        self._settings = settings
        self._session_name = session_name or role_session_name
        self._monotonic = monotonic
        self._external_ids = {account.role_arn: account.external_id for account in settings.accounts}
        self.reset_after_fork()
        forks.reset_in_child(self)

    def reset_after_fork(self) -> None:
        """Drop sessions, clients and their sockets: a child creates its own."""
        self._lock = threading.RLock()
        self._default: ForkSafeSession | None = None
        self._untagged: dict[tuple[str | None, SessionTags], _Identity] = {}
        self._tagged: LRUCache[tuple[str | None, SessionTags], _Identity] = LRUCache(_MAX_TAGGED)
        self._identity_lock = threading.Lock()
        self._known_key: tuple[str, str] | None = None
        self._ask_identity_at = float("-inf")

    def client(self, service: str, *, region: str, role_arn: str | None, tags: SessionTags = ()) -> Any:
        """Return the client of `service` in `region`, as the base identity or as `role_arn` of `accounts`.

        With `tags`, its role, for the base identity the setting `role_arn`, is assumed with these session tags.
        """
        # Creating a client is not thread-safe in boto3, using one is. Whoever has this lock may wait for the network, so
        # nobody takes it inside `forks.no_fork_here`.
        with self._lock:
            session, clients = self._identity_as(role_arn, tags)
            if (region, service) not in clients:
                clients[region, service] = self._create_client(session, service, region, self._config())
            return clients[region, service]

    def unsigned_client(self, service: str, region: str) -> Any:
        """Return a client of `service` whose calls need no credentials."""
        with self._lock:
            if self._default is None:
                self._default = self._default_session()
            config = self._config().merge(Config(signature_version=UNSIGNED))
            return self._default.create_client(
                service, region_name=region, endpoint_url=self._settings.endpoint_url, config=config
            )

    def credential_method(self) -> str | None:
        """Return botocore's name of the provider that found the credentials that the chain of roles begins with."""
        credentials = None if self._default is None else self._default.get_credentials()
        return None if credentials is None else str(credentials.method)

    def account(self, region: str, role_arn: str | None) -> tuple[str, str] | None:
        """Return partition and account of the identity that calls are made as, `None` where they are not known."""
        parts = self.identity(region, role_arn).split(":")
        return (parts[1], parts[4]) if len(parts) > 5 and parts[0] == "arn" else None

    def default_region(self) -> str:
        """Return the region of the settings, the environment or the profile; raises `AwsError` when there is none."""
        operation, resource, identity = "the search for an AWS region", "this host", self._settings.default_identity
        region = self._settings.region_name
        if region is None:
            with translate_errors(operation, resource, identity):
                region = self._session(None).get_config_variable("region")
        if not region:
            advice = "Set regions in backend_kwargs, or AWS_DEFAULT_REGION."
            if "AWS_REGION" in os.environ:  # as in AWS's own containers, and read by its other SDKs
                advice += " boto3 does not read AWS_REGION."
            raise AwsError(operation, resource, identity, "Misconfigured", "no AWS region is configured.", advice, True)
        return str(region)

    def signed_with(self) -> Any:
        """Return the keys of the base identity that this thread has last signed a call with, `None` where it has not."""
        credentials = self._base_credentials
        return None if credentials is None else credentials.used

    def identity(self, region: str, role_arn: str | None, keys: Any = None) -> str:
        """Return the ARN that calls are made as: that of the assumed role, else what `sts_identity` returns."""
        return role_arn or self._settings.role_arn or self.sts_identity(region, keys) or self._settings.default_identity

    def expected_identity(self, role_arn: str | None) -> str:
        """Return the identity without asking AWS: what STS answered for these keys before, else what the settings say."""
        return role_arn or self._settings.role_arn or self._known_identity or self._settings.default_identity

    @property
    def identity_is_known(self) -> bool:
        """Whether `sts_identity` returns without asking STS."""
        return self._known_identity is not None or self._monotonic() < self._ask_identity_at

    def sts_identity(self, region: str, keys: Any = None) -> str | None:
        """Return the ARN that `keys` belong to, by default those that calls are signed with now, asking STS until it answers;
        `None` where it does not. The keys themselves sign the question.

        One thread asks, the others wait for its answer.
        https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
        """
        identity = self._known_identity if keys is None else self._identity_of(keys)
        if identity is not None:
            return identity
        with self._identity_lock:
            identity = self._known_identity if keys is None else self._identity_of(keys)
            if identity is None and self._monotonic() >= self._ask_identity_at:
                identity = self._ask_identity(region, keys)
                if identity is None:
                    self._ask_identity_at = self._monotonic() + _RETRY_IDENTITY_SECONDS
        return identity

    def remember_identity(self, arn: str) -> None:
        """Take this for the identity of the keys that this thread has last signed a call of the base identity with."""
        keys = self.signed_with()
        if keys is not None:
            self._known_key = keys.access_key, arn

    def _current_keys(self) -> Any:
        with self._lock:
            credentials = self._session(None).get_credentials()
        if credentials is None:
            raise NoCredentialsError()
        return credentials.get_frozen_credentials()

    @property
    def _base_credentials(self) -> RecordedCredentials | None:
        base = self._untagged.get((None, ()))
        credentials = None if base is None else base.session._credentials
        return credentials if isinstance(credentials, RecordedCredentials) else None

    @property
    def _known_identity(self) -> str | None:
        credentials = self._base_credentials
        keys = None if credentials is None else credentials.current
        return None if keys is None else self._identity_of(keys)

    def _identity_of(self, keys: Any) -> str | None:
        # An access key belongs to one identity for ever.
        known = self._known_key
        return known[1] if known is not None and known[0] == keys.access_key else None

    def _ask_identity(self, region: str, keys: Any = None) -> str | None:
        # Short and once: a private network often has no route to STS, and a lookup must not wait for a mere name.
        brief = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
        try:
            with translate_errors("sts:GetCallerIdentity", "this account", self._settings.default_identity):
                if keys is None:
                    keys = self._current_keys()
                with self._lock:
                    sts = self._create_client(self._session(None), "sts", region, self._config().merge(brief), keys)
                arn = str(member(sts.get_caller_identity(), "Arn", str))
        except AwsError:
            return None
        self._known_key = keys.access_key, arn
        return arn

    def _create_client(
        self, session: ForkSafeSession, service: str, region: str, config: Config, keys: Any = None
    ) -> Any:
        return session.create_client(
            service,
            region_name=region,
            endpoint_url=self._settings.endpoint_url,
            config=config,
            aws_access_key_id=keys and keys.access_key,
            aws_secret_access_key=keys and keys.secret_key,
            aws_session_token=keys and keys.token,
        )

    def _identity_as(self, role_arn: str | None, tags: SessionTags) -> _Identity:
        identities = self._tagged if tags else self._untagged
        if (role_arn, tags) not in identities:
            identities[role_arn, tags] = _Identity(self._new_session(role_arn, tags), {})
        return identities[role_arn, tags]

    def _session(self, role_arn: str | None) -> ForkSafeSession:
        return self._identity_as(role_arn, ()).session

    def _new_session(self, role_arn: str | None, tags: SessionTags) -> ForkSafeSession:
        settings = self._settings
        if role_arn is not None:
            external_id = self._external_ids.get(role_arn)
            return self._assumed_session(self._session(None), role_arn, external_id, {}, tags)
        if self._default is None:
            self._default = self._default_session()
        if settings.role_arn is None:
            return self._default
        arguments = reveal(settings.assume_role_kwargs)
        return self._assumed_session(self._default, settings.role_arn, settings.external_id, arguments, tags)

    def _default_session(self) -> ForkSafeSession:
        settings = self._settings
        with forks.no_fork_here:  # the resolver creates TLS contexts, too
            core = self._bare_session()
            boto3.Session(botocore_session=core, region_name=settings.region_name)
            with credential_errors():  # a number of the configuration that is none
                resolver = create_credential_resolver(core, region_name=self._settings_region)
            # Nobody sits at the terminal of a worker, and botocore would wait there for the code of an MFA device.
            resolver.get_provider("assume-role")._prompter = _no_mfa_code
            for provider in resolver.providers:
                provider.load = functools.partial(_search, provider.METHOD, provider.load)
            core.register_component("credential_provider", resolver)
        return core

    def _assumed_session(
        self,
        source: ForkSafeSession,
        role_arn: str,
        external_id: str | None,
        more: Mapping[str, Any],
        tags: SessionTags,
    ) -> ForkSafeSession:
        # The way botocore itself assumes the roles of a profile, with the role taken from the settings.
        arguments: dict[str, Any] = {**more, "RoleSessionName": self._session_name()}
        if external_id is not None:
            arguments["ExternalId"] = reveal(external_id)
        if tags:
            own = [{"Key": key, "Value": value} for key, value in tags]
            arguments["Tags"] = [*arguments.get("Tags", ()), *own]
        with translate_errors("sts:AssumeRole", role_arn, self._settings.default_identity):
            source_credentials = source.get_credentials()
            if source_credentials is None:
                raise NoCredentialsError()
        fetcher = AssumeRoleCredentialFetcher(
            client_creator=functools.partial(
                source.create_client,
                region_name=self._settings_region or source.get_config_variable("region"),
                endpoint_url=self._settings.endpoint_url,
                config=self._config(),
            ),
            source_credentials=source_credentials,
            role_arn=role_arn,
            extra_args=arguments,
        )
        assumed = self._bare_session()
        # Service models are megabytes: a session for each database user must not read them again.
        assumed.register_component("data_loader", source.get_component("data_loader"))
        assumed._credentials = DeferredRefreshableCredentials(
            refresh_using=fetcher.fetch_credentials, method="assume-role"
        )
        return assumed

    def _bare_session(self) -> ForkSafeSession:
        """Return a session without credentials, for which all of the profile holds."""
        session = ForkSafeSession(profile=self._settings.profile_name)
        session.verify = self._settings.verify
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=read_timestamp)
        # For the clients of botocore's credential providers, too: a proxy, FIPS mode, how long they may take.
        session.set_default_client_config(self._config())
        # The global endpoint is in one partition alone, and in one region of it.
        session.set_config_variable("sts_regional_endpoints", "regional")
        return session

    @property
    def _settings_region(self) -> str | None:
        """The region that STS is asked in: one of the settings, which is in their partition, `None` where they name none."""
        settings = self._settings
        others = [region for account in settings.accounts for region in account.regions or ()]
        return next(filter(None, (*settings.regions, settings.region_name, *others)), None)

    def _config(self) -> Config:
        seconds = self._settings.aws_timeout_seconds
        # A lookup has aws_timeout_seconds for a listing and a mint together: one call must leave time for another.
        config = Config(
            connect_timeout=min(3.0, seconds / 4),
            read_timeout=seconds / 2,
            retries={"mode": "standard", "total_max_attempts": 3},
            user_agent_extra="redshift-secrets",
        )
        if not self._settings.config:
            return config
        try:
            return config.merge(Config(**self._settings.config))
        except (TypeError, ValueError) as error:
            raise AwsError(
                "the creation of an AWS client", "this host", self._settings.default_identity, "Misconfigured",
                f"botocore rejects the setting config: {error}.", "See botocore.config.Config for the names it takes.", True,
            ) from None  # fmt: skip


def _search(method: str, load: Callable[[], Any]) -> Any:
    with exchanges.search(CREDENTIAL_SOURCES.get(method, method)):
        return load()


def _no_mfa_code(_prompt: str) -> str:
    raise RefreshWithMFAUnsupportedError()


def role_session_name(host: str | None = None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the name that CloudTrail shows for the sessions of this process: of which OS user on which host they are.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html allows 64 of these characters.
    """
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in many containers
        user = environ.get("USER") or str(os.getuid())
    name = f"redshift-secrets-{user}@{host or socket.gethostname()}"
    return re.sub(r"[^\w+=,.@-]", "-", name, flags=re.ASCII)[:64]
