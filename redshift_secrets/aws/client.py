"""The AWS client: every call to AWS that a lookup needs, in the words of `model.py`."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redshift_secrets.aws import minting
from redshift_secrets.aws.discovery import Discovery
from redshift_secrets.aws.errors import translate_errors
from redshift_secrets.aws.exchanges import exchanges
from redshift_secrets.aws.paging import Recall, ask_aws
from redshift_secrets.aws.sessions import Sessions, SessionTags
from redshift_secrets.cache import get_logger
from redshift_secrets.cache.workers import Workers
from redshift_secrets.errors import CREDENTIALS_FROM, AwsError, CallerChangedError
from redshift_secrets.model import Credential, MintRequest, Scope, Warehouse, WarehouseKind
from redshift_secrets.settings.settings import Settings

log = get_logger(__name__)


TAGGING_PATIENCE_SECONDS = 0.5
"""It answers sooner, or it costs every lookup that has to wait for the workgroups."""
_MAX_THREADS = 8


_PREFIXES: Mapping[WarehouseKind, tuple[str, ...]] = {
    "cluster": ("redshift:", "secretsmanager:"),
    "workgroup": ("redshift-serverless:", "tag:", "secretsmanager:"),
}
"""Those of the calls that are made about each kind of warehouse."""


class AwsClient:
    """AWS, called as the identities that the settings name. Every method may raise `AwsError`. Thread-safe and fork-safe.

    `clock` returns seconds since the epoch. The tagging API is waited for for `tagging_patience_seconds` (by default
    `TAGGING_PATIENCE_SECONDS`) before workgroups are listed without it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        tagging_patience_seconds: float | None = None,
    ) -> None:
        self._settings = settings
        self._tagging_patience_seconds = (
            TAGGING_PATIENCE_SECONDS if tagging_patience_seconds is None else tagging_patience_seconds
        )
        self._workers = Workers(_MAX_THREADS)
        self._clock = clock
        self._sessions = Sessions(settings)
        self._warned_identity_unknown = False

    def default_region(self) -> str:
        """Return the region of the settings, the environment or the profile; raises `AwsError` when there is none."""
        return self._sessions.default_region()

    def list(self, scope: Scope, recall: Recall) -> tuple[Warehouse, ...]:
        """Return the tagged warehouses of a scope, continuing an earlier listing of it that `recall` has answers of."""
        discovery = self._discovery(scope.region, scope.role_arn, recall)
        return discovery.clusters() if scope.kind == "cluster" else discovery.workgroups()

    def list_all(self, scope: Scope) -> tuple[Warehouse, ...]:
        """Return every warehouse of a scope, tagged or not, with its VPC endpoints."""
        discovery = self._discovery(scope.region, scope.role_arn, ask_aws)
        return discovery.all_clusters() if scope.kind == "cluster" else discovery.all_workgroups()

    def describe(self, warehouse: Warehouse) -> Warehouse:
        """Return one warehouse with its current state."""
        discovery = self._discovery(warehouse.region, warehouse.role_arn, ask_aws)
        return discovery.cluster(warehouse) if warehouse.kind == "cluster" else discovery.workgroup(warehouse)

    def unanswered(self, kind: WarehouseKind, region: str) -> Sequence[str]:
        """Return the endpoints that were asked about warehouses of a kind in a region and have not answered yet, each with what it
        was asked; with `CREDENTIALS_FROM` before it, where the credentials for that are searched. Asks nobody."""
        found = exchanges.unanswered(_PREFIXES[kind], region)
        return list(
            dict.fromkeys(
                f"{each.where} ({each.operation})" if each.operation else f"{CREDENTIALS_FROM}{each.where}"
                for each in found
            )
        )

    def mint(self, request: MintRequest, caller: str | None = None) -> Credential:
        """Return a new credential, valid for at most as long as was asked for. One that has expired raises `AwsError`.

        With `caller`, an ARN as `sts_identity` returns it, one that another identity has minted raises `CallerChangedError`:
        the keys of a process may be replaced at any moment.
        """
        action, mint = minting.WAYS[request.auth, request.kind]
        resource = minting.resource_arn(request, action)
        tags = minting.session_tags(request)
        client = self._client(request.region, request.role_arn, tags)
        expected = self._sessions.expected_identity(request.role_arn)
        if tags:
            expected += f" with the session tags {', '.join(f'{key} = {value}' for key, value in tags)}"
        now = self._clock()
        try:
            with translate_errors(action, resource, expected):
                user, password, expires_at, request_id = mint(client, request, now)
        except AwsError as error:
            if not error.is_denied or error.operation.startswith("sts:AssumeRole"):
                raise
            # The reader needs the ARN that was denied more than anything else: worth one more short call.
            identity = self._sessions.identity(request.region, request.role_arn, self._signed_with(request))
            advice = error.advice.replace(error.identity, identity)
            raise AwsError(
                error.operation,
                error.resource,
                identity,
                error.code,
                error.reason,
                advice,
                error.host_only,
                error.request_id,
            ) from None
        keys = self._signed_with(request)
        minted_by = self._sessions.identity(request.region, request.role_arn, keys)
        if caller is not None:
            self._check_caller(caller, self._sessions.sts_identity(request.region, keys), minted_by)
        late = self._clock() - expires_at
        if late >= 0:
            reason = f"the credential in the answer expired {late:.0f} s ago by the clock of this host."
            advice = "Check that clock; if it is right, look for a proxy on the way that repeats old answers."
            raise AwsError(
                action, resource, minted_by, "ExpiredCredential", reason, advice, host_only=True, request_id=request_id
            )
        expires_at = min(expires_at, now + request.duration)
        return Credential(
            user=user,
            password=password,
            minted_at=now,
            expires_at=expires_at,
            minted_by=minted_by,
            request_id=request_id,
        )

    def sts_identity(self, region: str | None = None) -> str | None:
        """Return the caller's ARN as STS reports it, the same for all sessions of a role; `None` where STS does not answer.

        STS is asked in `region`, by default the first one of the settings.
        https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
        """
        region = region or next(iter(self._settings.regions), None) or self.default_region()
        arn = self._sessions.sts_identity(region)
        if arn is None:
            if not self._warned_identity_unknown:
                log.warning(
                    "STS does not confirm the caller's identity (sts:GetCallerIdentity): what other processes have cached for"
                    " that identity is not used"
                )
            self._warned_identity_unknown = True
            return None
        return _without_session(arn)

    def knows_identity(self) -> bool:
        """Whether `sts_identity` returns without asking STS."""
        return self._sessions.identity_is_known

    def _signed_with(self, request: MintRequest) -> Any:
        """The keys that have signed a request, `None` where those of a role have that the caller has assumed: then the
        caller's are as they are now."""
        if request.role_arn is not None or request.session_role_arn is not None:
            return None
        return self._sessions.signed_with()

    @staticmethod
    def _check_caller(caller: str, identity: str | None, minted_by: str) -> None:
        if identity is None:
            reason = "STS does not confirm which identity the keys belong to that minted the credential."
            advice = "Let this host reach STS."
            raise AwsError(
                "sts:GetCallerIdentity", "this account", minted_by, "NotConfirmed", reason, advice, host_only=True
            )
        if _without_session(identity) != caller:
            raise CallerChangedError()

    def _discovery(self, region: str, role_arn: str | None, recall: Recall) -> Discovery:
        of_caller = None
        if role_arn is not None:
            of_caller = self._discovery(region, None, lambda name, ask: recall(f"as the caller {name}", ask))
        return Discovery(
            self._client(region, role_arn),
            region=region,
            role_arn=role_arn,
            prefix=self._settings.tag_prefix,
            identity=self._sessions.expected_identity(role_arn),
            account=functools.partial(self._sessions.account, region, role_arn),
            recall=recall,
            workers=self._workers,
            tagging_patience_seconds=self._tagging_patience_seconds,
            of_caller=of_caller,
        )

    def _client(self, region: str, role_arn: str | None, tags: SessionTags = ()) -> Callable[[str], Any]:
        return functools.partial(self._sessions.client, region=region, role_arn=role_arn, tags=tags)


def _without_session(arn: str | None) -> str | None:
    """arn:aws:sts::<account>:assumed-role/<role>/<session>: each host has a session of its own."""
    return arn.rpartition("/")[0] if arn is not None and ":assumed-role/" in arn else arn
