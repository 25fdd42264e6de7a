"""The words of the contract as data: warehouse, connection spec, credential, connection.

Structs of `msgspec`, which Airflow 3 has already loaded: each of these classes is created in 15 us. For a frozen dataclass
Python compiles source text for half a millisecond, and every Airflow process creates all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from msgspec import Struct
from msgspec.structs import force_setattr

WarehouseKind = Literal["cluster", "workgroup"]


class HiddenText(str):
    """A secret text: a `str`, except that formatting it gives `***`, and that msgspec, with which Airflow writes its structured
    logs, does not encode it by itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __rich_repr__(self) -> tuple[()]:
        return ()  # rich, which Airflow prints tracebacks with, would show the begin of a long one


class HiddenMapping(Mapping[str, Any]):
    """A mapping with secret values, hidden as `HiddenText` is."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return "***"

    __sentry_repr__ = (
        __repr__  # Airflow's Sentry has the variables of each frame of a traceback, and writes mappings item by item
    )


def reveal(value: object) -> Any:
    """Return a hidden text as a plain `str`, a hidden mapping as a `dict`; the `enc_hook` for what is sealed or digested.

    Raises `TypeError` for anything else.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (dict, HiddenMapping)):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is not hidden")


class Private(Struct, frozen=True):
    """A record with fields that no repr and no structured log may show: those that the class names in `hidden`."""

    hidden: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name in self.hidden:
            value = getattr(self, name)
            hidden = _hide(value)
            if hidden is not value:
                force_setattr(self, name, hidden)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in self.hidden]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


def _hide(value: Any) -> Any:
    if type(value) is str:
        return HiddenText(value)
    if type(value) is tuple:
        return tuple(map(_hide, value))
    return HiddenMapping(value) if isinstance(value, dict) else value


class VpcEndpoint(Struct, frozen=True):
    """A Redshift-managed VPC endpoint of a warehouse."""

    name: str
    host: str
    port: int


class Warehouse(Struct, frozen=True):
    """One thing to connect to: a provisioned cluster or a Serverless workgroup, as AWS last described it.

    `created_at` is in seconds since the epoch. `role_arn` is the role that was assumed to list it, `None` for the caller
    itself. `host` and `port` are `None` while AWS gives it no endpoint.
    """

    kind: WarehouseKind
    identifier: str
    arn: str
    account: str
    region: str
    status: str
    created_at: float
    tags: Mapping[str, str]
    database: str
    host: str | None = None
    port: int | None = None
    custom_domain: str | None = None
    vpc_endpoints: tuple[VpcEndpoint, ...] = ()
    admin_secret_arn: str | None = None
    role_arn: str | None = None
    unknown: Mapping[str, str] = {}
    """Why something is not known: `vpc_endpoints`, `database`, `admin_secret_arn` (needed by some connections), `identity` (its name
    or account, needed by all), `tags`."""

    def __str__(self) -> str:
        kind = "cluster" if self.kind == "cluster" else "Serverless workgroup"
        return f"{kind} {self.identifier} (account {self.account or 'unknown'}, {self.region})"

    @property
    def can_serve(self) -> bool:
        """Whether it has an endpoint and is in no state that rules logins out.

        States that last seconds (modifying, resizing, rebooting) do not count: the driver retries those.
        https://docs.aws.amazon.com/redshift/latest/APIReference/API_Cluster.html
        """
        if self.host is None or self.port is None:
            return False
        status = self.status.lower()
        return not (
            status.startswith("incompatible-")
            or status in ("creating", "hardware-failure", "paused", "pausing", "resuming")
            or self.is_being_deleted
        )

    @property
    def is_being_deleted(self) -> bool:
        """Whether it will not come back. https://docs.aws.amazon.com/redshift/latest/mgmt/rs-mgmt-cluster-status.html"""
        return self.status.lower() in ("deleting", "final-snapshot")

    @property
    def has_unknown_age(self) -> bool:
        """Whether AWS has left out when it was created; while it is being created, it is younger than all others."""
        return self.created_at == float("inf") and self.status.lower() != "creating"


class Scope(Struct, frozen=True):
    """What one listing covers: one kind of warehouse, in one region, through one role. It fails on its own."""

    kind: WarehouseKind
    region: str
    role_arn: str | None

    def __str__(self) -> str:
        kind = "clusters" if self.kind == "cluster" else "Serverless workgroups"
        return f"{kind} in {self.region}" + (f" as {self.role_arn}" if self.role_arn else "")


