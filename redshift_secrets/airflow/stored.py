"""The connections that people have stored: in environment variables, in files and texts. Those in Airflow's metadata database are read
in `metadata_database.py`.

Whoever asks for no passwords gets none: a text loses its password before Airflow parses it. That is also what makes it quick: Airflow
compiles one pattern of all passwords at each one that it sees.
https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from msgspec import Struct
from msgspec.structs import replace

from redshift_secrets.errors import RedshiftSecretsError
from redshift_secrets.lookup.tags import EXTRA_KEYS
from redshift_secrets.model import Private

PlaceKind = Literal["secret", "parameter", "environment", "database", "file"]

KEPT_EXTRA = frozenset().union(
    *EXTRA_KEYS.values(),
    "auto_create aws_conn_id cluster-identifier cluster_identifier database db_groups db_user dbname group_federation host iam"
    " is_serverless options port profile redshift redshift-serverless region serverless_acct_id serverless_work_group ssl sslrootcert"
    " user workgroup-name workgroup_name".split(),
)
"""Keys of `extra` whose values say where and how a connection logs in, and are no secrets. Of any other only the name is kept."""

_ENVIRONMENT_PREFIX = "AIRFLOW_CONN_"
_WORDS = {
    "login": ("login", "user", "username", "user_name"),
    "password": ("password", "pass", "key"),
    "host": ("host", "remote_host", "server"),
    "port": ("port",),
    "schema": ("database", "schema"),
    "conn_type": ("conn_type", "conn_id", "connection_type", "engine"),
    "extra": ("extra",),
}
"""What the fields of a secret may be called:
https://airflow.apache.org/docs/apache-airflow-providers-amazon/stable/secrets-backends/aws-secrets-manager.html"""
_PASSWORD = re.compile(r"(?s)([^:/?#]*://(?:[^:/?#]+://)?[^/?#:]*):([^/?#]*)@")
_SIGN_AFTER_HOST = re.compile(r"(?s)[^:/?#]*://(?:[^:/?#]+://|(?![^:/?#]+://))[^/?#]*[/?#].*@")
"""A password that is not quoted: what follows a slash in it would be taken for a database, and shown."""

_TYPE_WITH_UNDERSCORE = re.compile(r"(redshift|postgres)[a-z0-9+.-]*_[a-z0-9_+.-]*(?=://)", re.IGNORECASE)


class StoredError(RedshiftSecretsError):
    """A place where connections are stored cannot be read."""


class ExtraError(ValueError):
    """What a connection of some type has as `extra` is nothing that a hook can use."""

    def __init__(self, conn_type: str) -> None:
        super().__init__("its extra is not a JSON object")
        self.conn_type = conn_type


class Place(Struct, frozen=True):
    """Where a connection is stored: the name of the secret, parameter, variable or file. `region` is that of AWS."""

    kind: PlaceKind
    name: str = ""
    region: str | None = None

    def __str__(self) -> str:
        if self.kind == "database":
            return "metadata database"
        what = "variable" if self.kind == "environment" else self.kind
        return f"{what} {self.name}"


class StoredConnection(Private, frozen=True):
    """A connection as it is stored, under Airflow's names.

    `extra` has `None` for values that may be secret, unless passwords were asked for. `problem` says why it cannot be read.
    """

    hidden = ("password", "extra")

    conn_id: str
    place: Place
    conn_type: str = ""
    host: str = ""
    port: int | None = None
    schema: str = ""
    login: str = ""
    extra: Mapping[str, Any] = {}
    has_password: bool = False
    team: str | None = None
    password: str | None = None
    problem: str | None = None


def from_text(
    conn_id: str, text: str, place: Place, *, passwords: bool = False, words: Mapping[str, Iterable[str]] | None = None
) -> StoredConnection:
    """Return the connection that a URI or a JSON object describes; no message repeats it.

    `words` says what else its fields may be called, by their names.
    """
    try:
        if text.strip().startswith("{"):
            return from_fields(conn_id, json.loads(text), place, passwords=passwords, words=words)
        return _from_uri(conn_id, text.strip(), place, passwords)
    except ExtraError as error:
        return StoredConnection(conn_id, place, error.conn_type, problem=f"Airflow cannot read it: {error}")
    except Exception:  # whatever Airflow raises, its text may repeat a part of the password
        problem = "Airflow cannot read it: it is neither a connection URI nor a JSON object with a connection's fields"
        return StoredConnection(conn_id, place, problem=problem)


