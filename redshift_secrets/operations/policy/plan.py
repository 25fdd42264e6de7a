"""Which identity of a site needs which permissions: the caller, the role of the settings, and the roles of other accounts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec.structs import replace

from redshift_secrets.aws.minting import session_tags
from redshift_secrets.aws.permissions import (
    ANY,
    Permission,
    Place,
    partition,
    to_assume,
    to_describe,
    to_list,
    to_list_endpoints,
    to_mint,
    to_tag,
)
from redshift_secrets.errors import RedshiftSecretsError
from redshift_secrets.lookup.catalog import scopes_to_list
from redshift_secrets.lookup.spec import build_spec
from redshift_secrets.lookup.tags import MARKER
from redshift_secrets.model import ConnectionSpec, MintRequest, Scope, Warehouse, WarehouseKind
from redshift_secrets.operations.policy import documents
from redshift_secrets.operations.policy.documents import IdentityPolicies, Placeholder, SitePolicies
from redshift_secrets.settings import Settings

_CALLER = Placeholder("caller_arn", "ARN of the role that Airflow runs as")
_USER_OR_ROLE = r"arn:aws[a-z-]*:iam::\d{12}:(?:user|role)/[!-~]+"
_SESSION = r"(arn:aws[a-z-]*):sts::(\d{12}):assumed-role/([^/]+)/[^/]+"
_DEFAULT_SESSION_SECONDS = 3_600
_MINTED_BY_THE_DRIVER: Mapping[WarehouseKind, str] = {"cluster": "db-user", "workgroup": "iam"}
"""What a driver does with a connection that it mints for itself (`auth` is `connector`)."""

SecretKey = Callable[[ConnectionSpec], "str | None"]
"""Returns the ARN of the KMS key of an admin secret, `None` where that is AWS's own; raises `RedshiftSecretsError`."""


def read_caller(text: str) -> str:
    """Return the ARN of the user or role that an ARN belongs to, which may be that of a session; raises `ValueError`."""
    session = re.fullmatch(_SESSION, text.strip())
    if session is not None:
        return f"{session[1]}:iam::{session[2]}:role/{session[3]}"
    if not re.fullmatch(_USER_OR_ROLE, text.strip()):
        raise ValueError(
            f"must be the ARN of an IAM role or user such as arn:aws:iam::123456789012:role/airflow, not {text!r}"
        )
    return text.strip()


def plan_policies(
    settings: Settings,
    specs: Iterable[ConnectionSpec],
    unseen: Mapping[Scope, str],
    home: Sequence[str],
    caller: str | None,
    secret_key: SecretKey,
) -> SitePolicies:
    """Return the policies with which these settings list, and serve these specs, and nothing more can be done.

    `unseen` says why scopes could not be listed: theirs have wildcards instead of names. `home` are the caller's regions
    (`ANY` for one that is not known), `caller` is the ARN of the role or user that Airflow runs as.
    """
    return _Plan(settings, list(specs), unseen, home, caller, secret_key).policies()


