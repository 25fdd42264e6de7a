"""`redshift-secrets list`: everything that tags claim here, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass

from redshift_secrets.lookup.broker import Broker
from redshift_secrets.model import ConnectionSpec

COLUMNS = ("conn_id", "warehouse", "account", "region", "database", "user", "auth", "state", "problems")


@dataclass(frozen=True)
class Found:
    """Rows to print, remarks for standard error, and whether some region or account could not be listed."""

    rows: list[dict[str, str]]
    notes: list[str]
    incomplete: bool


def collect(broker: Broker) -> Found:
    """Return one row for each claim of a conn_id; a conn_id that is claimed twice has two. Raises `RedshiftSecretsError`."""
    snapshot = broker.snapshot(broker.deadline())
    rows = []
    for conn_id in sorted(snapshot.claims):
        found = broker.specs(snapshot, conn_id)
        rows += [_row(spec, found) for spec in found]
    failed = [listing for listing in snapshot.listings if listing.error is not None]
    notes = [*snapshot.problems, *snapshot.ignored]
    notes += [f"{listing.scope} could not be listed: {listing.error}" for listing in failed]
    return Found(rows, notes, incomplete=bool(failed))


def login_user(spec: ConnectionSpec) -> str:
    """Return who a connection logs in as, as far as that is known without minting."""
    if spec.auth == "secret":
        return "(admin user)"
    if spec.auth == "iam" or spec.db_user is None:
        return "(IAM identity)"
    return spec.db_user


def _row(spec: ConnectionSpec, claims: tuple[ConnectionSpec, ...]) -> dict[str, str]:
    warehouse = spec.warehouse
    problems = [*spec.errors, *spec.warnings]
    rivals = [str(other.warehouse) for other in claims if other is not spec and _share_an_asker(other, spec)]
    if rivals:
        problems.append(f"also claimed by {', '.join(rivals)}")
    return {
        "conn_id": spec.conn_id,
        "warehouse": f"{warehouse.kind} {warehouse.identifier}",
        "account": warehouse.account,
        "region": warehouse.region,
        "database": spec.database,
        "user": login_user(spec),
        "auth": spec.auth,
        "state": warehouse.status if warehouse.host else f"{warehouse.status}, no endpoint",
        "problems": "; ".join(problems),
    }


def _share_an_asker(one: ConnectionSpec, other: ConnectionSpec) -> bool:
    return one.team is None or other.team is None or one.team == other.team
