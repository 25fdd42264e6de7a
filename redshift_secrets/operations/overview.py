"""Everything that is served on this site, one record for each claim of a conn_id, for whoever searches and sorts it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from redshift_secrets.errors import CannotServeError
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.lookup.deciding import who_has_it
from redshift_secrets.lookup.inventory import Snapshot
from redshift_secrets.lookup.reasons import caller_name, not_ready
from redshift_secrets.lookup.tags import MARKER
from redshift_secrets.model import ConnectionSpec
from redshift_secrets.operations.inspect import (
    ConnectionView,
    CredentialView,
    FieldView,
    credential_view,
    field_views,
    scopes,
    unseen,
    view_connection,
)
from redshift_secrets.operations.tag import TagChange, as_code
from redshift_secrets.settings import Settings

CONFLICT = "claimed by more than one warehouse"


class Problem(Struct, frozen=True):
    """What is wrong with a connection. `cause` is the same text for all that have it for one reason."""

    text: str
    cause: str
    keeps_from_serving: bool


class Claim(Struct, frozen=True):
    """One claim of a conn_id: its row without fields, what is wrong with it, and what a lookup is refused with, as far as that is
    known without asking AWS."""

    spec: ConnectionSpec
    row: ConnectionView
    problems: tuple[Problem, ...]
    refusal: str | None

    @property
    def conn_id(self) -> str:
        """The conn_id; there is one claim of it for each warehouse that it is tagged on."""
        return self.row.conn_id

    @property
    def team(self) -> str | None:
        """The only team that it belongs to."""
        return self.row.team


class Overview(Struct, frozen=True):
    """All claims by conn_id, what could not be listed, what has no effect, and where was looked as whom.

    `listed_at` is when the oldest listing was made, in seconds since the epoch.
    """

    claims: tuple[Claim, ...]
    unseen: tuple[str, ...]
    without_effect: tuple[str, ...]
    scopes: tuple[str, ...]
    caller: str
    marker: str
    listed_at: float


class Details(Struct, frozen=True):
    """Everything about one claim: field by field with where each comes from, and as code by what that is: a task, and the tags."""

    fields: tuple[FieldView, ...]
    code: Mapping[str, str]


def overview(settings: Settings, broker: Broker, snapshot: Snapshot) -> Overview:
    """Return what tags claim, by what is known of the catalog. Asks nobody."""
    claims = [
        make_claim(settings, broker, spec, specs, snapshot)
        for _, specs in sorted(snapshot.specs.items())
        for spec in specs
    ]  # fmt: skip
    return Overview(
        tuple(claims),
        unseen(snapshot),
        (*snapshot.problems, *snapshot.ignored),
        tuple(map(str, scopes(snapshot))),
        caller_name(settings),
        settings.tag_prefix + MARKER,
        snapshot.listed_at,
    )


def without_hidden(
    readable: Sequence[Claim], claims: Sequence[Claim], rebuilt: Callable[[Claim, Sequence[ConnectionSpec]], Claim]
) -> list[Claim]:
    """Return what somebody may read of all claims as if there were no others. A conflict with one of these is none for who may not
    have it, so a claim of the same conn_id is `rebuilt` with the specs that are left. And a tag that has no effect is reported with each
    connection of its warehouse: the warnings that name another one's conn_id go."""
    seen = {(each.row.arn, each.conn_id) for each in readable}
    hidden: dict[str, list[str]] = {}
    for each in claims:
        if (each.row.arn, each.conn_id) not in seen:
            hidden.setdefault(each.row.arn, []).append(each.conn_id)
    if not hidden:
        return list(readable)
    elsewhere = {conn_id for conn_ids in hidden.values() for conn_id in conn_ids}
    rivals: dict[str, list[ConnectionSpec]] = {}
    for each in readable:
        if each.conn_id in elsewhere:
            rivals.setdefault(each.conn_id, []).append(each.spec)
    # In a warning a conn_id is a part of a key or in quotes.
    patterns = {
        arn: re.compile(f"[/'](?:{'|'.join(map(re.escape, conn_ids))})(?![\\w./-]|:\\S)")
        for arn, conn_ids in hidden.items()
    }
    found = (rebuilt(each, rivals[each.conn_id]) if each.conn_id in rivals else each for each in readable)
    return [_without(each, patterns[each.row.arn]) if each.row.arn in patterns else each for each in found]


def _without(claim: Claim, hidden: re.Pattern[str]) -> Claim:
    problems = tuple(
        each for each in claim.problems if each.text not in claim.spec.warnings or not hidden.search(each.text)
    )
    return replace(claim, problems=problems, row=replace(claim.row, problems=tuple(each.text for each in problems)))


def credentials(broker: Broker, claims: Sequence[Claim]) -> list[CredentialView | None]:
    """Return for each claim the credential that the nearest tier has and that is still valid; asks AWS nothing."""
    found = broker.inventory.cached_credentials([claim.spec for claim in claims])
    views = [credential_view(each) for each in found]
    return [each if each is not None and each.expires_at > broker.now() else None for each in views]


def details(settings: Settings, claim: Claim, *, with_tags: bool = True) -> Details:
    """Return everything about a claim; without the tags as code, which name all connections of its warehouse, where these are not for
    everybody."""
    spec, code = claim.spec, {"In a DAG": _in_dag(claim.conn_id)}
    if with_tags:
        tags = {key: value for key, value in spec.warehouse.tags.items() if key.startswith(settings.tag_prefix)}
        change = TagChange(replace(spec.warehouse, tags={}), tags, ())
        code["These tags as AWS command"] = as_code(change, "aws")
        code["These tags in Terraform"] = as_code(change, "terraform")
    return Details(field_views(spec), code)


def make_claim(
    settings: Settings, broker: Broker, spec: ConnectionSpec, specs: Sequence[ConnectionSpec], snapshot: Snapshot
) -> Claim:
    """Return one of the claims of a conn_id, `specs`, with what is wrong with it."""
    row = view_connection(broker, spec, specs, fields=False)
    problems = []
    for text in row.problems:
        cause = CONFLICT if text.startswith("also claimed by ") else text
        if text.startswith("does not accept logins now"):
            cause = f"{spec.warehouse} {text}"
        problems.append(Problem(text, cause, row.fails and text not in spec.warnings))
    return Claim(spec, row, tuple(problems), _refusal(settings, spec, specs, snapshot))


def _refusal(
    settings: Settings, spec: ConnectionSpec, specs: Sequence[ConnectionSpec], snapshot: Snapshot
) -> str | None:
    """The refusal of a lookup, in the order in which lookups decide."""
    same = [each for each in specs if None in (each.team, spec.team) or each.team == spec.team]
    if len(same) > 1 or snapshot.unseen:
        try:
            kept = who_has_it(same, snapshot.unseen, settings, lambda _level, _conn_id, _text: None)
        except CannotServeError as error:
            return str(error)
        if kept is not spec:
            return f"connection {spec.conn_id!r} leads to {kept.warehouse}, not to {spec.warehouse}"
    refused = not_ready(spec)
    return str(refused) if refused is not None else None


def _in_dag(conn_id: str) -> str:
    return (
        "from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator\n\n"
        f'SQLExecuteQueryOperator(task_id="query", conn_id={conn_id!r}, sql="select current_user")'
    )
