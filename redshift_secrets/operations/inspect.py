"""What tags claim on this site, where each field of a connection comes from, and what is wrong."""

from __future__ import annotations

from msgspec import Struct

from redshift_secrets.lookup.broker import Broker
from redshift_secrets.model import ConnectionSpec


class ListedConnections(Struct, frozen=True):
    """One row for each claim of a conn_id, remarks, and whether some region or account could not be listed."""

    rows: tuple[dict[str, str], ...]
    notes: tuple[str, ...]
    incomplete: bool


class ShownConnection(Struct, frozen=True):
    """One claim of a conn_id, field by field. `fails` says whether its problems keep it from being served."""

    rows: tuple[dict[str, str], ...]
    problems: tuple[str, ...]
    fails: bool


def list_connections(broker: Broker) -> ListedConnections:
    """Return one row for each claim; a conn_id that is claimed twice has two. Raises `RedshiftSecretsError`."""
    snapshot = broker.snapshot()
    rows = []
    for conn_id in sorted(snapshot.specs):
        specs = snapshot.specs[conn_id]
        rows += [_listed(spec, specs) for spec in specs]
    notes = [*snapshot.problems, *snapshot.ignored, *not_listed(broker)]
    return ListedConnections(tuple(rows), tuple(notes), incomplete=bool(snapshot.unseen))


def not_listed(broker: Broker) -> tuple[str, ...]:
    """Return what could not be listed and why, each as a sentence. Raises `RedshiftSecretsError`."""
    return tuple(f"{unseen.scope} could not be listed: {unseen.error}" for unseen in broker.snapshot().unseen)


def show_connection(broker: Broker, conn_id: str) -> list[ShownConnection]:
    """Return one entry for each warehouse that claims `conn_id`. Costs no mint. Raises `RedshiftSecretsError`."""
    return [_shown(spec) for spec in broker.snapshot().specs.get(conn_id, ())]


def login_user(spec: ConnectionSpec) -> str:
    """Return the user that a connection logs in as, as far as it is known without minting."""
    if spec.auth == "secret":
        return "(admin user)"
    if (spec.auth == "iam" and spec.session_role_arn is None) or spec.db_user is None:
        return "(IAM identity)"
    return spec.db_user


def _listed(spec: ConnectionSpec, claims: tuple[ConnectionSpec, ...]) -> dict[str, str]:
    warehouse = spec.warehouse
    problems = [*spec.errors, *spec.warnings]
    rivals = [str(other.warehouse) for other in claims if other is not spec and _share_a_team(other, spec)]
    if rivals:
        problems.append(f"also claimed by {', '.join(rivals)}")
    if not warehouse.can_serve:
        problems.append(f"does not accept logins now: {warehouse.status}")
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


def _share_a_team(one: ConnectionSpec, other: ConnectionSpec) -> bool:
    return one.team is None or other.team is None or one.team == other.team


def _shown(spec: ConnectionSpec) -> ShownConnection:
    warehouse, sources = spec.warehouse, spec.sources
    host, port = spec.address or ("", "")
    caller = f"through {warehouse.role_arn}" if warehouse.role_arn else "with this process's AWS credentials"
    fields: list[tuple[str, object, str]] = [
        ("conn_id", spec.conn_id, f"tag on {warehouse.arn}"),
        ("warehouse", warehouse, f"found {caller}"),
        ("state", warehouse.status, "AWS"),
        ("conn_type", spec.conn_type, sources["conn_type"]),
        ("host", host, _endpoint_source(spec)),
        ("port", port, "AWS"),
        ("database", spec.database, sources["database"]),
        ("auth", spec.auth, sources["auth"]),
        ("user", login_user(spec), _login_source(spec, "db_user")),
        ("db_groups", " ".join(spec.db_groups), _login_source(spec, "db_groups")),
        ("db_roles", " ".join(spec.db_roles), _login_source(spec, "db_roles")),
        ("auto_create", spec.auto_create, _login_source(spec, "auto_create")),
        ("duration", f"{spec.duration} s", sources["duration"]),
        ("team", spec.team or "", sources["team"] if spec.team else "default: every team"),
        *((f"extra.{key}", value, sources[f"extra.{key}"]) for key, value in spec.extra.items()),
    ]
    rows = tuple({"field": name, "value": str(value), "source": source} for name, value, source in fields)
    problems = [*spec.errors, *spec.warnings]
    if not warehouse.can_serve:
        problems.append(f"{warehouse} does not accept logins now: {warehouse.status}")
    return ShownConnection(rows, tuple(problems), fails=bool(spec.errors) or not warehouse.can_serve)


def _login_source(spec: ConnectionSpec, name: str) -> str:
    """Where something that is said of the user comes from, and whether the login goes by it."""
    source, warehouse = spec.sources[name], spec.warehouse
    of_clusters, tagged = ("db_user", "db_groups", "auto_create"), ("db_user", "db_groups")
    if warehouse.kind == "workgroup":
        tagged = ("db_user", "db_roles")
    if spec.auth in ("db-user", "connector") and name in of_clusters:
        return source
    if spec.auth == "iam" and name in tagged and source.startswith(("tag ", "setting ")):
        if spec.session_role_arn is not None:
            return f"{source}, as a session tag of {spec.session_role_arn}"
        return f"auth iam; {source} is not used: no role is configured for account {warehouse.account} (role_arn)"
    return f"auth {spec.auth}" if name == "db_user" else f"not used with auth {spec.auth}"


def _endpoint_source(spec: ConnectionSpec) -> str:
    source = spec.sources["endpoint"]
    return "endpoint default" if source == "default" else f"endpoint {spec.endpoint}, {source}"
