"""The door to AWS: everything the keepers ask of it, in their own words."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any, Literal

from redshift_secrets.aws import discovery, minting
from redshift_secrets.aws.errors import DENIED, translate_errors
from redshift_secrets.aws.sessions import Sessions
from redshift_secrets.errors import AwsError
from redshift_secrets.model import Credential, MintRequest, Scope, Warehouse
from redshift_secrets.settings.settings import Settings

log = logging.getLogger(__name__)

_KINDS: tuple[Literal["cluster"], Literal["workgroup"]] = ("cluster", "workgroup")


class AwsClient:
    """AWS as this site sees it. Every method may raise `AwsError`. Safe among threads, and after a fork.

    `clock` returns seconds since the epoch.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._sessions = Sessions(settings)
        self._told_unknown = False

    def scopes(self) -> tuple[Scope, ...]:
        """Return everything there is to list: both kinds, in every region of every account."""
        settings = self._settings
        places: list[tuple[str | None, str]] = []
        home = settings.regions or ((settings.region_name,) if settings.region_name else ())
        if not home:
            home = (self._sessions.default_region(),)
        places += [(None, region) for region in home]
        for account in settings.accounts:
            places += [(account.role_arn, region) for region in account.regions or home]
        return tuple(Scope(kind, region, role_arn) for role_arn, region in places for kind in _KINDS)

    def list(self, scope: Scope) -> tuple[Warehouse, ...]:
        """Return the tagged warehouses of a scope."""
        find = discovery.clusters if scope.kind == "cluster" else discovery.workgroups
        client = self._client(scope.region, scope.role_arn, f"list the {scope}")
        return find(
            client,
            region=scope.region,
            role_arn=scope.role_arn,
            prefix=self._settings.tag_prefix,
            identity=self._sessions.expected_identity(scope.role_arn),
        )

    def look(self, seen: Warehouse) -> Warehouse:
        """Return one warehouse as it is at this moment."""
        look = discovery.cluster if seen.kind == "cluster" else discovery.workgroup
        client = self._client(seen.region, seen.role_arn, f"look at {seen}")
        identity = self._sessions.expected_identity(seen.role_arn)
        return look(client, seen, prefix=self._settings.tag_prefix, identity=identity)

    def mint(self, request: MintRequest) -> Credential:
        """Obtain a new credential."""
        action, way = minting.WAYS[request.auth, request.kind]
        resource = minting.resource_arn(request, action)
        client = self._client(request.region, request.role_arn, action)
        now = self._clock()
        try:
            with translate_errors(action, resource, self._sessions.expected_identity(request.role_arn)):
                user, password, expires_at = way(client, request, now)
        except AwsError as error:
            if error.code not in DENIED or error.operation.startswith("sts:AssumeRole"):
                raise
            # Who was refused is what the reader needs most, so here the name is worth one more short call.
            identity = self._sessions.identity(request.region, request.role_arn)
            advice = error.advice.replace(error.identity, identity)
            raise AwsError(error.operation, error.resource, identity, error.code, error.reason, advice) from None
        minted_by = self._sessions.identity(request.region, request.role_arn)
        return Credential(user=user, password=password, minted_at=now, expires_at=expires_at, minted_by=minted_by)

    def sts_identity(self) -> str | None:
        """Return whom AWS says we are, one ARN for all sessions of a role; `None` where it does not tell.

        https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
        """
        arn = self._sessions.asked_identity(self.scopes()[0].region)
        if arn is None:
            if not self._told_unknown:
                log.warning("AWS does not tell who we are (sts:GetCallerIdentity), so nothing is shared across hosts")
            self._told_unknown = True
            return None
        # arn:aws:sts::<account>:assumed-role/<role>/<session>: each host has a session of its own.
        return arn.rpartition("/")[0] if ":assumed-role/" in arn else arn

    def knows_identity(self) -> bool:
        """Whether `sts_identity` answers at once."""
        return self._sessions.identity_is_known

    def _client(self, region: str, role_arn: str | None, what: str) -> Callable[[str], Any]:
        def make(service: str) -> Any:
            with translate_errors(what, region, self._sessions.expected_identity(role_arn)):
                return self._sessions.client(service, region, role_arn)

        return functools.cache(make)
