"""Sessions and clients: the identity, account and region of a call to AWS, and how long it may take."""

from __future__ import annotations

# The search for credentials needs the first two and would import them on first use, where a fork can interrupt the import.
import _strptime  # type: ignore[import-not-found]  # noqa: F401
import encodings.idna  # noqa: F401
import functools
import threading
import time
from collections.abc import Callable
from typing import Any

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    DeferredRefreshableCredentials,
    create_credential_resolver,
)
from botocore.exceptions import NoCredentialsError

from redshift_secrets.aws.errors import translate_errors
from redshift_secrets.aws.recorded_credentials import RecordedCredentials
from redshift_secrets.cache import forks
from redshift_secrets.errors import AwsError, copy_for_reraise
from redshift_secrets.model import reveal
from redshift_secrets.settings.settings import Settings

_ROLE_SESSION_NAME = "redshift-secrets"

_RETRY_IDENTITY_SECONDS = 60.0
"""How long to wait before asking STS again for the caller identity after it did not answer."""


_RETRY_CREDENTIALS_SECONDS = 5.0
"""How long credentials that could not be found are not searched for again."""


class ForkSafeSession(botocore.session.Session):  # type: ignore[misc]  # botocore has no types
    """A botocore session whose clients are built inside `forks.no_fork_here`, without making a fork wait for the network.

    Building a client creates a TLS context: a child forked meanwhile would find OpenSSL's locks taken. Everything that may
    run a program or send a request happens before the gate is entered. The clients that botocore's own credential
    providers build (STS, SSO) are built here, too.
    """

    monotonic = staticmethod(time.monotonic)
    _credentials: Any
    _failed: tuple[float, Exception | None] | None = None

    def get_credentials(self) -> Any:
        """Return the credentials, `None` where there are none, or raise why they cannot be had; that is found out once for all
        clients, since botocore would ask a silent metadata service or run a failing program again for each."""
        if self._credentials is None and self._failed is not None:
            until, error = self._failed
            if self.monotonic() < until:
                if error is not None:
                    raise copy_for_reraise(error)
                return None
        try:
            found, error = super().get_credentials(), None
        except Exception as caught:
            found, error = None, caught
        self._failed = (self.monotonic() + _RETRY_CREDENTIALS_SECONDS, error) if found is None else None
        if error is not None:
            raise error
        if found is not None and not isinstance(found, RecordedCredentials):
            found = self._credentials = RecordedCredentials(found)
        return found

    def create_client(self, service_name: str, *, config: Config | None = None, **arguments: Any) -> Any:
        """Return a client; raises `NoCredentialsError` where there are no credentials to sign its calls with."""
        unsigned = config is not None and config.signature_version is UNSIGNED
        own_keys = arguments.get("aws_access_key_id") is not None
        # botocore keeps credentials that it has found, but searches again, IMDS included, for those that it has not.
        if not unsigned and not own_keys and self.get_credentials() is None:
            raise NoCredentialsError()
        mode = (config and config.defaults_mode) or self.get_config_variable("defaults_mode")
        if mode.lower() == "auto":
            # botocore would ask IMDS for the region, to choose between modes that differ in the connect timeout alone.
            config = (config or Config()).merge(Config(defaults_mode="standard"))
        with forks.no_fork_here:
            return super().create_client(service_name, config=config, **arguments)


