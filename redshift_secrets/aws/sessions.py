"""Sessions and clients: who we are for AWS, in which account and region, and how long a call may take."""

from __future__ import annotations

import functools
import threading
import time
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

from redshift_secrets.aws.errors import translate_errors
from redshift_secrets.cache import forks
from redshift_secrets.errors import AwsError
from redshift_secrets.settings.settings import Settings

_ROLE_SESSION_NAME = "redshift-secrets"

_ASK_AGAIN_SECONDS = 60.0
"""How long AWS is not asked again who we are, when it did not tell."""


class Sessions:
    """One boto3 session per identity and one client per identity, region and service, made when first asked for.

    The identity is found by boto3's default chain, or `profile_name`; with `role_arn` that identity assumes the role,
    and each role of `accounts` is assumed by what comes out of that. Assumed credentials renew themselves.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._external_ids = {account.role_arn: account.external_id for account in settings.accounts}
        self.reset_after_fork()
        forks.reset_in_child(self)

    def reset_after_fork(self) -> None:
        """Drop sessions, clients and their sockets: a child makes its own."""
        self._lock = threading.RLock()
        self._sessions: dict[str | None, Any] = {}
        self._clients: dict[tuple[str | None, str, str], Any] = {}
        self._identity: str | None = None
        self._ask_identity_at = float("-inf")

    def client(self, service: str, region: str, role_arn: str | None) -> Any:
        """Return the client of `service` in `region`, as the base identity or as `role_arn` of `accounts`."""
        key = (role_arn, region, service)
        # Making a client is not thread-safe in boto3, using one is. A fork waits: in a child that is forked in the middle of
        # making a TLS context, the locks of OpenSSL would stay taken.
        with forks.no_fork_here, self._lock:
            if key not in self._clients:
                self._clients[key] = self._session(role_arn).client(
                    service, region_name=region, endpoint_url=self._settings.endpoint_url, config=self._config()
                )
            return self._clients[key]

    def default_region(self) -> str:
        """Return the region of the settings, the environment or the profile; raises `AwsError` when there is none."""
        region = self._settings.region_name
        if region is None:
            with translate_errors("the choice of a region", "this site", "any identity"):
                region = self._session(None).region_name
        if not region:
            advice = "Set regions in backend_kwargs, or AWS_DEFAULT_REGION."
            raise AwsError(
                "the choice of a region",
                "this site",
                "any identity",
                "Misconfigured",
                "no AWS region is known.",
                advice,
            )
        return str(region)

    def identity(self, region: str, role_arn: str | None) -> str:
        """Return the ARN that AWS knows us by: the role we assumed, else what AWS tells, asked once."""
        return role_arn or self._settings.role_arn or self.asked_identity(region) or self.expected_identity(None)

    def expected_identity(self, role_arn: str | None) -> str:
        """Return who we are without asking AWS: what it told before, else what the settings say."""
        known = role_arn or self._settings.role_arn or self._identity
        if known is None:
            profile = self._settings.profile_name
            return f"profile {profile}" if profile else "the identity of boto3's default chain"
        return known

    @property
    def identity_is_known(self) -> bool:
        """Whether `asked_identity` answers without asking."""
        return self._identity is not None or time.monotonic() < self._ask_identity_at

    def asked_identity(self, region: str) -> str | None:
        """Return the ARN that AWS tells us, asked until it tells; `None` where it does not.

        https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
        """
        if self._identity is None and time.monotonic() >= self._ask_identity_at:
            self._identity = self._ask_identity(region)
            self._ask_identity_at = time.monotonic() + _ASK_AGAIN_SECONDS
        return self._identity

    def _ask_identity(self, region: str) -> str | None:
        # Short and once: a private network often has no way to STS, and a lookup must not wait for a mere name.
        brief = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
        try:
            with translate_errors("sts:GetCallerIdentity", "this account", self.expected_identity(None)):
                with forks.no_fork_here, self._lock:
                    config = self._config().merge(brief)
                    sts = self._session(None).client(
                        "sts", region_name=region, endpoint_url=self._settings.endpoint_url, config=config
                    )
                return str(sts.get_caller_identity()["Arn"])
        except AwsError:
            return None

    def _session(self, role_arn: str | None) -> Any:
        if role_arn not in self._sessions:
            settings = self._settings
            if role_arn is not None:
                source = self._session(None)
                session = self._assumed(source, role_arn, self._external_ids.get(role_arn))
            else:
                session = boto3.Session(profile_name=settings.profile_name, region_name=settings.region_name)
                if settings.role_arn is not None:
                    session = self._assumed(session, settings.role_arn, settings.external_id)
            self._sessions[role_arn] = session
        return self._sessions[role_arn]

    def _assumed(self, source: Any, role_arn: str, external_id: str | None) -> Any:
        # The way botocore itself assumes the roles of a profile, with the role taken from our settings.
        core: Any = source._session
        arguments = {"RoleSessionName": _ROLE_SESSION_NAME}
        if external_id is not None:
            arguments["ExternalId"] = external_id
        with translate_errors("the search for AWS credentials", "this machine", self.expected_identity(None)):
            source_credentials = source.get_credentials()
        if source_credentials is None:
            raise AwsError(
                "sts:AssumeRole", role_arn, "nobody", "NoCredentials", "this process has no AWS credentials to begin with.",
                "Give Airflow an instance profile, a task or pod role, or set profile_name.",
            )  # fmt: skip
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
        assumed: Any = botocore.session.get_session()
        assumed._credentials = DeferredRefreshableCredentials(
            refresh_using=fetcher.fetch_credentials, method="assume-role"
        )
        return boto3.Session(botocore_session=assumed, region_name=source.region_name)

    def _config(self) -> Config:
        seconds = self._settings.aws_timeout_seconds
        # A lookup has aws_timeout_seconds for a listing and a mint together: one call must leave room for another.
        ours = Config(
            connect_timeout=min(3.0, seconds / 4),
            read_timeout=seconds / 2,
            retries={"mode": "standard", "total_max_attempts": 3},
            user_agent_extra="redshift-secrets",
        )
        if not self._settings.config:
            return ours
        try:
            return ours.merge(Config(**self._settings.config))
        except (TypeError, ValueError) as error:
            raise AwsError(
                "the making of a client", "this site", "any identity", "Misconfigured", f"the setting config is not one that"
                f" botocore takes: {error}.", "See botocore.config.Config for its names.",
            ) from None  # fmt: skip
