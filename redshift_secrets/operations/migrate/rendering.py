"""A plan as rows, as code for other tools, and as the commands that remove what is not needed any more. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from msgspec import Struct, to_builtins

from redshift_secrets.airflow.stored import Place
from redshift_secrets.operations.migrate.plan import Move, Plan, Seen
from redshift_secrets.operations.migrate.reading import Stored
from redshift_secrets.operations.tag import as_code
from redshift_secrets.settings import Settings

COLUMNS = ("conn_id", "warehouse", "user", "database", "state", "remarks")
_RECOVERY_DAYS = 30
"""For how long a deleted secret can be restored:
https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_DeleteSecret.html"""


class Remark(Struct, frozen=True):
    """One sentence about one or more conn_ids."""

    number: int
    text: str
    conn_ids: tuple[str, ...]


def remarks(plan: Plan) -> list[Remark]:
    """Return what is to be said of the rows, each sentence once, that of the most rows first."""
    said: dict[str, list[str]] = {}
    for move in _shown(plan):
        for text in _texts(move):
            said.setdefault(text, []).append(move.conn_id)
    ordered = sorted(said.items(), key=lambda item: -len(item[1]))
    return [Remark(number, text, tuple(conn_ids)) for number, (text, conn_ids) in enumerate(ordered, 1)]


def rows(plan: Plan, said: Sequence[Remark]) -> list[dict[str, str]]:
    """Return a row for each conn_id that is Redshift, with the numbers of what is said of it."""
    numbers = {remark.text: str(remark.number) for remark in said}
    return [
        {
            "conn_id": move.conn_id,
            "warehouse": move.warehouse,
            "user": move.user,
            "database": move.database,
            "state": move.state,
            "remarks": " ".join(sorted({numbers[text] for text in _texts(move)}, key=int)),
        }
        for move in _shown(plan)
    ]


def as_document(plan: Plan, stored: Stored, seen: Seen) -> dict[str, Any]:
    """Return everything that is known, as plain data."""
    return {
        "read": dict(stored.counts),
        "not_read": list(stored.failures),
        "caller": seen.caller,
        "warehouses_seen": len(seen.warehouses),
        "not_listed": [str(each) for each in seen.unseen],
        "connections": [to_builtins(move) for move in plan.moves],
        "changes": [
            {
                "arn": change.warehouse.arn,
                "tags": dict(change.written),
                "warnings": list(change.warnings),
                "aws": as_code(change, "aws"),
            }
            for change in plan.changes
        ],
        "managed_conn_ids": {"now": plan.managed_now, "then": plan.managed_then, "covered": plan.covered},
    }


def code(plan: Plan, form: str) -> str:
    """Return the tags of a plan as `aws` commands, `terraform` or `cloudformation`, with the setting to change after them."""
    parts = []
    for change in plan.changes:
        text = as_code(change, form)
        parts.append(text if text.startswith("#") else f"# {change.warehouse}\n{text}")
    if plan.changes and not plan.covered:
        pair = f'"managed_conn_ids": {json.dumps(plan.managed_then)}'
        parts.append(
            f"# Then, in backend_kwargs, so that no other conn_id is claimed and these are never looked up elsewhere:\n# {pair}"
        )
    return "\n".join(parts)


def removal(place: Place) -> str:
    """Return what removes a stored connection, as a command of a shell or a comment for its reader."""
    name = shlex.quote(place.name)
    region = f" --region {place.region}" if place.region else ""
    if place.kind == "database":
        return (
            f"airflow connections delete -- {name}"
            if place.name.startswith("-")
            else f"airflow connections delete {name}"
        )
    if place.kind == "environment":
        return f"unset {name}  # and where it is set for Airflow's processes"
    if place.kind == "secret":
        return f"aws secretsmanager delete-secret --secret-id {name} --recovery-window-in-days {_RECOVERY_DAYS}{region}"
    if place.kind == "parameter":
        return f"aws ssm delete-parameter --name {name}{region}"
    return f"# {place.name} is a copy: remove it, or its entry"


def way_back(move: Move, place: Place, settings: Settings) -> str:
    """Return how a removed connection comes back into use."""
    name = shlex.quote(place.name)
    region = f" --region {place.region}" if place.region else ""
    restore = {
        "secret": f"aws secretsmanager restore-secret --secret-id {name}{region}",
        "parameter": "put the parameter again",
        "environment": "set the variable again",
        "database": "airflow connections import of an export made before",
    }.get(place.kind, "")
    untag = f"redshift-secrets untag {move.arn} --conn-id {shlex.quote(move.conn_id)}"
    managed = "take it out of managed_conn_ids" if settings.manages(move.conn_id) else ""
    return "; ".join(filter(None, (restore, managed, untag)))


def sentences(plan: Plan, stored: Stored, seen: Seen) -> list[str]:
    """Return what was read and seen, and how many conn_ids are in which state."""
    read = ", ".join(f"{number} in {source}" for source, number in stored.counts.items())
    kinds = [each.kind for each in seen.warehouses]
    places = [len({getattr(each, name) for each in seen.warehouses}) for name in ("account", "region")]
    states = [move.state for move in plan.moves]
    different = sum(move.state == "move" and bool(move.differences) for move in plan.moves)
    found = {
        "can move": states.count("move"),
        f"of them {'has' if different == 1 else 'have'} a difference": different,
        "served by tags": states.count("served"),
        "claimed by tags and refused": states.count("refused"),
        "cannot move": states.count("cannot"),
        "not Redshift": states.count("other"),
    }
    return [
        f"read: {read or 'nothing'}",
        f"seen: {_number(kinds.count('cluster'), 'cluster')} and {_number(kinds.count('workgroup'), 'workgroup')} in"
        f" {_number(places[0], 'account')} and {_number(places[1], 'region')}, as {seen.caller}",
        f"{_number(len(states), 'conn_id')}: {', '.join(f'{number} {what}' for what, number in found.items() if number) or 'none'}",
    ]


def _number(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def twins(plan: Plan) -> list[tuple[str, ...]]:
    """Return the conn_ids that are one connection under several names."""
    found: dict[str, list[str]] = {}
    for move in plan.moves:
        if move.same_as:
            found.setdefault(move.same_as, [move.same_as]).append(move.conn_id)
    return [tuple(conn_ids) for conn_ids in found.values()]


def _shown(plan: Plan) -> list[Move]:
    """What is Redshift, or all where nothing is."""
    return [move for move in plan.moves if move.state != "other"] or list(plan.moves)


def _texts(move: Move) -> list[str]:
    return [*move.reasons, *move.differences, *move.notes]
