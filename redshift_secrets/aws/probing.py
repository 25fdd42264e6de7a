"""What AWS allows and answers, tried call by call: for a check of a site, not for lookups. Nothing here changes anything."""

from __future__ import annotations

import functools
import socket
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from botocore import xform_name
from botocore.awsrequest import AWSRequest
from msgspec import Struct

from redshift_secrets.aws.client import AwsClient
from redshift_secrets.aws.credential_errors import CREDENTIAL_SOURCES
from redshift_secrets.aws.errors import member, translate_errors
from redshift_secrets.aws.exchanges import proxy_for
from redshift_secrets.aws.network_errors import about_modes, unresolved, without_login
from redshift_secrets.errors import AwsError, RedshiftSecretsError
from redshift_secrets.model import MintRequest
from redshift_secrets.settings import Settings

NO_SUCH_WAREHOUSE = "redshift-secrets-doctor-no-such-warehouse"
"""A name that calls are tried with where they need one: AWS checks permissions first, and then answers that there is none."""

SERVICES = {"redshift": "redshift", "redshift-serverless": "redshift-serverless", "tag": "resourcegroupstaggingapi"}
"""boto3's name of a service, by the prefix of its IAM actions, where calls are tried without a warehouse."""

_TRIALS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "redshift:DescribeClusters": ("every cluster", {"MaxRecords": 20}),
    "redshift:DescribeEndpointAccess": ("every VPC endpoint", {"MaxRecords": 20}),
    "redshift:GetClusterCredentials": ("clusters", {"ClusterIdentifier": NO_SUCH_WAREHOUSE}),
    "redshift:GetClusterCredentialsWithIAM": ("clusters", {"ClusterIdentifier": NO_SUCH_WAREHOUSE}),
    "redshift-serverless:GetCredentials": ("workgroups", {"workgroupName": NO_SUCH_WAREHOUSE}),
    "redshift-serverless:ListEndpointAccess": ("every VPC endpoint", {"maxResults": 1}),
    "redshift-serverless:ListNamespaces": ("every namespace", {"maxResults": 1}),
    "redshift-serverless:ListWorkgroups": ("every workgroup", {"maxResults": 1}),
    "tag:GetResources": (
        "every workgroup",
        {"ResourceTypeFilters": ["redshift-serverless:workgroup"], "ResourcesPerPage": 1},
    ),
}
"""By IAM action: what it is about, and the smallest request there is."""


class Caller(Struct, frozen=True):
    """The identity that AWS is called as, and where the first credentials of its chain were found."""

    arn: str
    source: str


class Reached(Struct, frozen=True):
    """An endpoint of AWS, and what came of a request to it.

    Times are in seconds; `seconds` is that of the request with TCP and TLS. `ahead` is how far the clock of this host is ahead of
    the one in the answer, which has whole seconds. `error` is why there is no answer. A `proxy` looks names up itself.
    """

    service: str
    region: str
    url: str
    addresses: tuple[str, ...] = ()
    dns_seconds: float = 0.0
    seconds: float = 0.0
    ahead: float | None = None
    proxy: str | None = None
    error: AwsError | None = None


class ProbingClient(AwsClient):
    """An `AwsClient` that tries single calls, too. Every method may raise `AwsError`."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        tagging_patience_seconds: float | None = None,
    ) -> None:
        super().__init__(settings, clock=clock, tagging_patience_seconds=tagging_patience_seconds)
        self._monotonic = monotonic

    def caller(self, region: str, role_arn: str | None = None) -> Caller:
        """Return the caller, or the session of a role of `accounts`, as STS in `region` names it.

        https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
        """
        identity = self._sessions.expected_identity(role_arn)
        with translate_errors("sts:GetCallerIdentity", "this account", identity):
            client = self._sessions.client("sts", region=region, role_arn=role_arn)
            arn = str(member(client.get_caller_identity(), "Arn", str))
            method = self._sessions.credential_method()
        if role_arn is None and self._settings.role_arn is None:
            self._sessions.remember_identity(arn)  # messages name it from now on
        return Caller(arn, CREDENTIAL_SOURCES.get(method or "", method or "unknown"))

    def attempt(self, action: str, region: str, role_arn: str | None, **request: Any) -> None:
        """Make a call that changes nothing, named as its IAM action; where it is about a warehouse, about one that does not exist."""
        prefix, _, operation = action.partition(":")
        what, smallest = _TRIALS[action]
        try:
            with translate_errors(action, f"{what} in {region}", self._sessions.expected_identity(role_arn)):
                client = self._sessions.client(SERVICES[prefix], region=region, role_arn=role_arn)
                getattr(client, xform_name(operation))(**smallest, **request)
        except AwsError as error:
            if not error.is_gone:
                raise

    def try_mint(self, request: MintRequest) -> None:
        """Mint a credential as a lookup would, and throw it away."""
        self.mint(request)

    def reach(self, service: str, region: str) -> Reached:
        """Send a request that asks for nothing to the endpoint of a service, by boto3's name, and return what came of it."""
        operation, resource = f"a request to {service}", f"its endpoint in {region}"
        with translate_errors(operation, resource, self._settings.default_identity):
            client = self._sessions.unsigned_client(service, region)
        url = str(client.meta.endpoint_url)
        session = client._endpoint.http_session
        proxy = proxy_for(session, url)
        found = functools.partial(Reached, service, region, without_login(url), proxy=proxy)
        if proxy is None:
            start = self._monotonic()
            try:
                with translate_errors(operation, resource, self._settings.default_identity):
                    addresses = _addresses(url)
            except OSError as error:
                reason = f"{unresolved(error)} {urlsplit(url).hostname}."
                advice = f"{about_modes(url)}Check the region and the DNS of this network."
                identity = self._settings.default_identity
                return found(error=AwsError(operation, resource, identity, "Unreachable", reason, advice, True))
            found = functools.partial(found, addresses=addresses, dns_seconds=self._monotonic() - start)
        start = self._monotonic()
        try:
            with translate_errors(operation, resource, self._settings.default_identity):
                response = session.send(AWSRequest("HEAD", url).prepare())
        except AwsError as error:
            return found(error=error, seconds=self._monotonic() - start)
        seconds = self._monotonic() - start
        return found(seconds=seconds, ahead=_ahead(response.headers.get("Date"), self._clock() - seconds / 2))

    def not_reached(self, service: str, region: str, error: RedshiftSecretsError) -> Reached:
        """Return that there is no answer, for a reason that no request of this client has found."""
        resource, identity = f"its endpoint in {region}", self._settings.default_identity
        if not isinstance(error, AwsError):
            error = AwsError(f"a request to {service}", resource, identity, "TimedOut", f"{error}.", "", True)
        return Reached(service, region, f"{service} in {region}", error=error)


def _addresses(url: str) -> tuple[str, ...]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(each[4][0]) for each in found))


def _ahead(date: str | None, now: float) -> float | None:
    try:
        # Whole seconds, cut off: half a second later on average.
        return None if date is None else now - parsedate_to_datetime(date).timestamp() - 0.5
    except (TypeError, ValueError):
        return None
