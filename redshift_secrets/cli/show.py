"""`redshift-secrets show`: every field of a connection with the tag, setting or default that it came from."""

from __future__ import annotations

from dataclasses import dataclass

from redshift_secrets.cli.list import login_user
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.model import ConnectionSpec

COLUMNS = ("field", "value", "source")


@dataclass(frozen=True)
class Shown:
    """One claim of the conn_id. `fails` tells whether its problems keep it from being served."""

    rows: list[dict[str, str]]
    problems: list[str]
    fails: bool


def collect(broker: Broker, conn_id: str) -> list[Shown]:
    """Return one entry for each warehouse that claims `conn_id`. Costs no mint. Raises `RedshiftSecretsError`."""
    snapshot = broker.snapshot(broker.deadline())
    return [_shown(spec) for spec in broker.specs(snapshot, conn_id)]


def _shown(spec: ConnectionSpec) -> Shown:
    warehouse, sources = spec.warehouse, spec.sources
    as_user = spec.auth in ("db-user", "connector")
    host, port = spec.address or ("", "")
    seen_as = f"role {warehouse.role_arn}" if warehouse.role_arn else "the identity of this Airflow"
    fields: list[tuple[str, object, str]] = [
        ("conn_id", spec.conn_id, f"tag on {warehouse.arn}"),
        ("warehouse", warehouse, f"found as {seen_as}"),
        ("state", warehouse.status, "AWS"),
        ("conn_type", spec.conn_type, sources["conn_type"]),
        ("host", host, f"endpoint {spec.endpoint}, {sources['endpoint']}"),
        ("port", port, "AWS"),
        ("database", spec.database, sources["database"]),
        ("auth", spec.auth, sources["auth"]),
        ("user", login_user(spec), sources["db_user"] if as_user else f"auth {spec.auth}"),
        ("db_groups", " ".join(spec.db_groups), sources["db_groups"] if as_user else f"not used with auth {spec.auth}"),
        ("auto_create", spec.auto_create, sources["auto_create"] if as_user else f"not used with auth {spec.auth}"),
        ("duration", f"{spec.duration} s", sources["duration"]),
        ("team", spec.team or "", sources["team"] if spec.team else "default: every team"),
        *((f"extra.{key}", value, sources[f"extra.{key}"]) for key, value in spec.extra.items()),
    ]
    rows = [{"field": name, "value": str(value), "source": source} for name, value, source in fields]
    problems = [*spec.errors, *spec.warnings]
    if not warehouse.can_serve:
        problems.append(f"{warehouse} takes no logins now: {warehouse.status}")
    return Shown(rows, problems, fails=bool(spec.errors) or not warehouse.can_serve)
