"""The settings: `backend_kwargs`, checked as a whole when Airflow starts.

Pure: a mapping in, `Settings` or one `SettingsError` with everything that is wrong out. Values may be texts, since
`AIRFLOW__SECRETS__BACKEND_KWARG__<NAME>` delivers nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from redshift_secrets.errors import SettingsError
from redshift_secrets.model import Private
from redshift_secrets.settings import db_user, values

if TYPE_CHECKING:
    from redshift_secrets.settings.redis_url import RedisAddress

_PREFIX = r"[\w+\-=._:/@][\w+\-=._:/@ ]{0,63}"


def _tag_prefix(raw: object) -> str:
    prefix = values.text(raw)
    if not re.fullmatch(_PREFIX, prefix) or prefix.lower().startswith("aws:"):
        raise ValueError(
            f"must be 1 to 64 of the characters AWS allows in a tag key and not begin with aws:, not {prefix!r}"
        )
    return prefix


def _endpoint_url(raw: object) -> str:
    """No message repeats it: it may hold a password."""
    url = raw.strip() if isinstance(raw, str) else ""
    found = re.fullmatch(r"https?://([^/\s@?#]+)(/\S*)?", url)
    if found is None:
        raise ValueError("must be a URL that begins with http:// or https:// and carries no user or password")
    host, _ = values.host_and_port(found[1])
    if not host or values.has_control_characters(url):
        raise ValueError("must be a URL that begins with http:// or https:// and a host")
    return url


# Few sites set these, so their modules are not loaded in every Airflow process.
def _redis_url(raw: object) -> RedisAddress:
    from redshift_secrets.settings import redis_url

    return redis_url.parse(raw)


def _config(raw: object) -> Mapping[str, Any]:
    from redshift_secrets.settings import botocore_config

    return botocore_config.parse(raw)


def _assume_role_kwargs(raw: object) -> Mapping[str, Any]:
    from redshift_secrets.settings import assume_role

    return assume_role.parse(raw)


def _verify(raw: object) -> bool | str:
    """What boto3's `verify` takes: whether to check certificates, or the file of those to trust."""
    if isinstance(raw, bool) or (isinstance(raw, str) and raw.strip().lower() in ("true", "false")):
        return values.boolean(raw)
    if isinstance(raw, str) and raw.strip().startswith("/"):
        return values.text(raw)
    raise ValueError(f"must be true, false or the absolute path of a file of certificates, not {raw!r}")


def _required_tags(raw: object) -> dict[str, str]:
    tags = values.mapping(raw)
    for key, value in tags.items():
        if not isinstance(value, str):
            raise ValueError(f"must give each tag key one text as its value; {key!r} has a {type(value).__name__}")
    try:
        return {values.tag_key(key): values.tag_value(value) for key, value in tags.items()}
    except ValueError as error:
        raise ValueError(f"has a tag that {error}") from None


def _warehouses(raw: object) -> tuple[str, ...]:
    kinds = values.listed(values.one_of("clusters", "workgroups"))(raw)
    if not kinds:
        raise ValueError("must name clusters, workgroups or both")
    return kinds


def _fields(
    path: str, raw: Mapping[str, object], readers: Mapping[str, Callable[[object], Any]], problems: list[str]
) -> dict[str, Any]:
    """Read the fields of the JSON object at `path`, and add a sentence to `problems` for each that is wrong."""
    read: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in readers:
            problems.append(f"{path}.{key}: unknown setting{values.nearest(str(key), readers)}")
        elif value is not None:
            try:
                read[key] = readers[key](value)
            except ValueError as error:
                problems.append(f"{path}.{key} {error}")
    return read


class Account(Private, frozen=True):
    """A further AWS account: the role to assume in it, and the regions to look in (`None`: those of the settings)."""

    hidden = ("external_id",)

    role_arn: str
    external_id: str | None = None
    regions: tuple[str, ...] | None = None


_ACCOUNT_KEYS: Mapping[str, Callable[[object], Any]] = {
    "role_arn": values.role_arn,
    "external_id": values.external_id,
    "regions": values.listed(values.region),
}


def _accounts(raw: object) -> tuple[Account, ...]:
    raw = values.json_value(raw)
    if not isinstance(raw, (list, tuple)):
        raise ValueError("must be a JSON list of objects, each with a role_arn")
    problems: list[str] = []
    accounts: list[Account] = []
    for number, item in enumerate(raw):
        path = f"accounts[{number}]"
        if not isinstance(item, dict):
            problems.append(f'{path} must be a JSON object like {{"role_arn": "arn:aws:iam::..."}}')
            continue
        fields = _fields(path, item, _ACCOUNT_KEYS, problems)
        if "role_arn" in fields:
            accounts.append(Account(**fields))
        elif item.get("role_arn") is None:
            problems.append(f"{path} has no role_arn: name the role to assume there")
    roles = [account.role_arn for account in accounts]
    for role in dict.fromkeys(roles):
        if roles.count(role) > 1:
            problems.append(f"accounts names the role {role} twice: give it one entry with all its regions")
    if problems:
        raise SettingsError(problems)
    return tuple(accounts)