def from_fields(
    conn_id: str,
    fields: Mapping[str, Any],
    place: Place,
    *,
    passwords: bool = False,
    words: Mapping[str, Iterable[str]] | None = None,
    team: str | None = None,
) -> StoredConnection:
    """Return the connection with these fields; raises `ExtraError`, or another `ValueError`."""
    if words is not None:
        known = {name: [*own, *words.get(name, ())] for name, own in _WORDS.items()}
        fields = {name: next((fields[key] for key in fields if key in known[name]), None) for name in known}
    conn_type = _conn_type(str(fields.get("conn_type") or ""))
    extra = fields.get("extra") or fields.get("extra_dejson") or {}
    if isinstance(extra, str):
        try:
            extra = json.loads(extra) if extra.strip() else {}
        except (ValueError, RecursionError):
            raise ExtraError(conn_type) from None  # a parser's message quotes it
    if not isinstance(extra, Mapping):
        raise ExtraError(conn_type)
    password = fields.get("password")
    port = fields.get("port")
    return StoredConnection(
        conn_id=conn_id,
        place=place,
        conn_type=conn_type,
        host=str(fields.get("host") or ""),
        port=int(port) if port else None,
        schema=str(fields.get("schema") or ""),
        login=str(fields.get("login") or ""),
        extra=dict(extra) if passwords else {key: extra[key] if key in KEPT_EXTRA else None for key in extra},
        has_password=bool(password) or bool(extra.get("password")),
        team=team,
        password=str(password) if passwords and password else None,
    )


def environment_connections(
    environ: Mapping[str, str], *, passwords: bool = False, teams: bool = False
) -> list[StoredConnection]:
    """Return the connections in variables `AIRFLOW_CONN_<CONN_ID>`, whose conn_ids come in lower case; with `teams`, also those in
    `AIRFLOW_CONN__<TEAM>___<CONN_ID>`."""
    found = []
    for name in sorted(environ):
        if not name.startswith(_ENVIRONMENT_PREFIX) or not environ[name] or name == _ENVIRONMENT_PREFIX:
            continue
        conn_id, team = name[len(_ENVIRONMENT_PREFIX) :].lower(), None
        if teams and conn_id.startswith("_") and "___" in conn_id:
            team, _, conn_id = conn_id[1:].partition("___")
        stored = from_text(conn_id, environ[name], Place("environment", name), passwords=passwords)
        found.append(replace(stored, team=team))
    return found


def file_connections(path: Path, *, passwords: bool = False) -> list[StoredConnection]:
    """Return the connections in a file of `airflow connections export`: JSON, YAML or `.env`. Raises `StoredError`."""
    try:
        entries = list(_entries(path, path.read_text(encoding="utf-8")))
    except OSError as error:
        raise StoredError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        # No parser's message: it quotes the line.
        raise StoredError(
            f"{path} is no file of connections: it must be JSON, YAML or .env, as `airflow connections export` writes them"
        ) from None
    return [_from_entry(str(conn_id), value, Place("file", str(path)), passwords) for conn_id, value in entries]


def _entries(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    suffix = path.suffix.lower()
    if suffix == ".json" or (suffix not in (".yaml", ".yml", ".env") and text.lstrip().startswith("{")):
        loaded = json.loads(text)
    elif suffix in (".yaml", ".yml"):
        import yaml

        try:
            loaded = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError from None
    else:
        for line in text.splitlines():
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, equals, value = line.strip().removeprefix("export ").partition("=")
            if not equals or not name:
                raise ValueError
            if name.startswith(_ENVIRONMENT_PREFIX):
                name = name[len(_ENVIRONMENT_PREFIX) :].lower()
            yield name, _unquoted(value)
        return
    if not isinstance(loaded, dict):
        raise ValueError
    yield from loaded.items()


def _unquoted(value: str) -> str:
    """As a shell reads it, where it begins with a quote."""
    with suppress(ValueError):
        if value[:1] in ("'", '"') and len(words := shlex.split(value)) == 1:
            return words[0]
    return value


def _from_entry(conn_id: str, value: Any, place: Place, passwords: bool) -> StoredConnection:
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(value, str):
        return from_text(conn_id, value, place, passwords=passwords)
    try:
        return from_fields(conn_id, value, place, passwords=passwords)
    except ExtraError as error:
        return StoredConnection(conn_id, place, error.conn_type, problem=str(error))
    except Exception:  # one odd entry leaves the others
        return StoredConnection(conn_id, place, problem="it is no object with a connection's fields")


def _from_uri(conn_id: str, uri: str, place: Place, passwords: bool) -> StoredConnection:
    if uri[:1] in ("'", '"'):
        problem = "it begins with a quote, which Airflow takes for a part of it: remove the quotes around it"
        return StoredConnection(conn_id, place, problem=problem)
    if _SIGN_AFTER_HOST.match(uri):
        problem = "its URI has an @ after the host: in a URI a password, and every other value, must be quoted (%40)"
        return StoredConnection(conn_id, place, problem=problem)
    if odd := _TYPE_WITH_UNDERSCORE.match(uri):
        problem = f"its URI begins with {odd[0]}, in which Airflow finds no type, since that has an underscore: begin with redshift://"
        return StoredConnection(conn_id, place, problem=problem)
    found = _PASSWORD.match(uri)
    password = None if found is None else found[2]
    bare = uri if found is None else f"{found[1]}@{uri[found.end() :]}"
    connection = importlib.import_module("airflow.models").Connection(uri=bare)
    fields = {name: getattr(connection, name) for name in ("conn_type", "host", "port", "schema", "login", "extra")}
    return from_fields(conn_id, {**fields, "password": unquote(password or "")}, place, passwords=passwords)


def _conn_type(name: str) -> str:
    """As `Connection._normalize_conn_type` of Airflow."""
    return "postgres" if name == "postgresql" else name.replace("-", "_")
