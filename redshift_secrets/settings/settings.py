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
from redshift_secrets.settings import db_user, values
from redshift_secrets.settings.records import Account, Cache, Fallback, Host, accounts, cache, fallbacks, hosts

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


AUDIT_STREAMS = ("stdout", "log")
"""What the setting `audit` may name beside a file: standard output and Airflow's log."""


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
    "accounts": accounts,
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
    "hosts": hosts,
    "allow_admin_secret": values.boolean,
    "min_validity_seconds": _seconds(0, 3500),
    "catalog_ttl_seconds": _seconds(1, 86_400),
    "catalog_max_stale_seconds": _seconds(1, 30 * 86_400),
    "aws_timeout_seconds": _seconds(1, 300),
    "cache": cache,
    "audit": _audit,
    "fallback": fallbacks,
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
