"""Which warehouse has a conn_id where the catalog alone does not say: claimed by several, by none, or only as far as is known.

Follows docs/contract.md, "Looking a conn_id up". `report(level, conn_id, text)` logs something once in a process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from redshift_secrets.errors import CannotServeError, CatalogUnavailableError, join_messages
from redshift_secrets.lookup.catalog import Claims, Unseen
from redshift_secrets.lookup.reasons import causes, missing, refusal
from redshift_secrets.model import ConnectionSpec
from redshift_secrets.settings import Settings

Report = Callable[[int, str, str], None]


def who_has_it(
    specs: Sequence[ConnectionSpec], unseen: Sequence[Unseen], settings: Settings, report: Report
) -> ConnectionSpec:
    """Return the spec of the warehouse that a conn_id belongs to; raises `CannotServeError` where that cannot be decided.

    `specs` are those that the asker may have, the oldest warehouse first; `unseen` are scopes that may claim it, too.
    """
    if unseen:
        _check_unseen(specs[0], unseen, report)
    # A warehouse that is being deleted claims nothing beside another one.
    specs = [spec for spec in specs if not spec.warehouse.is_being_deleted] or specs
    if len(specs) == 1:
        return specs[0]
    first, second = specs[0], specs[1]
    names = " and ".join(str(spec.warehouse) for spec in specs)
    is_older = first.warehouse.created_at < second.warehouse.created_at
    ageless = next((spec.warehouse for spec in specs if spec.warehouse.has_unknown_age), None)
    if settings.on_conflict != "oldest" or not is_older or ageless is not None:
        advice = "or set on_conflict = oldest so that the warehouse created first keeps it"
        if settings.on_conflict == "oldest":
            why = f"since AWS does not say when {ageless} was created"
            if not is_older:
                why = "between warehouses that were created at the same moment"
            advice = f"on_conflict = oldest cannot decide {why}"
        raise refusal(first, f"it is claimed by {names}. Remove the tag from all but one, {advice}")
    report(
        logging.ERROR, first.conn_id, f"it is claimed by {names}; on_conflict = oldest gives it to {first.warehouse}"
    )
    return first


def nobody_claims(conn_id: str, claims: Claims, settings: Settings, report: Report) -> float:
    """Return until when a conn_id counts as not managed although it may be in a scope that is not known, in seconds since the
    epoch; raises `CannotServeError` for one that `managed_conn_ids` matches."""
    managed = settings.manages(conn_id)
    if not claims.unseen:
        raise missing(conn_id, claims.scopes, settings)
    reasons = causes([(each.scope, each.error) for each in claims.unseen])
    unseen = join_messages(reasons)
    if managed:
        why = f"was not found in what can be listed, but it may be in what cannot: {unseen}"
        if claims.listed_at == float("-inf"):
            why = f"cannot be looked up: {CatalogUnavailableError(reasons)}"
        raise CannotServeError(f"connection {conn_id!r} matches managed_conn_ids and {why}")
    # What else is asked for may well be defined elsewhere.
    report(logging.ERROR, "", f"a conn_id that is not found may be in what cannot be listed: {unseen}")
    return 0


def _check_unseen(spec: ConnectionSpec, unseen: Sequence[Unseen], report: Report) -> None:
    """Refuse to decide which warehouse has a conn_id while a scope is not known that may have it, too."""
    silent = [each for each in unseen if not each.is_denied]
    if silent:
        reasons = join_messages(causes([(each.scope, each.error) for each in silent]))
        raise refusal(
            spec,
            f"{spec.warehouse} claims it, and whether another warehouse does is not known: {reasons} Where nothing is to be"
            " found there, leave it out of regions or warehouses",
        )
    for reason in causes([(each.scope, each.error) for each in unseen]):
        report(
            logging.WARNING,
            spec.conn_id,
            f"whether another warehouse than {spec.warehouse} claims it is not known: {reason}",
        )