class Host(Struct, frozen=True):
    """A host of the site's own for a warehouse. Without a port, the warehouse's; without `sslmode`, that of the settings."""

    host: str
    port: int | None = None
    sslmode: str | None = None


_HOST_KEYS: Mapping[str, Callable[[object], Any]] = {
    "host": values.host,
    "port": values.port,
    "sslmode": values.sslmode,
}
_WAREHOUSE = r"[a-z][a-z0-9-]{0,63}"
_WAREHOUSE_ARN = (
    rf"arn:[a-z-]+:redshift(:[a-z0-9-]+:\d{{12}}:cluster:{_WAREHOUSE}|-serverless:[a-z0-9-]+:\d{{12}}:workgroup/[\w-]+)"
)


def _hosts(raw: object) -> dict[str, Host]:
    problems: list[str] = []
    hosts: dict[str, Host] = {}
    for name, item in values.mapping(raw).items():
        path = f"hosts.{name}"
        if not re.fullmatch(f"{_WAREHOUSE}|{_WAREHOUSE_ARN}", str(name)):
            problems.append(f"{path} must be the identifier or the ARN of a cluster or workgroup")
            continue
        fields: dict[str, Any] = {}
        if isinstance(item, str) and not re.search(r"[/@?#]", item):
            try:
                fields["host"], fields["port"] = values.host_and_port(item.strip())
            except ValueError as error:
                problems.append(f"{path} {error}")
                continue
        elif isinstance(item, dict):
            before = len(problems)
            fields = _fields(path, item, _HOST_KEYS, problems)
            if len(problems) > before:
                continue
        if fields.get("host"):
            hosts[str(name)] = Host(**fields)
        else:
            problems.append(
                f'{path} must be a host, with or without a port, or {{"host": ..., "port": ..., "sslmode": ...}}'
            )
    if problems:
        raise SettingsError(problems)
    return hosts


class Cache(Private, frozen=True):
    """Where catalogs and credentials are stored for other processes.

    `host` is the store of this OS user on this host, at `path` or on memory-backed disk; `redis_url` the fleet's Redis or
    Valkey. `key` seals both; without it, Airflow's `[core] fernet_key` does, or a key file for the host store alone.
    """

    hidden = ("key",)

    host: bool = True
    path: str | None = None
    redis_url: RedisAddress | None = None
    key: tuple[str, ...] | None = None


def _path(raw: object) -> str:
    path = values.text(raw)
    if not path.startswith(("/", "~")):
        raise ValueError(f"must be an absolute path, not {path!r}")
    return path


_CACHE_KEYS: Mapping[str, Callable[[object], Any]] = {
    "host": values.boolean,
    "path": _path,
    "redis_url": _redis_url,
    "key": values.fernet_keys,
}


def _cache(raw: object) -> Cache:
    problems: list[str] = []
    fields = _fields("cache", values.mapping(raw), _CACHE_KEYS, problems)
    if problems:
        raise SettingsError(problems)
    return Cache(**fields)


def _audit(raw: object) -> str:
    value = values.text(raw)
    if value in AUDIT_STREAMS:
        return value
    if not value.startswith("/") or value.rpartition("/")[2] in ("", ".", ".."):
        raise ValueError(
            f"must be the absolute path of a file, {' or '.join(AUDIT_STREAMS)}, not"
            f" {value!r}{values.nearest(value, AUDIT_STREAMS)}"
        )
    return value


class Fallback(Private, frozen=True):
    """Another secrets backend, asked for what this one does not manage: the path of its class and its arguments."""

    hidden = ("kwargs",)

    class_path: str
    kwargs: Mapping[str, object] = {}


AUDIT_STREAMS = ("stdout", "log")
"""What the setting `audit` may name beside a file: standard output and Airflow's log."""

BACKEND_CLASS_PATHS = frozenset(
    {"redshift_secrets.RedshiftSecretsBackend", "redshift_secrets.backend.RedshiftSecretsBackend"}
)
_CLASS_PATH = r"[^\W\d]\w*(\.[^\W\d]\w*)+"
_FALLBACK_EXAMPLE = '{"backend": "a.module.ABackend", "backend_kwargs": {...}}'
_COMMON_MISTAKES = {"class": "backend", "kwargs": "backend_kwargs"}


