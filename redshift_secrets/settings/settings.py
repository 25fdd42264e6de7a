"""The settings: `backend_kwargs`, checked as a whole when Airflow starts.

Pure: a mapping in, `Settings` or one `SettingsError` with everything that is wrong out. Values may be texts, since
`AIRFLOW__SECRETS__BACKEND_KWARG__<NAME>` delivers nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from redshift_secrets.errors import SettingsError
from redshift_secrets.model import Private
from redshift_secrets.settings import db_user as db_users
from redshift_secrets.settings import values

_PREFIX = r"[\w+\-=._:/@][\w+\-=._:/@ ]{0,63}"


def _tag_prefix(raw: object) -> str:
    prefix = values.text(raw)
    if not re.fullmatch(_PREFIX, prefix) or prefix.lower().startswith("aws:"):
        raise ValueError(
            f"must be 1 to 64 of the characters AWS allows in a tag key and not begin with aws:, not {prefix!r}"
        )
    return prefix


def _private_text(raw: object) -> str:
    """A text that no message may repeat, whatever it is."""
    if not isinstance(raw, str) or not raw.strip():
        raise ValueError("must be a text that is not empty")
    return raw.strip()


def _url(raw: object) -> str:
    url = _private_text(raw)  # may carry a password
    if not re.fullmatch(r"https?://[^/\s@]+(/\S*)?", url):
        raise ValueError("must be a URL that begins with http:// or https:// and carries no user or password")
    return url


def _required_tags(raw: object) -> dict[str, str]:
    tags = values.mapping(raw)
    for key, value in tags.items():
        if not isinstance(value, str):
            raise ValueError(f"must give each tag key one text as its value; {key!r} has a {type(value).__name__}")
    return {key: str(value) for key, value in tags.items()}


class Account(Private, frozen=True):
    """A further AWS account: the role to assume in it, and the regions to look in (`None`: those of the settings)."""

    hidden = ("external_id",)

    role_arn: str
    external_id: str | None = None
    regions: tuple[str, ...] | None = None


_ACCOUNT_KEYS: Mapping[str, Callable[[object], Any]] = {
    "role_arn": values.role_arn,
    "external_id": _private_text,
    "regions": values.listed(values.region),
}


def _account(raw: object, where: str) -> Account:
    if not isinstance(raw, dict):
        raise ValueError(f'must hold JSON objects like {{"role_arn": "arn:aws:iam::..."}}; {where} is not one')
    known: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in _ACCOUNT_KEYS:
            raise ValueError(f"has in {where} the unknown name {key!r}{values.nearest(str(key), _ACCOUNT_KEYS)}")
        try:
            known[key] = _ACCOUNT_KEYS[key](value)
        except ValueError as error:
            raise ValueError(f"has in {where} a {key} that {error}") from None
    if "role_arn" not in known:
        raise ValueError(f"has no role_arn in {where}: say which role to assume there")
    return Account(**known)


def _accounts(raw: object) -> tuple[Account, ...]:
    raw = values.json_value(raw)
    if not isinstance(raw, (list, tuple)):
        raise ValueError("must be a JSON list of objects, each with a role_arn")
    accounts = tuple(_account(item, f"entry {number}") for number, item in enumerate(raw, start=1))
    roles = [account.role_arn for account in accounts]
    for role in roles:
        if roles.count(role) > 1:
            raise ValueError(f"names the role {role} twice: give it one entry with all its regions")
    return accounts


class Cache(Private, frozen=True):
    """Where what was found and minted is kept for other processes.

    `host` is the store of this OS user on this host, at `path` or where memory-backed storage is; `redis_url` the
    fleet's Redis or Valkey. `key` seals both; without one Airflow's `[core] fernet_key` does, or for the host's store
    alone a key file.
    """

    hidden = ("redis_url", "key")

    host: bool = True
    path: str | None = None
    redis_url: str | None = None
    key: tuple[str, ...] | None = None


_CACHE_KEYS: Mapping[str, Callable[[object], Any]] = {
    "host": values.boolean,
    "path": values.text,
    "redis_url": values.redis_url,
    "key": values.fernet_keys,
}


def _cache(raw: object) -> Cache:
    known: dict[str, Any] = {}
    problems = []
    for key, value in values.mapping(raw).items():
        if key not in _CACHE_KEYS:
            problems.append(f"has the unknown name {key!r}{values.nearest(key, _CACHE_KEYS)}")
        elif value is not None:
            try:
                known[key] = _CACHE_KEYS[key](value)
            except ValueError as error:
                problems.append(f"has a {key} that {error}")
    cache = Cache(**known)
    if cache.path is not None and not cache.path.startswith(("/", "~")):
        problems.append(f"has a path that must be absolute, not {cache.path!r}")
    if problems:
        raise ValueError("; it ".join(problems))
    return cache


class Fallback(Private, frozen=True):
    """Another secrets backend, asked for what is not ours: where its class is, and what it is constructed with."""

    hidden = ("kwargs",)

    class_path: str
    kwargs: Mapping[str, object] = {}


_OURSELVES = ("redshift_secrets.RedshiftSecretsBackend", "redshift_secrets.backend.RedshiftSecretsBackend")
_CLASS_PATH = r"[^\W\d]\w*(\.[^\W\d]\w*)+"


def _fallbacks(raw: object) -> tuple[Fallback, ...]:
    """One backend or several, each an object or only the path of its class; kwargs may hold secrets, so no message
    repeats them."""
    if isinstance(raw, str) and raw.lstrip()[:1] in ("[", "{"):
        raw = values.json_value(raw)
    entries = list(raw) if isinstance(raw, (list, tuple)) else [raw]
    return tuple(_one_fallback(entry, f"entry {number}") for number, entry in enumerate(entries, start=1))


def _one_fallback(raw: object, where: str) -> Fallback:
    entry = {"class": raw} if isinstance(raw, str) else raw
    if not isinstance(entry, dict):
        raise ValueError(
            f'must hold class paths or JSON objects like {{"class": "a.module.ABackend", "kwargs": {{...}}}}; {where} is'
            " neither"
        )
    for key in entry:
        if key not in ("class", "kwargs"):
            raise ValueError(f"has in {where} the unknown name {key!r}{values.nearest(str(key), ('class', 'kwargs'))}")
    path = entry.get("class")
    if not isinstance(path, str) or not re.fullmatch(_CLASS_PATH, path.strip()):
        raise ValueError(f"has in {where} no class that can be imported: give its full path, like a.module.ABackend")
    if path.strip() in _OURSELVES:
        raise ValueError(f"names redshift-secrets itself in {where}: remove it")
    kwargs = entry.get("kwargs")
    if kwargs is not None and not isinstance(kwargs, dict):
        raise ValueError(f"has in {where} kwargs that must be a JSON object, not a {type(kwargs).__name__}")
    return Fallback(path.strip(), kwargs or {})


class Settings(Private, frozen=True):
    """Section 7 of the design. Names are those of the Amazon provider's backends where it has the same thing."""

    hidden = ("external_id", "config", "extra")

    tag_prefix: str = "airflow:"
    regions: tuple[str, ...] = ()
    accounts: tuple[Account, ...] = ()
    profile_name: str | None = None
    region_name: str | None = None
    role_arn: str | None = None
    external_id: str | None = None
    endpoint_url: str | None = None
    config: Mapping[str, Any] | None = None
    connections_lookup_pattern: re.Pattern[str] | None = None
    required_tags: Mapping[str, str] = {}
    allowed_accounts: tuple[str, ...] = ()
    on_conflict: str = "refuse"
    auth: str = "auto"
    db_user: str | None = None
    database: str | None = None
    db_groups: tuple[str, ...] = ()
    auto_create: bool = False
    duration_seconds: int = 3600
    conn_type: str = "redshift"
    extra: Mapping[str, object] = {}
    allow_admin_secret: bool = False
    min_validity_seconds: int = 300
    catalog_ttl_seconds: int = 300
    catalog_max_stale_seconds: int = 86_400
    aws_timeout_seconds: int = 10
    cache: Cache = Cache()
    fallback: tuple[Fallback, ...] = ()

    @classmethod
    def from_kwargs(cls, kwargs: Mapping[str, object]) -> Settings:
        """Check all of `backend_kwargs` and return the settings.

        `None` means "not set", as in the Amazon provider. Raises `SettingsError` that lists every unknown name and
        every impossible value.
        """
        read: dict[str, Any] = {}
        unread: set[str] = set()
        problems: list[str] = []
        for name, raw in kwargs.items():
            if name not in _READERS:
                problems.append(f"{name}: unknown setting{values.nearest(name, _READERS)}")
            elif raw is not None:
                try:
                    read[name] = _READERS[name](raw)
                except ValueError as error:
                    unread.add(name)
                    problems.append(f"{name} {error}")
        # What depends on several settings is only looked at where each of them can be read.
        settings = cls(**read)
        problems += _impossible_together(settings, unread)
        if problems:
            raise SettingsError(problems)
        return settings

    def matches(self, conn_id: str) -> bool:
        """Whether `connections_lookup_pattern`, where there is one, lets this conn_id through."""
        return self.connections_lookup_pattern is None or self.connections_lookup_pattern.match(conn_id) is not None