Auth = Literal["db-user", "iam", "secret", "connector"]


class ConnectionSpec(Private, frozen=True):
    """What the tags and the settings say of one conn_id.

    `sources` says for every field where its value comes from. `errors` make the connection fail, `warnings` do not.
    """

    hidden = ("extra",)

    conn_id: str
    warehouse: Warehouse
    auth: Auth
    endpoint: str
    database: str
    db_user: str | None
    db_groups: tuple[str, ...]
    auto_create: bool
    duration: int
    conn_type: str
    team: str | None
    extra: Mapping[str, object]
    own_address: tuple[str, int | None] | None = None
    """The host of the setting `hosts`, and its port where it is not the warehouse's."""
    db_roles: tuple[str, ...] = ()
    session_role_arn: str | None = None
    """The role that is assumed with `db_user`, `db_groups` and `db_roles` as its session tags; `None` where `auth` is not
    `iam`, or the caller itself mints."""
    per_dag: bool = False
    """Whether it logs in as another database user for each DAG: then `db_user` is a template."""
    sources: Mapping[str, str] = {}
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of the endpoint this spec asks for; `None` where the warehouse has no such endpoint now."""
        warehouse = self.warehouse
        if warehouse.host is None or warehouse.port is None:
            return None
        if self.own_address is not None:
            return self.own_address[0], self.own_address[1] or warehouse.port
        if self.endpoint == "default":
            return warehouse.host, warehouse.port
        if self.endpoint == "custom-domain":
            return (warehouse.custom_domain, warehouse.port) if warehouse.custom_domain else None
        name = self.endpoint.removeprefix("vpc:")
        return next(((e.host, e.port) for e in warehouse.vpc_endpoints if e.name == name), None)


class MintRequest(Struct, frozen=True):
    """Everything that decides which credential AWS returns; connections with equal requests share one credential."""

    auth: Auth
    arn: str
    kind: WarehouseKind
    identifier: str
    account: str
    region: str
    role_arn: str | None
    database: str
    db_user: str | None
    db_groups: tuple[str, ...]
    auto_create: bool
    duration: int
    admin_secret_arn: str | None
    db_roles: tuple[str, ...] = ()
    session_role_arn: str | None = None
    """The role that is assumed with user, groups and roles as its session tags."""
    created_at: float = 0.0
    """Not sent to AWS; a warehouse that was deleted and created again under its name gets a new credential."""
    team: str | None = None
    """Not sent to AWS; it is here so that teams never share a credential."""

    @classmethod
    def of(cls, spec: ConnectionSpec) -> MintRequest:
        """Return the request for the credential of `spec`, without what its way of authenticating does not use."""
        warehouse = spec.warehouse
        as_db_user = spec.auth == "db-user"
        names_user = as_db_user or spec.session_role_arn is not None
        serverless = warehouse.kind == "workgroup"
        return cls(
            auth=spec.auth,
            arn=warehouse.arn,
            kind=warehouse.kind,
            identifier=warehouse.identifier,
            account=warehouse.account,
            region=warehouse.region,
            role_arn=warehouse.role_arn,
            database=spec.database,
            db_user=spec.db_user if names_user else None,
            db_groups=spec.db_groups if names_user and not serverless else (),
            auto_create=spec.auto_create and as_db_user,
            duration=spec.duration,
            admin_secret_arn=warehouse.admin_secret_arn if spec.auth == "secret" else None,
            db_roles=spec.db_roles if names_user and serverless else (),
            session_role_arn=spec.session_role_arn,
            created_at=warehouse.created_at,
            team=spec.team,
        )


class TaskContext(Struct, frozen=True):
    """The DAG and the team on whose behalf a connection is looked up, as far as they are known."""

    dag_id: str | None = None
    team: str | None = None


class Credential(Private, frozen=True):
    """A database user, a password and when it expires (seconds since the epoch), with the caller that minted it and when, and
    the id of that request at AWS."""

    hidden = ("password",)

    user: str
    password: str
    minted_at: float
    expires_at: float
    minted_by: str
    request_id: str | None = None


class ConnectionFields(Private, frozen=True):
    """The fields of an Airflow Connection, under Airflow's names."""

    hidden = ("password", "extra")

    conn_id: str
    conn_type: str
    host: str
    port: int
    schema: str
    login: str | None
    password: str | None
    extra: Mapping[str, object]
    description: str
    valid_until: float | None = None
    """Seconds since the epoch from which on this login is no longer returned; `None` where nothing in it expires."""
