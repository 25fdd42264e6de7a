"""Connections that are stored elsewhere and not used, or refused, since this backend manages their conn_ids."""

from __future__ import annotations

from collections.abc import Sequence

from redshift_secrets.airflow.stored import StoredConnection
from redshift_secrets.errors import RedshiftSecretsError
from redshift_secrets.model import ConnectionSpec
from redshift_secrets.operations.doctor.verdicts import Verdict, counted, names, verdict
from redshift_secrets.operations.doctor.warehouses import Seen
from redshift_secrets.settings import Settings

DATABASE = "the metadata database"


def stored_verdicts(
    settings: Settings,
    seen: Seen | None,
    in_environment: Sequence[StoredConnection],
    in_database: Sequence[StoredConnection] | RedshiftSecretsError,
) -> list[Verdict]:
    """Compare stored connections with claims. `in_database` may be why those are not known."""
    verdicts = []
    stored, places = list(in_environment), "environment variables"
    if isinstance(in_database, RedshiftSecretsError):
        said = f"{in_database}. Which connections it stores is not known"
        verdicts.append(verdict("stored", "warning", said))
    else:
        stored += in_database
        places = f"{DATABASE} and in {places}"
    if seen is None:
        return verdicts
    claims = [(each, _claims(each, seen)) for each in stored]
    shadowed = [each for each, specs in claims if any(_is_of_its_team(each, spec) for spec in specs)]
    refused = [each for each, specs in claims if not specs and settings.manages(each.conn_id)] if seen.complete else []
    if shadowed:
        said = (
            f"{counted(len(shadowed), 'stored connection')} no longer used, since a tag claims the conn_id: {_named(shadowed)}."
            " `redshift-secrets migrate finish` says which can be removed, with their passwords"
        )
        verdicts.append(verdict("stored", "warning", said, (each.conn_id for each in shadowed)))
    if refused:
        said = (
            f"{counted(len(refused), 'stored connection')} refused, since managed_conn_ids matches the conn_id and no warehouse claims it:"
            f" {_named(refused)}. Tag their warehouses (`redshift-secrets migrate plan` says how), or exclude them from managed_conn_ids"
        )
        verdicts.append(verdict("stored", "problem", said, (each.conn_id for each in refused)))
    if not shadowed and not refused:
        said = f"none of {counted(len(stored), 'connection')} in {places} has a conn_id that this backend manages"
        verdicts.append(verdict("stored", "ok", said))
    return verdicts


def _claims(stored: StoredConnection, seen: Seen) -> Sequence[ConnectionSpec]:
    """Airflow writes the conn_id of a variable in capitals."""
    if stored.place.kind != "environment":
        return seen.specs.get(stored.conn_id, ())
    return [spec for conn_id, specs in seen.specs.items() if conn_id.lower() == stored.conn_id for spec in specs]


def _is_of_its_team(stored: StoredConnection, spec: ConnectionSpec) -> bool:
    return stored.team is None or spec.team in (None, stored.team.lower())


def _named(stored: Sequence[StoredConnection]) -> str:
    by_place: dict[str, list[str]] = {}
    for each in stored:
        is_variable = each.place.kind == "environment"
        place, name = ("environment variables", each.place.name) if is_variable else (DATABASE, repr(each.conn_id))
        by_place.setdefault(place, []).append(name)
    return "; ".join(f"{names(found)} in {place}" for place, found in by_place.items())
