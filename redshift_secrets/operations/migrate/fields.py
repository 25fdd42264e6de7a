"""The tags with which a warehouse would serve what is stored, and what would be different. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from redshift_secrets.airflow.stored import StoredConnection
from redshift_secrets.lookup.spec import build_spec
from redshift_secrets.lookup.tags import EXTRA_KEYS, MARKER
from redshift_secrets.model import ConnectionSpec, reveal
from redshift_secrets.operations.inspect import login_user
from redshift_secrets.operations.migrate.hooks import PORT, as_read_by_its_hook, is_true
from redshift_secrets.operations.migrate.matching import Endpoint, normal_host
from redshift_secrets.settings import Settings, values

_OF_IAM = frozenset(
    "auto_create cluster_identifier database db_groups db_user group_federation iam is_serverless redshift region serverless_acct_id"
    " serverless_token_duration_seconds serverless_work_group ssl sslmode workgroup_name".split()
)
"""Keys of `extra` that say what the fields of tags say, or what AWS knows."""
_OF_CALLER = (
    "profile",
    "aws_conn_id",
    "auth_profile",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "role_arn",
)
"""Keys of `extra` that say as whom the driver calls AWS."""


class Wanted(Struct, frozen=True):
    """Fields of tags by their names after the prefix, what would be different all the same, and what cannot be had and why."""

    fields: Mapping[str, str]
    differences: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()


def wanted_fields(stored: StoredConnection, endpoint: Endpoint, settings: Settings) -> Wanted:
    """Return what tags have to say for this warehouse to serve the same, beyond what they and the settings say already."""
    found = _Fields(stored, endpoint, settings)
    found.collect()
    return Wanted(found.fields, tuple(found.differences), tuple(dict.fromkeys(found.refusals)))


def base_spec(stored: StoredConnection, endpoint: Endpoint, settings: Settings) -> ConnectionSpec:
    """Return what would be served if the warehouse claimed the conn_id, and its tags said no more than they do."""
    warehouse, marker = endpoint.warehouse, settings.tag_prefix + MARKER
    claimed = warehouse.tags.get(marker, "").split()
    conn_ids = claimed if stored.conn_id in claimed else [*claimed, stored.conn_id]
    tagged = replace(warehouse, tags={**warehouse.tags, marker: " ".join(conn_ids)})
    return build_spec(tagged, stored.conn_id, settings)


class _Fields:
    def __init__(self, stored: StoredConnection, endpoint: Endpoint, settings: Settings) -> None:
        self._typed_in_as = stored.conn_type
        stored = as_read_by_its_hook(stored)
        self._stored, self._endpoint, self._settings = stored, endpoint, settings
        self._extra: Mapping[str, Any] = stored.extra
        self._base = base_spec(stored, endpoint, settings)
        self._iam = is_true(self._extra.get("iam"))
        self.fields: dict[str, str] = {}
        self.differences: list[str] = []
        self.refusals: list[str] = []

    def collect(self) -> None:
        self._ids()
        self._address()
        if self._stored.conn_type != self._base.conn_type:
            self.fields["conn-type"] = self._stored.conn_type
        if self._typed_in_as != self._stored.conn_type:
            self.differences.append(f"type {self._typed_in_as} becomes {self._stored.conn_type}")
        self._database()
        if self._endpoint.warehouse.kind == "cluster":
            self._user_of_cluster()
        else:
            self._user_of_workgroup()
        self._groups()
        self._tls()
        for key in self._extra:
            if key not in _OF_IAM:
                self._key(key)
        added = [key for key in reveal(self._settings.extra) if key not in self._extra]
        self.differences += [f"extra key {key!r} is added by the setting extra" for key in added]
        if self._stored.team and self._stored.team.lower() != self._base.team:
            self.fields["team"] = self._stored.team

    def _set(self, name: str, value: str, known: object, read: Callable[[object], object], what: str) -> None:
        """Have a tag say `value`, where `known` is not that already; `what` it is called where no tag can."""
        try:
            if read(value) != known:
                values.tag_value(value)
                self.fields[name] = value
        except ValueError as error:
            self.refusals.append(f"{what} {error}")

    def _ids(self) -> None:
        conn_id, settings = self._stored.conn_id, self._settings
        try:
            if values.conn_id(conn_id) != conn_id:
                raise ValueError(f"must not begin or end with a space, as {conn_id!r} does")
        except ValueError as error:
            self.refusals.append(f"its conn_id {error}: store it under such a name first")
        lookup = settings.connections_lookup_pattern
        if lookup is not None and not lookup.match(conn_id):
            self.refusals.append("its conn_id does not match connections_lookup_pattern, so it is never looked up here")

    def _address(self) -> None:
        endpoint, host = self._endpoint, normal_host(self._stored.host)
        if not endpoint.host:  # AWS gives it none yet
            return
        if endpoint.name != "own" and self._base.address != (endpoint.host, endpoint.port):
            self.fields["endpoint"] = endpoint.name
        if host and host != normal_host(endpoint.host):
            self.differences.append(f"host {host} becomes {endpoint.host}")
        port = self._stored.port or PORT
        if port != endpoint.port and (host or self._stored.port):  # without both, the driver asks AWS for them
            self.differences.append(f"port {port} becomes {endpoint.port}")

    def _database(self) -> None:
        name = self._stored.schema.strip()
        if name:
            self._set("database", name, self._base.database, values.database, "its database")
        else:
            self.differences.append(
                f"it names no database, and will be in {self._base.database or 'one that is not known'}"
            )

    def _user(self) -> str:
        return str((self._iam and self._extra.get("db_user")) or self._stored.login).strip()

    def _user_of_cluster(self) -> None:
        user, base = self._user(), self._base
        if self._iam and (is_true(self._extra.get("group_federation")) or user.upper().startswith("IAMR:")):
            if base.auth != "iam" or base.session_role_arn is not None:
                self.fields["auth"] = "iam"
            return
        if not user:
            self.differences.append(f"it names no user, and will log in as {login_user(base)}")
            return
        bare = user.partition(":")[2] if user.upper().startswith(("IAM:", "IAMA:")) else user
        name = bare.lower()
        if name != bare:
            self.differences.append(f"user {bare} becomes {name}: AWS takes user names in lower case")
        known = base.db_user if base.auth == "db-user" else None
        self._set("db-user", name, known, values.db_user, "its user")
        if "db-user" in self.fields and self._settings.auth not in ("auto", "db-user"):
            self.fields["auth"] = "db-user"
        if self._iam and is_true(self._extra.get("auto_create")) and not base.auto_create:
            self.fields["auto-create"] = "true"

    def _user_of_workgroup(self) -> None:
        user, base = self._user(), self._base
        if not self._iam and not user:
            self.differences.append(f"it names no user, and will log in as {login_user(base)}")
        elif self._iam or not self._stored.has_password:
            if login_user(base) != "(IAM identity)":
                self.differences.append(f"it logs in as the IAM identity, and will as {login_user(base)}")
        elif not (base.warehouse.role_arn or self._settings.role_arn):
            self.refusals.append(
                f"Serverless takes the user {user} as a session tag of an assumed role alone, and no role is configured for account"
                f" {base.warehouse.account}: set role_arn to one there whose trust policy allows sts:TagSession. Or tag it by"
                " hand, and it logs in as the IAM identity"
            )
        else:
            known = base.db_user if base.session_role_arn is not None else None
            self._set("db-user", user.lower(), known, values.db_user, "its user")

    def _groups(self) -> None:
        groups, base = self._extra.get("db_groups"), self._base
        if base.warehouse.kind == "workgroup":
            if base.db_roles:
                self.differences.append(f"it will have the roles {' '.join(base.db_roles)}, which are a default here")
        elif self._iam and groups:
            try:
                names = values.db_groups(groups)
            except ValueError as error:
                self.refusals.append(f"its db_groups {error}")
            else:
                self._set("db-groups", " ".join(names), base.db_groups, values.db_groups, "its db_groups")
        elif base.db_groups:
            self.differences.append(f"it will join the groups {' '.join(base.db_groups)}, which are a default here")

    def _tls(self) -> None:
        mode, known = str(self._extra.get("sslmode") or "").strip().lower(), str(self._base.extra["sslmode"])
        if self._extra.get("ssl") is not None and not is_true(self._extra["ssl"]):
            mode = "disable"
        if mode not in values.SSL_MODES:
            if mode:
                self.differences.append(f"sslmode {mode} becomes {known}")
            return
        strength = values.SSL_MODES.index
        if strength(mode) > strength(known):
            self.fields["extra.sslmode"] = mode
        elif strength(mode) < strength(known):
            self.differences.append(f"sslmode {mode} becomes {known}")

    def _key(self, key: str) -> None:
        value = self._extra[key]
        of_site = reveal(self._settings.extra)
        if key in of_site and value is not None and of_site[key] == value:
            return
        if key in _OF_CALLER:
            what = f"{key} {value}" if key in ("profile", "aws_conn_id") and value else key
            self.differences.append(f"{what} in extra is not used: this backend calls AWS as its own caller")
            return
        if key == "sslrootcert":
            self.differences.append(
                "sslrootcert in extra is not used: the setting sslrootcert names one for all connections"
            )
            return
        if key in EXTRA_KEYS[self._stored.conn_type]:
            if value is None:  # every driver's default
                return
            text = str(value).lower() if isinstance(value, bool) else str(value)
            if self._is_read_as(value, values.scalar(text)) and _is_tag_value(text):
                if key not in self._base.extra or self._base.extra[key] != value:
                    self.fields[f"extra.{key}"] = text
                return
            self.differences.append(f"extra key {key!r} is not carried over: no tag can hold its value")
            return
        self.differences.append(f"extra key {key!r} is not carried over: {' '.join(_who_may_set(key))}")

    def _is_read_as(self, value: object, by_tag: object) -> bool:
        """Whether a driver takes what a tag gives for what is stored."""
        if not isinstance(value, (str, int)):
            return False
        # All values of a URI are texts, and libpq takes numbers for texts.
        as_text = self._stored.conn_type == "postgres" and type(by_tag) is int and str(by_tag) == value
        return by_tag == value or as_text


def _is_tag_value(text: str) -> bool:
    try:
        values.tag_value(text)
    except ValueError:
        return False
    return True


def _who_may_set(key: str) -> Iterator[str]:
    yield "no tag may set it;"
    try:
        values.extra_key(key)
        yield "the setting extra can, for all connections"
    except ValueError:
        yield "nor may the setting extra"
