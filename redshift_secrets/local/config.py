"""`warehouses.yaml`: the warehouses and roles of the simulated AWS."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

DEFAULT_ACCOUNT = "123456789012"
DEFAULT_REGION = "eu-west-1"

_IDENTITY = re.compile(r"arn:aws:iam::\d{12}:(user|role)/[!-~]+")


class ConfigError(Exception):
    """`warehouses.yaml` is invalid; the message names the entry, the key and the fix."""


@dataclass(frozen=True)
class Database:
    """The initial content of a warehouse.

    `sql` runs once, as the admin user, in the database `name`, after users, groups and roles have been created.
    """

    name: str = "dev"
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    sql: str = ""


@dataclass(frozen=True)
class Cluster:
    """A provisioned cluster. The fields are named as in `redshift:CreateCluster`, in snake case."""

    identifier: str
    region: str = DEFAULT_REGION
    account: str = DEFAULT_ACCOUNT
    database: Database = field(default_factory=Database)
    master_username: str = "awsuser"
    manage_master_password: bool = False
    master_password_secret_kms_key_id: str | None = None
    """ARN of a customer's KMS key; by default the secret is encrypted with AWS's own."""
    status: str = "available"
    tags: Mapping[str, str] = field(default_factory=dict)
    custom_domain: str | None = None
    vpc_endpoints: tuple[str, ...] = ()
    create_time: str | None = None
    """ISO 8601; by default the time at which the stand-in starts."""

    @property
    def secret_kms_key_id(self) -> str | None:
        """The KMS key of its managed admin secret."""
        return self.master_password_secret_kms_key_id


@dataclass(frozen=True)
class Workgroup:
    """A Serverless workgroup with its namespace. The fields are named as in `redshift-serverless:CreateWorkgroup`."""

    name: str
    namespace: str | None = None
    """By default the workgroup's own name."""
    region: str = DEFAULT_REGION
    account: str = DEFAULT_ACCOUNT
    database: Database = field(default_factory=Database)
    admin_username: str = "admin"
    manage_admin_password: bool = False
    admin_password_secret_kms_key_id: str | None = None
    status: str = "AVAILABLE"
    tags: Mapping[str, str] = field(default_factory=dict)
    custom_domain: str | None = None
    vpc_endpoints: tuple[str, ...] = ()
    create_time: str | None = None

    @property
    def secret_kms_key_id(self) -> str | None:
        """The KMS key of its managed admin secret."""
        return self.admin_password_secret_kms_key_id


@dataclass(frozen=True)
class Role:
    """An IAM role that can be assumed. Roles that are not listed cannot be assumed."""

    arn: str
    external_id: str | None = None
    tag_session: bool = False
    """Whether its trust policy allows `sts:TagSession`, without which no session of it can be tagged."""


@dataclass(frozen=True)
class IdentityPolicies:
    """What IAM allows one user or role, and who may assume the role."""

    identity: str
    documents: tuple[Mapping[str, Any], ...] = ()
    trust_policy: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Warehouses:
    """The content of the file. With policies, nobody may do anything but what they allow."""

    clusters: tuple[Cluster, ...] = ()
    workgroups: tuple[Workgroup, ...] = ()
    roles: tuple[Role, ...] = ()
    policies: tuple[IdentityPolicies, ...] = ()

    @property
    def all(self) -> tuple[Cluster | Workgroup, ...]:
        """Clusters and workgroups together."""
        return (*self.clusters, *self.workgroups)


def load(path: Path) -> Warehouses:
    """Read `warehouses.yaml`; raises `ConfigError`, naming the entry, the mistake and the known keys."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(raw, dict) and isinstance(raw.get("policies"), str):
            file = path.parent / raw["policies"]  # JSON is YAML
            raw = {**raw, "policies": yaml.safe_load(file.read_text(encoding="utf-8"))}
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    return parse(raw if raw is not None else {}, where=str(path))


def parse(raw: object, *, where: str = "warehouses") -> Warehouses:
    """Turn parsed YAML into `Warehouses`; raises `ConfigError`."""
    top = _mapping(raw, where)
    _reject_unknown_keys(top, {"clusters", "workgroups", "roles", "policies"}, where)
    return Warehouses(
        clusters=tuple(
            _entry(Cluster, item, f"{where}: clusters[{n}]") for n, item in enumerate(_list(top, "clusters", where))
        ),
        workgroups=tuple(
            _entry(Workgroup, item, f"{where}: workgroups[{n}]")
            for n, item in enumerate(_list(top, "workgroups", where))
        ),
        roles=tuple(_entry(Role, item, f"{where}: roles[{n}]") for n, item in enumerate(_list(top, "roles", where))),
        policies=tuple(
            _policies(item, f"{where}: policies[{n}]") for n, item in enumerate(_list(top, "policies", where))
        ),
    )


def _entry(kind: Any, raw: object, where: str) -> Any:
    values = dict(_mapping(raw, where))
    _reject_unknown_keys(values, {f.name for f in fields(kind)}, where)
    for name in ("users", "groups", "roles", "vpc_endpoints"):
        if name in values:
            values[name] = tuple(str(item) for item in _list(values, name, where))
    if "tags" in values:
        values["tags"] = {str(k): _tag_value(v) for k, v in _mapping(values["tags"], f"{where}: tags").items()}
    if "database" in values:
        database = values["database"]
        values["database"] = (
            Database(name=database) if isinstance(database, str) else _entry(Database, database, f"{where}: database")
        )
    if "account" in values:
        values["account"] = str(values["account"]).zfill(12)
    if values.get("create_time") is not None:
        values["create_time"] = str(values["create_time"])
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"{where}: {str(error).split('__init__() ')[-1]}") from error


def _policies(raw: object, where: str) -> IdentityPolicies:
    """An entry as `redshift-secrets policy` prints it."""
    values = _mapping(raw, where)
    _reject_unknown_keys(values, {"identity", "account", "policies", "trust_policy", "max_session_seconds"}, where)
    identity = values.get("identity")
    if not isinstance(identity, str) or not _IDENTITY.fullmatch(identity):
        raise ConfigError(f"{where}: identity must be the ARN of an IAM user or role, is {identity!r}")
    documents = [
        _mapping(_mapping(item, f"{where}: policies[{n}]").get("document"), f"{where}: policies[{n}].document")
        for n, item in enumerate(_list(values, "policies", where))
    ]
    trust = values.get("trust_policy")
    return IdentityPolicies(
        identity, tuple(documents), None if trust is None else _mapping(trust, f"{where}: trust_policy")
    )


def _tag_value(value: object) -> str:
    # YAML parses `airflow:auto-create: true` as a boolean; in AWS, tag values are strings.
    return str(value).lower() if isinstance(value, bool) else str(value)


def _reject_unknown_keys(values: Mapping[str, object], names: set[str], where: str) -> None:
    for name in values:
        if name not in names:
            raise ConfigError(f"{where}: unknown key {name!r}; known are {', '.join(sorted(names))}")


def _mapping(raw: object, where: str) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: must be a mapping, is {type(raw).__name__}")
    return raw


def _list(values: Mapping[str, object], name: str, where: str) -> list[Any]:
    raw = values.get(name) or []
    if not isinstance(raw, list):
        raise ConfigError(f"{where}: {name} must be a list, is {type(raw).__name__}")
    return raw
