"""What tags claim on this site, where each field of a connection comes from, and what is wrong: as plain data, without secrets.

`ConnectionView` is the row that commands and pages show.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from redshift_secrets.lookup.broker import Broker
from redshift_secrets.lookup.inventory import CachedConnection, Snapshot
from redshift_secrets.lookup.reasons import unlisted
from redshift_secrets.lookup.tags import EXTRA_KEYS
from redshift_secrets.model import ConnectionSpec, Scope, WarehouseKind

HIDDEN = "***"
"""Instead of a value of the setting `extra` that may be a secret."""

Value = str | int | float | bool | tuple[str, ...] | None


class FieldView(Struct, frozen=True):
    """A field of a connection, and which tag, setting or default its value comes from."""

    name: str
    value: Value
    source: str


class CredentialView(Struct, frozen=True):
    """A credential that some process has minted, without its password. Times are in seconds since the epoch: from `refresh_at`
    on, about half of its validity, a lookup has another one minted. `tier` is the nearest one that has it: `process`, `host` or `fleet`."""

    user: str
    minted_by: str
    minted_at: float
    refresh_at: float
    expires_at: float
    tier: str


class ConnectionView(Struct, frozen=True):
    """The claim of a conn_id by one warehouse. `available` says whether that accepts logins, `fails` whether the connection
    cannot be served; `credential` is `None` where no tier has one, or it was not asked for."""

    conn_id: str
    warehouse: str
    kind: WarehouseKind
    arn: str
    account: str
    region: str
    database: str
    user: str
    auth: str
    team: str | None
    state: str
    available: bool
    fails: bool
    problems: tuple[str, ...]
    fields: tuple[FieldView, ...]
    credential: CredentialView | None = None


class SiteView(Struct, frozen=True):
    """Every claim, ordered by conn_id, and what is known beside.

    `tag_problems` are those of tags that claim nothing, `ignored` are warehouses that may claim nothing on this site. Of what is
    in `unseen` it is not known what it claims; each says why, as a sentence. `scopes` were looked at; `tier` has answered
    (`process`, `host`, `fleet` or `aws`), with listings made at `listed_at` (seconds since the epoch) or later.
    """

    rows: tuple[ConnectionView, ...]
    tag_problems: tuple[str, ...]
    ignored: tuple[str, ...]
    unseen: tuple[str, ...]
    scopes: tuple[Scope, ...]
    tier: str
    listed_at: float
    age: float
    """Seconds since then."""

    @property
    def has_problems(self) -> bool:
        """Whether anything is wrong with a conn_id or a tag."""
        return bool(self.tag_problems) or any(row.problems for row in self.rows)


def view_site(broker: Broker, conn_id: str | None = None, credentials: bool = False) -> SiteView:
    """Return every claim, or those of one conn_id; with `credentials`, also what the tiers have for each. Never mints.

    Raises `RedshiftSecretsError` where nothing can be listed.
    """
    lookup, began_at = broker.lookup(), broker.now()
    snapshot = broker.inventory.snapshot(lookup)
    conn_ids = sorted(snapshot.specs) if conn_id is None else [conn_id]
    claims = [(spec, snapshot.specs[each]) for each in conn_ids for spec in snapshot.specs.get(each, ())]
    cached = broker.inventory.cached_credentials([spec for spec, _ in claims]) if credentials else []
    found = {id(each.spec): each for each in cached}
    return SiteView(
        tuple(view_connection(broker, spec, rivals, found.get(id(spec))) for spec, rivals in claims),
        snapshot.problems,
        snapshot.ignored,
        unseen(snapshot),
        scopes(snapshot),
        broker.answered_by(lookup, snapshot.newest_at, began_at),
        snapshot.listed_at,
        max(0.0, broker.now() - snapshot.listed_at),
    )


def places(scopes: Sequence[Scope]) -> str:
    """Return where was looked, as regions and the roles of other accounts."""
    regions = list(dict.fromkeys(scope.region for scope in scopes))
    roles = list(dict.fromkeys(scope.role_arn for scope in scopes if scope.role_arn))
    kinds = {scope.kind for scope in scopes}
    only = ""
    if len(kinds) == 1:
        only = " (clusters alone)" if "cluster" in kinds else " (Serverless workgroups alone)"
    through = f", also as {' and '.join(roles)}" if roles else ""
    return f"{' and '.join(regions)}{through}{only}"


def login_user(spec: ConnectionSpec) -> str:
    """Return the user that a connection logs in as, as far as it is known without minting."""
    if spec.auth == "secret":
        return "(admin user)"
    if (spec.auth == "iam" and spec.session_role_arn is None) or spec.db_user is None:
        return "(IAM identity)"
    return spec.db_user


def scopes(snapshot: Snapshot) -> tuple[Scope, ...]:
    """Return what was looked at."""
    return (*snapshot.seen, *(each.scope for each in snapshot.unseen))


def unseen(snapshot: Snapshot) -> tuple[str, ...]:
    """Return as sentences of what it is not known what it claims, and why."""
    return (*unlisted([(each.scope, each.error) for each in snapshot.unseen]), *snapshot.unread)


def view_connection(
    broker: Broker,
    spec: ConnectionSpec,
    claims: Sequence[ConnectionSpec],
    cached: CachedConnection | None = None,
    *,
    fields: bool = True,
) -> ConnectionView:
    """Return one of the claims of a conn_id, with what a tier has for it, and without `fields` none of these."""
    warehouse = spec.warehouse
    problems = [*spec.errors, *spec.warnings]
    claims = [each for each in claims if _share_a_team(each, spec)]
    if len(claims) > 1:
        problems.append(f"also claimed by {', '.join(str(each.warehouse) for each in claims if each is not spec)}")
    if not warehouse.can_serve:
        problems.append(f"does not accept logins now: {_state(spec)}")
    return ConnectionView(
        conn_id=spec.conn_id,
        warehouse=warehouse.identifier,
        kind=warehouse.kind,
        arn=warehouse.arn,
        account=warehouse.account,
        region=warehouse.region,
        database=spec.database,
        user=login_user(spec),
        auth=spec.auth,
        team=spec.team,
        state=_state(spec),
        available=warehouse.can_serve,
        fails=bool(spec.errors) or not warehouse.can_serve or not broker.inventory.serves(spec, claims),
        problems=tuple(problems),
        fields=field_views(spec) if fields else (),
        credential=credential_view(cached),
    )


def _state(spec: ConnectionSpec) -> str:
    """Clusters have states in lower case and workgroups in upper case."""
    state = spec.warehouse.status.lower()
    return state if spec.warehouse.host else f"{state}, no endpoint"


def _share_a_team(one: ConnectionSpec, other: ConnectionSpec) -> bool:
    return one.team is None or other.team is None or one.team == other.team


def credential_view(cached: CachedConnection | None) -> CredentialView | None:
    """Return what is known of a credential; `None` where no tier has one."""
    if cached is None or cached.credential is None:
        return None
    value = cached.credential.value
    return CredentialView(
        value.user, value.minted_by, value.minted_at, cached.credential.stale_at, value.expires_at, cached.tier
    )


def field_views(spec: ConnectionSpec) -> tuple[FieldView, ...]:
    """Return the fields of a connection with where each comes from."""
    warehouse, sources = spec.warehouse, spec.sources
    host, port = spec.address or (None, None)
    caller = f"through {warehouse.role_arn}" if warehouse.role_arn else "with this process's AWS credentials"
    fields: list[tuple[str, Value, str]] = [
        ("conn_id", spec.conn_id, f"tag on {warehouse.arn}"),
        ("warehouse", str(warehouse), f"found {caller}"),
        ("state", _state(spec), "AWS"),
        ("conn_type", spec.conn_type, sources["conn_type"]),
        ("host", host, _endpoint_source(spec)),
        ("port", port, "AWS"),
        ("database", spec.database, sources["database"]),
        ("auth", spec.auth, sources["auth"]),
        ("user", login_user(spec), _login_source(spec, "db_user")),
        ("db_groups", spec.db_groups, _login_source(spec, "db_groups")),
        ("db_roles", spec.db_roles, _login_source(spec, "db_roles")),
        ("auto_create", spec.auto_create, _login_source(spec, "auto_create")),
        ("duration", spec.duration, sources["duration"]),
        ("team", spec.team, sources["team"] if spec.team else "default: every team"),
        *((f"extra.{key}", _extra(spec, key), sources[f"extra.{key}"]) for key in spec.extra),
    ]
    return tuple(FieldView(*field) for field in fields)


def _extra(spec: ConnectionSpec, key: str) -> Value:
    """What a tag may set is harmless, and so is how the server is checked; in the setting `extra` may be any option of a driver."""
    value = spec.extra[key]
    if key not in (*EXTRA_KEYS.get(spec.conn_type, ()), "sslrootcert"):
        return HIDDEN
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


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