class _Plan:
    """`None` stands for the caller among the identities."""

    def __init__(
        self,
        settings: Settings,
        specs: list[ConnectionSpec],
        unseen: Mapping[Scope, str],
        home: Sequence[str],
        caller: str | None,
        secret_key: SecretKey,
    ) -> None:
        self._settings = settings
        self._unseen = unseen
        self._caller = caller
        self._secret_key = secret_key
        self._notes: list[str] = []
        self._trusted: dict[str, str | None] = {}
        """By role, the identity that assumes it."""
        if settings.role_arn is not None:
            self._trusted[settings.role_arn] = None
        for account in settings.accounts:
            self._trusted[account.role_arn] = settings.role_arn
        self._grants: dict[str | None, list[Permission]] = {each: [] for each in (None, *self._trusted)}
        self._tags: dict[str, dict[str, set[str] | None]] = {role: {} for role in self._trusted}
        """By role, the session tags that it is assumed with, and their values."""
        self._served = [spec for spec in specs if not spec.errors]
        for spec in specs:
            if spec.errors:
                self._notes.append(f"{spec.conn_id!r} is left out, since it cannot be served: {spec.errors[0]}")
        drivers = sorted({spec.conn_id for spec in self._served if spec.auth == "connector"})
        if drivers:
            self._notes.append(
                f"{', '.join(drivers)}: with auth connector the driver mints as the identity of the task; where that is another role"
                " than the one of --caller, attach the policy to it too"
            )
        reasons: dict[str, list[str]] = {}
        for scope, why in unseen.items():
            reasons.setdefault(why, []).append(str(scope))
        for why, scopes in reasons.items():
            self._notes.append(
                f"{', '.join(scopes)}: warehouses are written as *, and what only their tags name (users, groups, database"
                f" roles, ways of authenticating) is missing, since they could not be listed: {why}"
            )
        for scope in scopes_to_list(settings, home):
            self._add_scope(scope)
        for spec in self._served:
            self._add_spec(spec)

    def policies(self) -> SitePolicies:
        """Return what was found, as documents."""
        self._add_roles()
        return SitePolicies(
            tuple(self._identity(role) for role in self._grants if self._grants[role]),
            tuple(dict.fromkeys(self._notes)),
            complete=not self._unseen,
        )

    def _add_scope(self, scope: Scope) -> None:
        place = self._place(scope.role_arn, scope.region)
        self._grant(scope.role_arn, to_list(scope.kind, place))
        why = self._unseen.get(scope)
        here = [spec for spec in self._served if _scope(spec.warehouse) == scope]
        if why is not None:
            self._add_unknown(scope, place)
        if why is not None or any(spec.endpoint.startswith("vpc:") for spec in here):
            self._grant(scope.role_arn, to_list_endpoints(scope.kind, place))
            if scope.role_arn is not None:  # endpoints to warehouses of others are in the caller's own account
                self._grant(None, to_list_endpoints(scope.kind, self._place(None, scope.region)))

    def _add_unknown(self, scope: Scope, place: Place) -> None:
        """What a warehouse without tags would take, which may be any."""
        service, resource = (
            ("redshift", "cluster:*") if scope.kind == "cluster" else ("redshift-serverless", "workgroup/*")
        )
        warehouse = Warehouse(
            kind=scope.kind,
            identifier=ANY,
            arn=place.arn(service, resource),
            account=place.account,
            region=scope.region,
            status="available",
            created_at=0.0,
            tags={},
            database=ANY,
            admin_secret_arn=place.arn("secretsmanager", "secret:redshift!*"),
            role_arn=scope.role_arn,
        )
        spec = build_spec(warehouse, ANY, self._settings)
        allowed = self._settings.allowed_accounts
        if allowed and place.account not in (ANY, *allowed):
            return
        if not spec.errors:  # a setting that only tags complete says nothing yet
            self._add_spec(spec)

    def _add_spec(self, spec: ConnectionSpec) -> None:
        warehouse = spec.warehouse
        found = []
        if warehouse.kind == "workgroup":  # clusters are described by the permission to list them
            found += to_describe(warehouse.kind, warehouse.arn)
        if spec.auth == "connector":
            spec = replace(spec, auth=_MINTED_BY_THE_DRIVER[warehouse.kind])
        request = MintRequest.of(spec)
        request = replace(request, db_user=_pattern(request.db_user) if request.db_user is not None else None)
        found += to_mint(request, self._key(spec) if spec.auth == "secret" else None)
        self._grant(warehouse.role_arn, map(self._of_tagged, found))
        if spec.session_role_arn is not None:
            for name, value in session_tags(request):
                values = self._tags[spec.session_role_arn].setdefault(name, set())
                if values is not None:
                    values.add(_pattern(value))

    def _of_tagged(self, permission: Permission) -> Permission:
        """Of any workgroup, only those that carry the marker."""
        if not permission.resource.endswith(":workgroup/*"):
            return permission
        marker = f"aws:ResourceTag/{self._settings.tag_prefix}{MARKER}"
        return replace(permission, conditions=(("Null", marker, ("false",)),))

    def _key(self, spec: ConnectionSpec) -> str | None:
        """The key of an admin secret; any key of its account where that is not known."""
        arn = str(spec.warehouse.admin_secret_arn)
        if ANY not in arn:
            try:
                return self._secret_key(spec)
            except RedshiftSecretsError as error:
                why = str(error)
        else:
            why = "it is not known"
        partition_, service, region, account = arn.split(":")[1:5]
        self._notes.append(
            f"kms:Decrypt is not needed where {arn} is encrypted with AWS's own key aws/{service}, which could not be read: {why}"
        )
        return Place(region, account, partition_).arn("kms", "key/*")

    def _grant(self, role_arn: str | None, permissions: Iterable[Permission]) -> None:
        """Add what is done as the role of an account, or as the identity that lists the caller's own account."""
        self._grants[role_arn or self._settings.role_arn] += permissions

    def _add_roles(self) -> None:
        for role, source in self._trusted.items():
            if role == self._settings.role_arn:
                for tag in self._settings.assume_role_kwargs.get("Tags", ()):
                    self._tags[role][tag["Key"]] = None
            source_arn = source or self._caller
            # In one account, a trust policy that names the identity itself is enough.
            if source_arn is None or source_arn.split(":")[4] != role.split(":")[4]:
                self._grants[source] += self._to_assume(role)

    def _to_assume(self, role: str) -> list[Permission]:
        arguments = set(self._settings.assume_role_kwargs)
        if role != self._settings.role_arn:
            arguments &= {"SourceIdentity"}  # it stays that of all sessions that follow
        return [*to_assume(role, arguments), *to_tag(role, self._tags[role])]

    def _identity(self, role: str | None) -> IdentityPolicies:
        name = "redshift-secrets" if role is None else f"redshift-secrets-{role.rpartition('/')[2]}"
        found = documents.policies(name, self._grants[role])
        if len(found) > documents.MOST_POLICIES:
            self._notes.append(
                f"{role or 'the caller'}: {len(found)} policies, and IAM lets a role have {documents.MOST_POLICIES}, or 20 after a"
                " quota increase: move some warehouses to an account with a role of its own, or write * for some names"
            )
        if any(documents.size(each) > documents.MOST_POLICY_CHARACTERS for each in found.values()):
            self._notes.append(
                f"{role or 'the caller'}: a policy is longer than IAM allows: shorten it with patterns such as etl_*"
            )
        if role is None:
            arn = self._caller or _CALLER
            if self._caller is None:
                self._notes.append("the role that Airflow runs as is not known here: name it with --caller")
            account = ANY if self._caller is None and self._settings.role_arn else self._place(None, ANY).account
            return IdentityPolicies(arn, None if account == ANY else account, found)
        return IdentityPolicies(role, role.split(":")[4], found, self._trust(role), self._session_seconds(role))

    def _trust(self, role: str) -> documents.Document:
        principal = self._trusted[role] or self._caller or _CALLER
        external_id = self._external_id(role)
        if external_id is not None:
            self._notes.append(f"{role}: {external_id} stands for a value that is not printed")
        found = documents.trust(self._to_assume(role), principal, external_id)
        if (length := documents.size(found)) > documents.MOST_TRUST_CHARACTERS:
            self._notes.append(
                f"{role}: its trust policy has {length} characters, and IAM allows {documents.MOST_TRUST_CHARACTERS}, or 4096 after a"
                " quota increase: shorten it with patterns such as etl_*"
            )
        if role == self._settings.role_arn and {"Policy", "PolicyArns"} & set(self._settings.assume_role_kwargs):
            self._notes.append(f"{role}: the session policies of assume_role_kwargs must allow the same")
        return found

    def _external_id(self, role: str) -> Placeholder | None:
        settings = self._settings
        if role == settings.role_arn:
            if settings.external_id is not None:
                return Placeholder("external_id", "setting external_id", is_secret=True)
            if "ExternalId" in settings.assume_role_kwargs:
                return Placeholder("external_id", "setting assume_role_kwargs.ExternalId", is_secret=True)
            return None
        for number, account in enumerate(settings.accounts):
            if account.role_arn == role and account.external_id is not None:
                return Placeholder(f"external_id_{number}", f"setting accounts[{number}].external_id", is_secret=True)
        return None

    def _session_seconds(self, role: str) -> int | None:
        seconds = self._settings.assume_role_kwargs.get("DurationSeconds", 0) if role == self._settings.role_arn else 0
        return seconds if seconds > _DEFAULT_SESSION_SECONDS else None

    def _place(self, role_arn: str | None, region: str) -> Place:
        arn = role_arn or self._settings.role_arn or self._caller
        if arn is not None:
            return Place(region, arn.split(":")[4], arn.split(":")[1])
        seen = (spec.warehouse for spec in self._served if spec.warehouse.role_arn is None)
        account = next((each.account for each in seen if each.account), ANY)
        return Place(region, account, partition(region))


def _scope(warehouse: Warehouse) -> Scope:
    return Scope(warehouse.kind, warehouse.region, warehouse.role_arn)


def _pattern(name: str) -> str:
    """A name, or a template of one, as IAM's pattern for it: policies have no characters beyond Latin-1."""
    return re.sub(r"[^\x20-\xff]", "?", re.sub(r"\{\w+\}", ANY, name))