def _backend(raw: object) -> str:
    if not isinstance(raw, str) or not re.fullmatch(_CLASS_PATH, raw.strip()):
        raise ValueError("must be the full path of a class, like a.module.ABackend")
    if raw.strip() in BACKEND_CLASS_PATHS:
        raise ValueError("is redshift-secrets itself: remove this entry")
    return raw.strip()


_FALLBACK_KEYS: Mapping[str, Callable[[object], Any]] = {"backend": _backend, "backend_kwargs": values.mapping}


def _fallbacks(raw: object) -> tuple[Fallback, ...]:
    """One backend or several, each an object or only the path of its class. `backend_kwargs` may hold secrets, so no message
    repeats them."""
    if isinstance(raw, str) and raw.lstrip()[:1] in ("[", "{"):
        raw = values.json_value(raw)
    problems: list[str] = []
    fallbacks: list[Fallback] = []
    for number, item in enumerate(raw if isinstance(raw, (list, tuple)) else [raw]):
        path = f"fallback[{number}]"
        entry = {"backend": item} if isinstance(item, str) else item
        if not isinstance(entry, dict):
            problems.append(f"{path} must be the path of a class, or a JSON object like {_FALLBACK_EXAMPLE}")
            continue
        misnamed = [name for name in _COMMON_MISTAKES if name in entry]
        problems += [
            f"{path}.{name}: write {_COMMON_MISTAKES[name]} instead of {name}, as in [secrets]" for name in misnamed
        ]
        fields = _fields(path, {k: v for k, v in entry.items() if k not in misnamed}, _FALLBACK_KEYS, problems)
        if "backend" in fields:
            fallbacks.append(Fallback(fields["backend"], fields.get("backend_kwargs", {})))
        elif entry.get("backend") is None and "class" not in misnamed:
            problems.append(f"{path} has no backend: write {_FALLBACK_EXAMPLE}")
    if problems:
        raise SettingsError(problems)
    return tuple(fallbacks)


class Settings(Private, frozen=True):
    """All settings, with their defaults; docs/contract.md, "Settings". Named as in the Amazon provider's backends where
    those have the same setting."""

    hidden = ("external_id", "assume_role_kwargs", "config", "extra")

    tag_prefix: str = "airflow:"
    regions: tuple[str, ...] = ()
    accounts: tuple[Account, ...] = ()
    warehouses: tuple[str, ...] = ("clusters", "workgroups")
    profile_name: str | None = None
    region_name: str | None = None
    role_arn: str | None = None
    external_id: str | None = None
    assume_role_kwargs: Mapping[str, Any] = {}
    endpoint_url: str | None = None
    verify: bool | str | None = None
    config: Mapping[str, Any] | None = None
    connections_lookup_pattern: re.Pattern[str] | None = None
    managed_conn_ids: re.Pattern[str] | None = None
    required_tags: Mapping[str, str] = {}
    allowed_accounts: tuple[str, ...] = ()
    on_conflict: str = "refuse"
    auth: str = "auto"
    db_user: str | None = None
    database: str | None = None
    db_groups: tuple[str, ...] = ()
    db_roles: tuple[str, ...] = ()
    auto_create: bool = False
    duration_seconds: int = 3600
    conn_type: str = "redshift"
    extra: Mapping[str, object] = {}
    sslmode: str = "verify-full"
    sslrootcert: str | None = None
    hosts: Mapping[str, Host] = {}
    allow_admin_secret: bool = False
    min_validity_seconds: int = 300
    catalog_ttl_seconds: int = 300
    catalog_max_stale_seconds: int = 86_400
    aws_timeout_seconds: int = 10
    cache: Cache = Cache()
    audit: str | None = None
    fallback: tuple[Fallback, ...] = ()

    @classmethod
    def from_kwargs(cls, kwargs: Mapping[str, object]) -> Settings:
        """Check all of `backend_kwargs` and return the settings.

        `None` means "not set", as in the Amazon provider. Raises `SettingsError` that lists every unknown name and
        every impossible value.
        """
        read: dict[str, Any] = {}
        invalid: set[str] = set()
        problems: list[str] = []
        for name, raw in kwargs.items():
            if name not in _READERS:
                problems.append(f"{name}: unknown setting{values.nearest(name, _READERS)}")
            elif raw is not None:
                try:
                    read[name] = _READERS[name](raw)
                except SettingsError as error:
                    invalid.add(name)
                    problems += error.problems
                except ValueError as error:
                    invalid.add(name)
                    problems.append(f"{name} {error}")
        settings = cls(**read)
        problems += _conflicts(settings, invalid)
        if problems:
            raise SettingsError(problems)
        return settings

    @property
    def default_identity(self) -> str:
        """The identity that a chain of roles begins with, as messages name it before AWS has said who it is."""
        return f"profile {self.profile_name}" if self.profile_name else "the default AWS identity of this process"

    def looks_up(self, conn_id: str) -> bool:
        """Whether a warehouse may claim this conn_id at all: both patterns match, where they are set, and Airflow could store
        one of this length."""
        lookup, managed = self.connections_lookup_pattern, self.managed_conn_ids
        return (
            len(conn_id) <= values.LONGEST_CONN_ID
            and (lookup is None or lookup.match(conn_id) is not None)
            and (managed is None or managed.match(conn_id) is not None)
        )

    def manages(self, conn_id: str) -> bool:
        """Whether this conn_id belongs to this backend, also where no warehouse claims it."""
        return self.managed_conn_ids is not None and self.looks_up(conn_id)


