"""What tags would serve in place of the stored connections of a site: the plan of a move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from redshift_secrets.errors import RedshiftSecretsError
from redshift_secrets.lookup.catalog import Unseen, scopes_to_list
from redshift_secrets.lookup.deciding import who_has_it
from redshift_secrets.lookup.listing import Specs, build_listing
from redshift_secrets.model import ConnectionSpec, Scope, Warehouse
from redshift_secrets.operations.inspect import login_user
from redshift_secrets.operations.migrate.fields import wanted_fields
from redshift_secrets.operations.migrate.matching import Endpoint, Endpoints, Match
from redshift_secrets.operations.migrate.reading import Stored, StoredUnder
from redshift_secrets.operations.migrate.tagging import fit_tags
from redshift_secrets.operations.tag import TagChange
from redshift_secrets.settings import Settings

State = Literal["served", "refused", "move", "cannot", "other"]
"""A tag claims it, and it is served; or is refused; tags can serve it; none can; it is not Redshift."""

_THREADS = 8


class Seen(Struct, frozen=True):
    """Every warehouse that can be seen from here, as whom, and the scopes that cannot be listed and why."""

    warehouses: tuple[Warehouse, ...]
    unseen: tuple[Unseen, ...]
    caller: str


class Move(Struct, frozen=True):
    """What becomes of one stored conn_id. Texts alone, none of them secret.

    `differences` are between what is stored and what is or would be served, `reasons` why it cannot be, `notes` what else to know.
    `tags` are the fields that the tags of its warehouse need for it, by their names after the prefix.
    """

    conn_id: str
    state: State
    places: tuple[str, ...]
    team: str = ""
    warehouse: str = ""
    arn: str = ""
    account: str = ""
    region: str = ""
    endpoint: str = ""
    database: str = ""
    user: str = ""
    tags: Mapping[str, str] = {}
    differences: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    same_as: str = ""
    """The first conn_id that is the same connection under another name."""


class Plan(Struct, frozen=True):
    """A row for each stored conn_id, the changes of tags that serve all that can be served, and `managed_conn_ids` for what tags
    claim now and for what they claim then."""

    moves: tuple[Move, ...]
    changes: tuple[TagChange, ...]
    managed_now: str
    managed_then: str
    covered: bool
    """Whether the setting `managed_conn_ids` matches all of it already."""


def see_everything(settings: Settings) -> Seen:
    """Return every warehouse in the configured accounts and regions; raises `AwsError` where no region is known."""
    from redshift_secrets.aws.client import AwsClient  # loads boto3

    aws = AwsClient(settings)
    home = settings.regions or (settings.region_name or aws.default_region(),)

    def look(scope: Scope) -> tuple[Warehouse, ...] | Unseen:
        try:
            return aws.list_all(scope)
        except RedshiftSecretsError as error:
            return Unseen(scope, error)

    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(look, scopes_to_list(settings, home)))
    # One warehouse may be listed twice, through two roles: the first of them serves it.
    by_arn = {each.arn: each for listed in reversed(found) if not isinstance(listed, Unseen) for each in listed}
    warehouses = tuple(sorted(by_arn.values(), key=lambda each: each.arn))
    unseen = tuple(each for each in found if isinstance(each, Unseen))
    return Seen(warehouses, unseen, aws.sts_identity() or settings.default_identity)


def make_plan(settings: Settings, stored: Stored, seen: Seen) -> Plan:
    """Return the plan. Pure."""
    endpoints = Endpoints(seen.warehouses, settings, [f"{each.scope} could not be listed" for each in seen.unseen])
    specs = build_listing(seen.warehouses, settings).specs
    moves = [_move(under, endpoints, specs, seen.unseen, settings) for under in stored.conn_ids]
    moves = _one_for_each_team(moves)
    moves, changes = _with_tags(moves, seen.warehouses, settings)
    moves = _with_twins(moves)
    claimed = sorted(specs)  # also what is stored nowhere any more
    then = claimed + [move.conn_id for move in moves if move.state == "move"]
    known = settings.managed_conn_ids
    covered = known is not None and all(known.match(conn_id) for conn_id in then)
    return Plan(tuple(moves), tuple(changes), managed_pattern(claimed), managed_pattern(then), covered)


def managed_pattern(conn_ids: Sequence[str]) -> str:
    """Return the regular expression that matches these conn_ids and no others, empty for none."""
    # A conn_id has no other character with a meaning there.
    alternatives = "|".join(conn_id.replace(".", r"\.") for conn_id in dict.fromkeys(conn_ids))
    return f"^({alternatives})$" if alternatives else ""


def _move(under: StoredUnder, endpoints: Endpoints, specs: Specs, unseen: Sequence[Unseen], settings: Settings) -> Move:
    used = under.used
    row = Move(under.conn_id, "other", tuple(str(each.place) for each in under.entries), used.team or "")
    match = endpoints.match(used)
    claims = [
        spec for spec in specs.get(under.conn_id, ()) if spec.team is None or spec.team == (used.team or "").lower()
    ]
    if claims:
        return _claimed(row, under, match, claims, unseen, settings)
    if match.endpoint is None:
        return replace(row, state="other" if match.foreign else "cannot", reasons=(match.reason,))
    wanted = wanted_fields(used, match.endpoint, settings)
    notes = _others(under, match.endpoint, endpoints)
    if settings.manages(under.conn_id):
        notes = ("it is refused now: managed_conn_ids matches it, and no tag claims it", *notes)
    elif settings.managed_conn_ids is not None:
        notes = ("managed_conn_ids does not match it yet, so that no tag can claim it", *notes)
    warehouse = match.endpoint.warehouse
    if not warehouse.can_serve:
        notes = (*notes, f"{warehouse} does not accept logins now: {warehouse.status}")
    return replace(
        _on(row, match.endpoint),
        state="cannot" if wanted.refusals else "move",
        tags={} if wanted.refusals else wanted.fields,
        differences=wanted.differences,
        reasons=wanted.refusals,
        notes=notes,
    )


def _on(row: Move, endpoint: Endpoint) -> Move:
    warehouse = endpoint.warehouse
    return replace(
        row,
        warehouse=warehouse.identifier,
        arn=warehouse.arn,
        account=warehouse.account,
        region=warehouse.region,
        endpoint=endpoint.name,
    )


def _claimed(
    row: Move,
    under: StoredUnder,
    match: Match,
    claims: Sequence[ConnectionSpec],
    unseen: Sequence[Unseen],
    settings: Settings,
) -> Move:
    """A row of which a tag says already what it is to be."""
    spec = claims[0]
    row = replace(
        _on(row, Endpoint(spec.warehouse, spec.endpoint, "", 0)), database=spec.database, user=login_user(spec)
    )
    try:
        spec = who_has_it(claims, unseen, settings, lambda _level, _conn_id, _text: None)
    except RedshiftSecretsError as error:
        return replace(row, state="refused", reasons=(str(error),))
    if spec.errors:
        return replace(row, state="refused", reasons=spec.errors)
    if match.endpoint is None:
        differences: tuple[str, ...] = (f"what is stored is not that: {match.reason}",)
    elif match.endpoint.warehouse.arn != spec.warehouse.arn:
        differences = (f"what is stored connects to {match.endpoint.warehouse}",)
    else:
        wanted = wanted_fields(under.used, match.endpoint, settings)
        stored = [f"{name} is {_said(spec, name)}, and {value} is stored" for name, value in wanted.fields.items()]
        differences = (*stored, *wanted.differences, *wanted.refusals)
    return replace(row, state="served", differences=differences)


def _said(spec: ConnectionSpec, name: str) -> str:
    if name.startswith("extra."):
        return str(spec.extra.get(name.removeprefix("extra."), "not set"))
    found = login_user(spec) if name == "db-user" else getattr(spec, name.replace("-", "_"))
    return " ".join(found) if isinstance(found, tuple) else str(found or "not set")


def _others(under: StoredUnder, endpoint: Endpoint, endpoints: Endpoints) -> tuple[str, ...]:
    """Say which other places have something else under the conn_id."""
    notes = []
    for each in under.entries[1:]:
        other = endpoints.match(each).endpoint
        same = other is not None and other.warehouse.arn == endpoint.warehouse.arn
        if not same or (each.login, each.schema) != (under.used.login, under.used.schema):
            notes.append(f"the {each.place} has another connection under this conn_id, which Airflow does not use")
    return tuple(notes)


def _one_for_each_team(moves: Sequence[Move]) -> list[Move]:
    """Refuse a conn_id that is stored for several teams where one warehouse, or no team, would have to serve two of them."""
    rows: dict[str, list[Move]] = {}
    for move in moves:
        rows.setdefault(move.conn_id, []).append(move)
    found = []
    for move in moves:
        others = [each for each in rows[move.conn_id] if each is not move and each.state in ("move", "served")]
        clash = any(not move.team or not each.team or each.arn == move.arn for each in others)
        if move.state == "move" and clash:
            reason = (
                "it is stored for several teams: tags can tell them apart on different warehouses, each with its team"
            )
            move = replace(move, state="cannot", reasons=(reason,), tags={})
        found.append(move)
    return found


def _with_tags(
    moves: Sequence[Move], warehouses: Sequence[Warehouse], settings: Settings
) -> tuple[list[Move], list[TagChange]]:
    """Add what would be served, and refuse what there are no tags for."""
    changes: list[TagChange] = []
    left_out: dict[tuple[str, str], str] = {}
    served: dict[tuple[str, str], ConnectionSpec] = {}
    for warehouse in warehouses:
        wanted = {move.conn_id: move.tags for move in moves if move.state == "move" and move.arn == warehouse.arn}
        if not wanted:
            continue
        change, reasons = fit_tags(settings, warehouse, wanted)
        left_out |= {(warehouse.arn, conn_id): why for conn_id, why in reasons.items()}
        if change.written:
            changes.append(change)
        # Whatever managed_conn_ids is now: it is set to what the plan moves.
        then = build_listing([replace(warehouse, tags=change.after)], replace(settings, managed_conn_ids=None))
        served |= {(warehouse.arn, conn_id): found[0] for conn_id, found in then.specs.items()}
    found = []
    for move in moves:
        why, spec = left_out.get((move.arn, move.conn_id)), served.get((move.arn, move.conn_id))
        if move.state == "move" and why is not None:
            move = replace(move, state="cannot", tags={}, reasons=(why,))
        elif move.state == "move" and spec is not None:
            move = replace(move, database=spec.database, user=login_user(spec))
        found.append(move)
    return found, changes


def _with_twins(moves: Sequence[Move]) -> list[Move]:
    """Say which rows are one connection under several names."""
    first: dict[object, str] = {}
    found = []
    for move in moves:
        if move.state == "move":
            key = (move.arn, move.endpoint, move.database, move.user, move.team, tuple(sorted(move.tags.items())))
            name = first.setdefault(key, move.conn_id)
            move = move if name == move.conn_id else replace(move, same_as=name)
        found.append(move)
    return found
