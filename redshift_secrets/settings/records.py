"""The settings that are records of their own: accounts, hosts, the cache and fallbacks.

Each reader takes what `backend_kwargs` has and raises one `SettingsError` with everything that is wrong, each problem with its
path: `accounts[0].role_arn`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from redshift_secrets.errors import SettingsError
from redshift_secrets.model import Private
from redshift_secrets.settings import values

if TYPE_CHECKING:
    from redshift_secrets.settings.redis_url import RedisAddress


# Few sites set it, so its module is not loaded in every Airflow process.
def _redis_url(raw: object) -> RedisAddress:
    from redshift_secrets.settings import redis_url

    return redis_url.parse(raw)


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


def accounts(raw: object) -> tuple[Account, ...]:
    """Further accounts, in their order; no role twice."""
    raw = values.json_value(raw)
    if not isinstance(raw, (list, tuple)):
        raise ValueError("must be a JSON list of objects, each with a role_arn")
    problems: list[str] = []
    found: list[Account] = []
    for number, item in enumerate(raw):
        path = f"accounts[{number}]"
        if not isinstance(item, dict):
            problems.append(f'{path} must be a JSON object like {{"role_arn": "arn:aws:iam::..."}}')
            continue
        fields = _fields(path, item, _ACCOUNT_KEYS, problems)
        if "role_arn" in fields:
            found.append(Account(**fields))
        elif item.get("role_arn") is None:
            problems.append(f"{path} has no role_arn: name the role to assume there")
    roles = [account.role_arn for account in found]
    for role in dict.fromkeys(roles):
        if roles.count(role) > 1:
            problems.append(f"accounts names the role {role} twice: give it one entry with all its regions")
    if problems:
        raise SettingsError(problems)
    return tuple(found)


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


def hosts(raw: object) -> dict[str, Host]:
    """Hosts by the identifier or the ARN of a warehouse."""
    problems: list[str] = []
    found: dict[str, Host] = {}
    for name, item in values.mapping(raw).items():
        path = f"hosts.{name}"
        if not re.fullmatch(f"{_WAREHOUSE}|{_WAREHOUSE_ARN}", str(name)):
            problems.append(f"{path} must be the identifier or the ARN of a cluster or workgroup")
            continue
        fields: dict[str, Any] = {}
        if isinstance(item, str) and not re.search(r"[/@?#]", item):
            if item.count(":") > 1 and "[" not in item:
                problems.append(f"{path} has an IPv6 address: put it in brackets, as in [2001:db8::5]:5439")
                continue
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
            found[str(name)] = Host(**fields)
        else:
            problems.append(
                f'{path} must be a host, with or without a port, or {{"host": ..., "port": ..., "sslmode": ...}}'
            )
    if problems:
        raise SettingsError(problems)
    return found


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


def cache(raw: object) -> Cache:
    """Where to cache; what is left out has its default."""
    problems: list[str] = []
    fields = _fields("cache", values.mapping(raw), _CACHE_KEYS, problems)
    if problems:
        raise SettingsError(problems)
    return Cache(**fields)


class Fallback(Private, frozen=True):
    """Another secrets backend, asked for what this one does not manage: the path of its class and its arguments."""

    hidden = ("kwargs",)

    class_path: str
    kwargs: Mapping[str, object] = {}


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


def fallbacks(raw: object) -> tuple[Fallback, ...]:
    """One backend or several, each an object or only the path of its class. `backend_kwargs` may hold secrets, so no message
    repeats them."""
    if isinstance(raw, str) and raw.lstrip()[:1] in ("[", "{"):
        raw = values.json_value(raw)
    problems: list[str] = []
    found: list[Fallback] = []
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
            found.append(Fallback(fields["backend"], fields.get("backend_kwargs", {})))
        elif entry.get("backend") is None and "class" not in misnamed:
            problems.append(f"{path} has no backend: write {_FALLBACK_EXAMPLE}")
    if problems:
        raise SettingsError(problems)
    return tuple(found)