_seconds = values.whole_number

_READERS: Mapping[str, Callable[[object], Any]] = {
    "tag_prefix": _tag_prefix,
    "regions": values.listed(values.region),
    "accounts": _accounts,
    "warehouses": _warehouses,
    "profile_name": values.text,
    "region_name": values.region,
    "role_arn": values.role_arn,
    "external_id": values.external_id,
    "assume_role_kwargs": _assume_role_kwargs,
    "endpoint_url": _endpoint_url,
    "verify": _verify,
    "config": _config,
    "connections_lookup_pattern": values.pattern,
    "managed_conn_ids": values.pattern,
    "required_tags": _required_tags,
    "allowed_accounts": values.listed(values.account),
    "on_conflict": values.one_of("refuse", "oldest"),
    "auth": values.auth,
    "db_user": db_user.parse,
    "database": values.database,
    "db_groups": values.db_groups,
    "db_roles": values.db_roles,
    "auto_create": values.boolean,
    "duration_seconds": values.duration,
    "conn_type": values.conn_type,
    "extra": values.extra,
    "sslmode": values.sslmode,
    "sslrootcert": values.sslrootcert,
    "hosts": _hosts,
    "allow_admin_secret": values.boolean,
    "min_validity_seconds": _seconds(0, 3500),
    "catalog_ttl_seconds": _seconds(1, 86_400),
    "catalog_max_stale_seconds": _seconds(1, 30 * 86_400),
    "aws_timeout_seconds": _seconds(1, 300),
    "cache": _cache,
    "audit": _audit,
    "fallback": _fallbacks,
}
"""The reader of each setting; there are no others."""


def _conflicts(settings: Settings, invalid: set[str]) -> list[str]:
    """Return what is impossible of several settings together, as far as none of them is among the `invalid` ones."""
    problems = []
    if settings.external_id is not None and settings.role_arn is None and "role_arn" not in invalid:
        problems.append("external_id needs a role_arn: it is sent when that role is assumed")
    if settings.assume_role_kwargs and settings.role_arn is None and "role_arn" not in invalid:
        problems.append("assume_role_kwargs needs a role_arn: they are sent when that role is assumed")
    if settings.external_id is not None and "ExternalId" in settings.assume_role_kwargs:
        problems.append("external_id and assume_role_kwargs.ExternalId are the same: set one of them")
    if settings.min_validity_seconds >= settings.duration_seconds and not invalid & {
        "min_validity_seconds",
        "duration_seconds",
    }:
        problems.append(
            f"min_validity_seconds ({settings.min_validity_seconds}) must be less than duration_seconds"
            f" ({settings.duration_seconds}): no credential would ever be valid for long enough"
        )
    if settings.catalog_max_stale_seconds < settings.catalog_ttl_seconds and not invalid & {
        "catalog_max_stale_seconds",
        "catalog_ttl_seconds",
    }:
        problems.append(
            f"catalog_max_stale_seconds ({settings.catalog_max_stale_seconds}) must not be less than"
            f" catalog_ttl_seconds ({settings.catalog_ttl_seconds})"
        )
    if settings.sslrootcert == "system" and settings.sslmode != "verify-full" and "sslmode" not in invalid:
        problems.append(f"sslrootcert = system needs sslmode = verify-full: libpq refuses it with {settings.sslmode}")
    names = [name for name in settings.hosts if not name.startswith("arn:")]
    if names and (settings.accounts or len(settings.regions) > 1) and not invalid & {"accounts", "regions"}:
        problems.append(
            f"hosts names {', '.join(names)} without its ARN: in another region or account another warehouse may have that"
            " name, and would be looked for on the same host"
        )
    if settings.auth == "secret" and not settings.allow_admin_secret and "allow_admin_secret" not in invalid:
        problems.append("auth = secret logs in as the admin user: set allow_admin_secret = true if that is intended")
    return problems