class Sessions:
    """One boto3 session per identity and one client per identity, region and service, created on first use.

    The base identity comes from boto3's default chain, or from `profile_name`; with `role_arn` it assumes that role. Each
    role of `accounts` is assumed by the resulting identity. Credentials of assumed roles refresh themselves.
    """

    def __init__(self, settings: Settings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._external_ids = {account.role_arn: account.external_id for account in settings.accounts}
        self.reset_after_fork()
        forks.reset_in_child(self)

    def reset_after_fork(self) -> None:
        """Drop sessions, clients and their sockets: a child creates its own."""
        self._lock = threading.RLock()
        self._sessions: dict[str | None, Any] = {}
        self._clients: dict[tuple[str | None, str, str], Any] = {}
        self._identity_lock = threading.Lock()
        self._identity: tuple[str, str] | None = None
        self._ask_identity_at = float("-inf")

    def client(self, service: str, *, region: str, role_arn: str | None) -> Any:
        """Return the client of `service` in `region`, as the base identity or as `role_arn` of `accounts`."""
        key = (role_arn, region, service)
        # Creating a client is not thread-safe in boto3, using one is. Whoever has this lock may wait for the network, so
        # nobody takes it inside `forks.no_fork_here`.
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._create_client(service, region, role_arn, self._config())
            return self._clients[key]

    def default_region(self) -> str:
        """Return the region of the settings, the environment or the profile; raises `AwsError` when there is none."""
        operation, resource, identity = "the search for an AWS region", "this host", self._settings.default_identity
        region = self._settings.region_name
        if region is None:
            with translate_errors(operation, resource, identity):
                region = self._session(None).region_name
        if not region:
            advice = "Set regions in backend_kwargs, or AWS_DEFAULT_REGION."
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

    def _current_keys(self) -> Any:
        with self._lock:
            credentials = self._session(None).get_credentials()
        if credentials is None:
            raise NoCredentialsError()
        return credentials.get_frozen_credentials()

    @property
    def _base_credentials(self) -> RecordedCredentials | None:
        session = self._sessions.get(None)
        credentials = None if session is None else session._session._credentials
        return credentials if isinstance(credentials, RecordedCredentials) else None

    @property
    def _known_identity(self) -> str | None:
        credentials = self._base_credentials
        keys = None if credentials is None else credentials.current
        return None if keys is None else self._identity_of(keys)

    def _identity_of(self, keys: Any) -> str | None:
        # An access key belongs to one identity for ever.
        known = self._identity
        return known[1] if known is not None and known[0] == keys.access_key else None

    def _ask_identity(self, region: str, keys: Any = None) -> str | None:
        # Short and once: a private network often has no route to STS, and a lookup must not wait for a mere name.
        brief = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
        try:
            with translate_errors("sts:GetCallerIdentity", "this account", self._settings.default_identity):
                if keys is None:
                    keys = self._current_keys()
                with self._lock:
                    sts = self._create_client("sts", region, None, self._config().merge(brief), keys)
                arn = str(sts.get_caller_identity()["Arn"])
        except AwsError:
            return None
        self._identity = keys.access_key, arn
        return arn

    def _create_client(self, service: str, region: str, role_arn: str | None, config: Config, keys: Any = None) -> Any:
        return self._session(role_arn).client(
            service,
            region_name=region,
            endpoint_url=self._settings.endpoint_url,
            config=config,
            aws_access_key_id=keys and keys.access_key,
            aws_secret_access_key=keys and keys.secret_key,
            aws_session_token=keys and keys.token,
        )

    def _session(self, role_arn: str | None) -> Any:
        if role_arn not in self._sessions:
            settings = self._settings
            if role_arn is not None:
                session = self._assumed_session(self._session(None), role_arn, self._external_ids.get(role_arn))
            else:
                session = self._default_session()
                if settings.role_arn is not None:
                    session = self._assumed_session(session, settings.role_arn, settings.external_id)
            self._sessions[role_arn] = session
        return self._sessions[role_arn]

    def _default_session(self) -> Any:
        settings = self._settings
        with forks.no_fork_here:  # the resolver creates TLS contexts, too
            core = ForkSafeSession()
            session = boto3.Session(
                botocore_session=core, profile_name=settings.profile_name, region_name=settings.region_name
            )
            # botocore would call STS in the region of its first client, but there is none yet when credentials are resolved.
            resolver = create_credential_resolver(core, region_name=next(iter(settings.regions), None))
            core.register_component("credential_provider", resolver)
        return session

    def _assumed_session(self, source: Any, role_arn: str, external_id: str | None) -> Any:
        # The way botocore itself assumes the roles of a profile, with the role taken from the settings.
        core: Any = source._session
        arguments = {"RoleSessionName": _ROLE_SESSION_NAME}
        if external_id is not None:
            arguments["ExternalId"] = reveal(external_id)
        with translate_errors("sts:AssumeRole", role_arn, self._settings.default_identity):
            source_credentials = source.get_credentials()
            if source_credentials is None:
                raise NoCredentialsError()
        fetcher = AssumeRoleCredentialFetcher(
            client_creator=functools.partial(
                core.create_client,
                region_name=source.region_name or next(iter(self._settings.regions), "us-east-1"),
                endpoint_url=self._settings.endpoint_url,
                config=self._config(),
            ),
            source_credentials=source_credentials,
            role_arn=role_arn,
            extra_args=arguments,
        )
        assumed: Any = ForkSafeSession()
        assumed._credentials = DeferredRefreshableCredentials(
            refresh_using=fetcher.fetch_credentials, method="assume-role"
        )
        return boto3.Session(botocore_session=assumed, region_name=source.region_name)

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
