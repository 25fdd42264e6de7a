"""Which permissions the caller and its roles have: each is tried, none is guessed."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from redshift_secrets.aws.permissions import MINT, Place, to_describe, to_list
from redshift_secrets.errors import AwsError, RedshiftSecretsError
from redshift_secrets.model import ConnectionSpec, MintRequest, Scope, TaskContext, WarehouseKind
from redshift_secrets.operations.doctor.verdicts import Failure, Verdict, counted, names, verdict
from redshift_secrets.operations.running import Call, Runner
from redshift_secrets.settings import Settings
from redshift_secrets.settings.db_user import is_template, render

if TYPE_CHECKING:
    from redshift_secrets.aws.probing import ProbingClient

_SPARE = {
    "tag:GetResources": "the tags of workgroups are listed one by one, which costs a call for each",
}
"""What happens without a permission that lookups can do without."""
_LISTED_ONE_BY_ONE = "redshift-serverless:ListTagsForResource"
_EXAMPLE = TaskContext("redshift_secrets_doctor", "doctor")
"""The DAG whose database user is tried where there is one for each DAG."""


def server_of(action: str, region: str) -> tuple[str, str]:
    """Return what a call to AWS is sent to: the service, by the prefix of its actions, and the region."""
    return action.partition(":")[0], region


def try_actions(
    runner: Runner,
    client: ProbingClient,
    scopes: Sequence[Scope],
    identity: Mapping[str | None, str],
    unlisted: Mapping[Scope, RedshiftSecretsError],
) -> tuple[list[Verdict], list[Failure]]:
    """Try what listing takes in each scope, but for what is known to fail there. `identity` is who calls, by role."""
    tried = [
        (scope, action)
        for scope in scopes
        for action in _to_find(scope)
        if getattr(unlisted.get(scope), "operation", None) != action
    ]
    calls = [
        Call(
            f"{action} in {scope.region}",
            functools.partial(client.attempt, action, scope.region, scope.role_arn),
            server_of(action, scope.region),
        )
        for scope, action in tried
    ]
    results = runner.run("trying permissions", calls)
    failures, spared = [], dict[str, list[str]]()
    refused = {str(getattr(error, "operation", "")) for error in unlisted.values()}
    for (scope, action), result in zip(tried, results, strict=True):
        where = f"{scope.region} as {identity[scope.role_arn]}"
        if not isinstance(result, RedshiftSecretsError):
            continue
        refused.add(action)
        if action in _SPARE and isinstance(result, AwsError) and result.is_denied:
            spared.setdefault(action, []).append(where)
        elif action not in _SPARE and not any(result is known for known in unlisted.values()):
            failures.append(Failure("permissions", "call", where, result))
    verdicts = [
        verdict("permissions", "warning", f"{action} is denied in {names(where)}: {_SPARE[action]}. Grant it", where)
        for action, where in spared.items()
    ]
    allowed = dict.fromkeys(action for _, action in tried if action not in refused)
    if allowed:
        places = dict.fromkeys((scope.region, scope.role_arn) for scope, action in tried if action in allowed)
        everywhere = [f"{region} as {identity[role]}" for region, role in places]
        accounts = counted(len({role for _, role in places}), "account")
        regions = counted(len({region for region, _ in places}), "region")
        said = f"{', '.join(allowed)} allowed in {regions} and {accounts}"
        verdicts.insert(0, verdict("permissions", "ok", said, everywhere))
    return verdicts, failures


def try_descriptions(
    runner: Runner, client: ProbingClient, specs: Sequence[ConnectionSpec]
) -> tuple[list[Verdict], list[Failure]]:
    """Ask for the state of each workgroup, as lookups do of one that is not available. Of clusters, listing takes the same permission."""
    workgroups = {spec.warehouse.arn: spec.warehouse for spec in specs if spec.warehouse.kind == "workgroup"}
    if not workgroups:
        return [], []
    (action,) = {each.action for each in to_describe("workgroup", "")}
    calls = [
        Call(f"{action} on {each}", functools.partial(client.describe, each), server_of(action, each.region))
        for each in workgroups.values()
    ]
    results = runner.run("trying permissions", calls)
    failures = [
        Failure("permissions", "workgroup", str(warehouse), result)
        for warehouse, result in zip(workgroups.values(), results, strict=True)
        if isinstance(result, RedshiftSecretsError)
    ]
    allowed = len(workgroups) - len(failures)
    if not allowed:
        return [], failures
    return [verdict("permissions", "ok", f"{action} allowed on {counted(allowed, 'workgroup')}")], failures


def try_mints(
    runner: Runner, client: ProbingClient, specs: Sequence[ConnectionSpec]
) -> tuple[list[Verdict], list[Failure]]:
    """Mint for every different login that these connections have, and throw the credentials away."""
    requests: dict[MintRequest, ConnectionSpec] = {}
    for spec in specs:
        request = _request(spec)
        if request is not None:
            requests.setdefault(replace(request, team=None, created_at=0.0), spec)
    calls = [
        Call(
            f"minting for {spec.warehouse}",
            functools.partial(client.try_mint, request),
            server_of(MINT[request.auth, request.kind], request.region),
        )
        for request, spec in requests.items()
    ]
    results = runner.run("minting", calls)
    failures = [
        Failure(
            "permissions",
            "login",
            f"{request.kind} {request.identifier} as {request.db_user or 'the IAM identity'}",
            result,
        )
        for request, result in zip(requests, results, strict=True)
        if isinstance(result, RedshiftSecretsError)
    ]
    minted = [request for request, result in zip(requests, results, strict=True) if not isinstance(result, Exception)]
    if not minted:
        return [], failures
    actions = dict.fromkeys(MINT[request.auth, request.kind] for request in minted)
    warehouses = counted(len({request.arn for request in minted}), "warehouse")
    said = f"{', '.join(actions)}: {len(minted)} of {counted(len(requests), 'login')} minted, of {warehouses}"
    return [verdict("permissions", "ok", said)], failures


def try_mints_without_a_warehouse(
    runner: Runner,
    client: ProbingClient,
    settings: Settings,
    scopes: Sequence[Scope],
    identity: Mapping[str | None, str],
) -> list[Verdict]:
    """Try the way of authenticating that the settings name in scopes with warehouses of which none is tagged yet, on one that does
    not exist."""
    tried = [(scope, action) for scope in scopes if (action := _default_mint(settings, scope.kind)) is not None]
    calls = [
        Call(
            f"{action} in {scope.region}",
            functools.partial(client.attempt, action, scope.region, scope.role_arn, **_arguments(settings, action)),
            server_of(action, scope.region),
        )
        for scope, action in tried
    ]
    results = runner.run("trying permissions", calls)
    denied: dict[str, list[str]] = {}
    allowed: dict[str, list[str]] = {}
    for (scope, action), result in zip(tried, results, strict=True):
        where = f"{scope.region} as {identity[scope.role_arn]}"
        if not isinstance(result, RedshiftSecretsError):
            allowed.setdefault(action, []).append(where)
        elif isinstance(result, AwsError) and result.is_denied:
            denied.setdefault(action, []).append(where)
    return [
        verdict("permissions", "ok", f"{action} allowed where no warehouse is tagged yet: {names(where)}", where)
        for action, where in allowed.items()
    ] + [
        verdict(
            "permissions",
            "warning",
            f"{action} denied for a warehouse that does not exist, in {names(where)}. Where the policy names warehouses or their tags,"
            " that is right; tag a warehouse there to try it",
            where,
        )
        for action, where in denied.items()
    ]


def _to_find(scope: Scope) -> list[str]:
    found = [each.action for each in to_list(scope.kind, Place(scope.region)) if each.action != _LISTED_ONE_BY_ONE]
    return list(dict.fromkeys(found))


def _request(spec: ConnectionSpec) -> MintRequest | None:
    """What a lookup would mint for this connection, or the driver for itself; `None` where there is none now."""
    if spec.errors or not spec.warehouse.can_serve:
        return None
    if spec.auth == "connector":
        as_user = spec.db_user is not None and spec.warehouse.kind == "cluster"
        spec = replace(spec, auth="db-user" if as_user else "iam")
    request = MintRequest.of(spec)
    if spec.per_dag and request.db_user is not None:
        request = replace(request, db_user=render(request.db_user, _EXAMPLE))
    return request


def _default_mint(settings: Settings, kind: WarehouseKind) -> str | None:
    if kind == "workgroup":
        return MINT["iam", kind] if settings.auth in ("auto", "iam", "db-user") else None
    auth = settings.auth
    if auth == "auto":
        auth = "iam" if settings.db_user is None else "db-user"
    if auth == "db-user" and settings.db_user is None:
        return None
    return MINT["iam" if auth == "iam" else "db-user", kind] if auth in ("iam", "db-user") else None


def _arguments(settings: Settings, action: str) -> dict[str, str]:
    if action == "redshift-serverless:GetCredentials":
        return {"dbName": settings.database or "dev"}
    found = {"DbName": settings.database or "dev"}
    if action == "redshift:GetClusterCredentials":
        user = str(settings.db_user)
        found["DbUser"] = render(user, _EXAMPLE) if is_template(user) else user
    return found
