"""Whether this machine can serve connections, and what to do where not: one verdict for each cause.

Everything is tried as a lookup would do it: AWS is asked read-only calls, credentials are minted and thrown away, and the TLS
handshake with each warehouse ends before a login.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from redshift_secrets.airflow import configuration as airflow_configuration
from redshift_secrets.airflow import installation, metadata_database
from redshift_secrets.airflow.stored import environment_connections
from redshift_secrets.aws.advice import BAD_SIGNATURE, CLOCK_SKEW, EXPIRED, UNKNOWN_KEY
from redshift_secrets.errors import AwsError, ExhaustedError, RedshiftSecretsError
from redshift_secrets.lookup.catalog import scopes_to_list
from redshift_secrets.lookup.reasons import unanswered
from redshift_secrets.model import Scope
from redshift_secrets.operations.doctor.configuration import (
    airflow_verdicts,
    configuration_verdicts,
    fallback_verdicts,
    is_server_side_worker,
)
from redshift_secrets.operations.doctor.endpoints import clock_verdicts, endpoint_verdicts
from redshift_secrets.operations.doctor.permissions import (
    server_of,
    try_actions,
    try_descriptions,
    try_mints,
    try_mints_without_a_warehouse,
)
from redshift_secrets.operations.doctor.stored import stored_verdicts
from redshift_secrets.operations.doctor.stores import store_verdicts
from redshift_secrets.operations.doctor.tls import try_tls
from redshift_secrets.operations.doctor.verdicts import Failure, Verdict, by_cause, counted, verdict
from redshift_secrets.operations.doctor.warehouses import Seen, claim_verdicts, see, seen_verdicts, tag_verdicts
from redshift_secrets.operations.running import Call, Progress, Runner
from redshift_secrets.operations.site import site_probing, site_stores
from redshift_secrets.settings import Settings

if TYPE_CHECKING:
    from redshift_secrets.aws.probing import ProbingClient, Reached

CHECKS = (
    "airflow",
    "configuration",
    "caller",
    "permissions",
    "endpoints",
    "clock",
    "warehouses",
    "tags",
    "claims",
    "stored",
    "stores",
    "tls",
)
"""In the order in which they are told."""

_NO_CALL_WORKS = EXPIRED | CLOCK_SKEW | BAD_SIGNATURE | UNKNOWN_KEY | {"NoCredentials", "Misconfigured"}
"""What is wrong with the credentials or the clock, and so with every other call too."""
_SERVICES = {"cluster": ("redshift",), "workgroup": ("redshift-serverless", "resourcegroupstaggingapi")}
_PREFIXES = {"resourcegroupstaggingapi": "tag"}


class Patience(Struct, frozen=True):
    """How long each call may take, in seconds: to AWS, a connection to a warehouse, and what concerns this site alone."""

    aws_seconds: float
    connect_seconds: float = 5.0
    site_seconds: float = 10.0


class _Aws(Struct, frozen=True):
    """What was found out of AWS; `seen` is `None` where nothing could be listed."""

    verdicts: list[Verdict]
    failures: list[Failure]
    seen: Seen | None = None


def examine(
    settings: Settings,
    patience: Patience,
    on_progress: Progress = lambda _text: None,
    *,
    overridden: Mapping[str, str] = MappingProxyType({}),
    environ: Mapping[str, str] = os.environ,
    client: Callable[[Settings], ProbingClient] = site_probing,
) -> list[Verdict]:
    """Return the verdicts on this site, those of one check together. Calls `on_progress` with what is being done. `overridden` says
    of settings that are not as Airflow has them where they come from."""
    runner = Runner(patience.aws_seconds, on_progress)
    site = Runner(patience.site_seconds)
    database = site.begin(Call(metadata_database.database(), metadata_database.database_connections))
    keys = airflow_configuration.fernet_keys()
    stores = site.begin(
        Call("the stores", functools.partial(store_verdicts, settings, lambda: site_stores(settings), keys))
    )
    fallbacks = site.begin(Call("loading the fallbacks", functools.partial(fallback_verdicts, settings)))
    found = installation.describe_installation(environ)
    verdicts = [*airflow_verdicts(found), *configuration_verdicts(settings, found, overridden)]

    aws = _examine_aws(settings, client(settings), runner)
    verdicts += [*aws.verdicts, *by_cause(aws.failures)]
    if aws.seen is not None:
        verdicts += try_tls(runner, aws.seen.serving, patience.connect_seconds, environ)
    on_progress(f"waiting for {database.what}")
    in_environment = environment_connections(environ, teams=airflow_configuration.has_teams())
    verdicts += stored_verdicts(settings, aws.seen, in_environment, database.result())
    for check, pending in (("stores", stores), ("configuration", fallbacks)):
        on_progress(f"waiting for {pending.what}")
        result = pending.result()
        verdicts += [verdict(check, "problem", str(result))] if isinstance(result, RedshiftSecretsError) else result
    return sorted(verdicts, key=lambda each: CHECKS.index(each.check))


def examine_worker(environ: Mapping[str, str] = os.environ) -> list[Verdict]:
    """Return the verdicts on a worker that leaves resolving to the API server; none where this is no such worker."""
    try:
        found = installation.describe_installation(environ)
    except Exception:  # a configuration that Airflow cannot load has been told by then
        return []
    return airflow_verdicts(found) if is_server_side_worker(found) else []


def _examine_aws(settings: Settings, client: ProbingClient, runner: Runner) -> _Aws:
    try:
        home = settings.regions or (settings.region_name or client.default_region(),)
    except RedshiftSecretsError as error:
        return _Aws([], [Failure("caller", "call", "this host", error)])
    scopes = scopes_to_list(settings, home)
    roles = list(dict.fromkeys(scope.role_arn for scope in scopes if scope.role_arn is not None))
    reached, caller = _reach(settings, client, runner, scopes, home[0])
    needs_sts = bool(roles) or settings.role_arn is not None or settings.cache.redis_url is not None
    verdicts = [*endpoint_verdicts(reached, needs_sts=needs_sts), *clock_verdicts(reached)]
    known_errors = [each.error for each in reached if each.error is not None]

    def failures(*found: Failure) -> list[Failure]:
        """Those that no verdict on an endpoint explains."""
        return [each for each in found if not any(each.error is known for known in known_errors)]

    if isinstance(caller, RedshiftSecretsError):
        failed = failures(Failure("caller", "call", "this host", caller))
        if _stops_everything(caller):
            accounts = counted(len(roles) + 1, "account")
            said = f"{caller} Nothing else was asked of AWS: {counted(len(scopes), 'listing')} in {accounts}"
            return _Aws([*verdicts, verdict("caller", "problem", said)], [])
        identity: dict[str | None, str] = {None: settings.role_arn or settings.default_identity}
    else:
        failed = []
        identity = {None: caller.arn}
        verdicts.append(verdict("caller", "ok", f"{caller.arn} (from {caller.source})"))
    identity |= {role: role for role in roles}

    sts = server_of("sts:AssumeRole", home[0])
    assumed = runner.run(
        "assuming roles",
        [Call(f"sts:AssumeRole on {role}", functools.partial(client.caller, home[0], role), sts) for role in roles],
    )
    refused = {role: each for role, each in zip(roles, assumed, strict=True) if isinstance(each, RedshiftSecretsError)}
    failed += failures(*(Failure("permissions", "role", role, error) for role, error in refused.items()))
    if roles and not refused:
        verdicts.append(verdict("permissions", "ok", f"sts:AssumeRole allowed on {counted(len(roles), 'role')}", roles))
    open_scopes = [scope for scope in scopes if scope.role_arn not in refused]
    listed = dict(zip(open_scopes, _list(settings, runner, client, open_scopes), strict=True))
    unlisted = {scope: found for scope, found in listed.items() if isinstance(found, RedshiftSecretsError)}
    failed += failures(
        *(Failure("permissions", "listing", _where(scope, identity), error) for scope, error in unlisted.items())
    )
    more, more_failed = try_actions(runner, client, open_scopes, identity, unlisted)
    verdicts += more
    failed += failures(*more_failed)
    if len(unlisted) == len(listed):
        return _Aws(verdicts, failed)

    seen = see(
        settings, {**listed, **{scope: refused[scope.role_arn] for scope in scopes if scope.role_arn in refused}}
    )
    verdicts += [
        *seen_verdicts(settings, seen, identity),
        *tag_verdicts(settings, seen),
        *claim_verdicts(settings, seen),
    ]
    for attempts in (try_descriptions, try_mints):
        more, more_failed = attempts(runner, client, seen.serving)
        verdicts += more
        failed += failures(*more_failed)
    verdicts += try_mints_without_a_warehouse(runner, client, settings, _untagged(seen), identity)
    return _Aws(verdicts, failed, seen)


def _reach(
    settings: Settings, client: ProbingClient, runner: Runner, scopes: Sequence[Scope], region: str
) -> tuple[list[Reached], Any]:
    """Return what came of requests to the endpoints, and who the caller is, or why that is not known."""
    wanted = [("sts", region)]
    for scope in scopes:
        services = (*_SERVICES[scope.kind], *(["secretsmanager"] if settings.allow_admin_secret else []))
        wanted += [(service, scope.region) for service in services]
    wanted = list(dict.fromkeys(wanted))
    calls = [
        Call(f"a request to {service} in {each}", functools.partial(client.reach, service, each))
        for service, each in wanted
    ]
    *found, caller = runner.run(
        "reaching AWS", [*calls, Call("sts:GetCallerIdentity", functools.partial(client.caller, region))]
    )
    reached = []
    for (service, each), result in zip(wanted, found, strict=True):
        if isinstance(result, RedshiftSecretsError):
            result = client.not_reached(service, each, result)
        reached.append(result)
        if result.error is not None:
            runner.silence((_PREFIXES.get(service, service), each), result.error)
            if service == "sts" and isinstance(caller, RedshiftSecretsError) and not _stops_everything(caller):
                caller = result.error
    return reached, caller


def _stops_everything(error: RedshiftSecretsError) -> bool:
    if isinstance(error, ExhaustedError):
        return True
    return isinstance(error, AwsError) and (
        error.code in _NO_CALL_WORKS or error.operation.startswith("sts:AssumeRole")
    )


def _list(settings: Settings, runner: Runner, client: ProbingClient, scopes: Sequence[Scope]) -> list[Any]:
    def silent(scope: Scope) -> str:
        return unanswered(client.unanswered(scope.kind, scope.region), scope, settings)

    return runner.run(
        "listing",
        [
            Call(
                f"the list of {scope}",
                functools.partial(client.list_all, scope),
                (_SERVICES[scope.kind][0], scope.region),
                functools.partial(silent, scope),
            )
            for scope in scopes
        ],
    )


def _untagged(seen: Seen) -> list[Scope]:
    """The scopes with warehouses none of which serves a connection."""
    arns = {spec.warehouse.arn for specs in seen.specs.values() for spec in specs}
    return [scope for scope, found in seen.warehouses.items() if found and not any(each.arn in arns for each in found)]


def _where(scope: Scope, identity: Mapping[str | None, str]) -> str:
    return str(scope) if scope.role_arn else f"{scope} as {identity[None]}"