_seconds = values.whole_number

_READERS: Mapping[str, Callable[[object], Any]] = {
    "tag_prefix": _tag_prefix,
    "regions": values.listed(values.region),
    "accounts": _accounts,
    "profile_name": values.text,
    "region_name": values.region,
    "role_arn": values.role_arn,
    "external_id": _private_text,
    "endpoint_url": _url,
    "config": values.mapping,
    "connections_lookup_pattern": values.pattern,
    "required_tags": _required_tags,
    "allowed_accounts": values.listed(values.account),
    "on_conflict": values.one_of("refuse", "oldest"),
    "auth": values.auth,
    "db_user": db_users.read,
    "database": values.database,
    "db_groups": values.db_groups,
    "auto_create": values.boolean,
    "duration_seconds": values.duration,
    "conn_type": values.conn_type,
    "extra": values.extra,
    "allow_admin_secret": values.boolean,
    "min_validity_seconds": _seconds(0, 3500),
    "catalog_ttl_seconds": _seconds(1, 86_400),
    "catalog_max_stale_seconds": _seconds(1, 30 * 86_400),
    "aws_timeout_seconds": _seconds(1, 300),
    "cache": _cache,
    "fallback": _fallbacks,
}
"""How each setting is read; what is not here cannot be set."""


def _impossible_together(settings: Settings, unread: set[str]) -> list[str]:
    problems = []
    if settings.external_id is not None and settings.role_arn is None and "role_arn" not in unread:
        problems.append("external_id needs a role_arn: it is sent when that role is assumed")
    if settings.min_validity_seconds >= settings.duration_seconds and not unread & {
        "min_validity_seconds",
        "duration_seconds",
    }:
        problems.append(
            f"min_validity_seconds ({settings.min_validity_seconds}) must be less than duration_seconds"
            f" ({settings.duration_seconds}): no credential would ever live long enough"
        )
    if settings.catalog_max_stale_seconds < settings.catalog_ttl_seconds and not unread & {
        "catalog_max_stale_seconds",
        "catalog_ttl_seconds",
    }:
        problems.append(
            f"catalog_max_stale_seconds ({settings.catalog_max_stale_seconds}) must not be less than"
            f" catalog_ttl_seconds ({settings.catalog_ttl_seconds})"
        )
    if settings.auth == "secret" and not settings.allow_admin_secret and "allow_admin_secret" not in unread:
        problems.append("auth = secret logs in as the admin user: set allow_admin_secret = true if that is meant")
    return problems
