"""Connections that are stored elsewhere and not used, or refused, since this backend manages their conn_ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redshift_secrets.errors import RedshiftSecretsError
from redshift_secrets.operations.doctor.verdicts import Verdict, counted, names, verdict
from redshift_secrets.operations.doctor.warehouses import Seen
from redshift_secrets.settings import Settings

DATABASE = "the metadata database"


def stored_verdicts(
    settings: Settings,
    seen: Seen | None,
    in_environment: Mapping[str, str],
    in_database: Sequence[str] | RedshiftSecretsError,
) -> list[Verdict]:
    """Compare stored connections with claims. `in_environment` has the names of variables by conn_id in lower case, `in_database`
    conn_ids, or why they are not known."""
    verdicts = []
    stored: list[tuple[str, str]] = [(conn_id, name) for conn_id, name in in_environment.items()]
    places = "environment variables"
    if isinstance(in_database, RedshiftSecretsError):
        said = f"{in_database}. Which connections it stores is not known"
        verdicts.append(verdict("stored", "warning", said))
    else:
        stored += [(conn_id, DATABASE) for conn_id in in_database]
        places = f"{DATABASE} and in {places}"
    if seen is None:
        return verdicts
    # Airflow writes the conn_id of a variable in capitals.
    claimed = {conn_id.lower() for conn_id in seen.specs}
    shadowed = [
        (conn_id, where)
        for conn_id, where in stored
        if conn_id in seen.specs or (where != DATABASE and conn_id in claimed)
    ]
    refused = [each for each in stored if each not in shadowed and settings.manages(each[0])] if seen.complete else []
    if shadowed:
        said = (
            f"{counted(len(shadowed), 'stored connection')} no longer used, since a tag claims the conn_id: {_named(shadowed)}."
            " `redshift-secrets migrate finish` says which can be removed, with their passwords"
        )
        verdicts.append(verdict("stored", "warning", said, (conn_id for conn_id, _ in shadowed)))
    if refused:
        said = (
            f"{counted(len(refused), 'stored connection')} refused, since managed_conn_ids matches the conn_id and no warehouse claims it:"
            f" {_named(refused)}. Tag their warehouses (`redshift-secrets migrate plan` says how), or exclude them from managed_conn_ids"
        )
        verdicts.append(verdict("stored", "problem", said, (conn_id for conn_id, _ in refused)))
    if not shadowed and not refused:
        said = f"none of {counted(len(stored), 'connection')} in {places} has a conn_id that this backend manages"
        verdicts.append(verdict("stored", "ok", said))
    return verdicts


def _named(stored: Sequence[tuple[str, str]]) -> str:
    by_place: dict[str, list[str]] = {}
    for conn_id, where in stored:
        by_place.setdefault(DATABASE if where == DATABASE else "environment variables", []).append(
            repr(conn_id) if where == DATABASE else where
        )
    return "; ".join(f"{names(found)} in {place}" for place, found in by_place.items())
