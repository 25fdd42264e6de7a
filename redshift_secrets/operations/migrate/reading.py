"""Reads the stored connections of a site from every place where they may be."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from redshift_secrets.airflow import configuration, metadata_database
from redshift_secrets.airflow.stored import (
    Place,
    StoredConnection,
    StoredError,
    environment_connections,
    file_connections,
    from_text,
)
from redshift_secrets.errors import RedshiftSecretsError
from redshift_secrets.model import Private, reveal
from redshift_secrets.operations.running import Call, Runner
from redshift_secrets.settings import Settings, values

SourceKind = Literal["secrets-manager", "parameter-store", "environment", "database", "file"]

_PREFIX = "airflow/connections"
"""That of the Amazon provider's backends."""
_FALLBACKS: Mapping[str, SourceKind] = {
    "SecretsManagerBackend": "secrets-manager",
    "SystemsManagerParameterStoreBackend": "parameter-store",
    "LocalFilesystemBackend": "file",
}
_ORDER: Sequence[SourceKind] = ("secrets-manager", "parameter-store", "environment", "database", "file")
"""Airflow asks its secrets backend first, then the environment, then the metadata database. An exported file is a copy."""
_DATABASE_SECONDS = 15.0
_OF_AWS = "region_name profile_name role_arn external_id assume_role_kwargs endpoint_url verify config aws_timeout_seconds".split()


class Source(Private, frozen=True):
    """A place to read from: the prefix of secrets or parameters, the path of a file, and the arguments of the backend that has it."""

    hidden = ("kwargs",)

    kind: SourceKind
    name: str = ""
    kwargs: Mapping[str, Any] = {}

    def __str__(self) -> str:
        if self.kind in ("database", "environment"):
            return "the metadata database" if self.kind == "database" else "the environment"
        if self.kind == "file":
            return f"the file {self.name}"
        service = "Secrets Manager" if self.kind == "secrets-manager" else "Parameter Store"
        return f"{service} under {self.name or '/'}"


class StoredUnder(Struct, frozen=True):
    """Everything that is stored under one conn_id, for one team: first what Airflow uses."""

    conn_id: str
    entries: tuple[StoredConnection, ...]

    @property
    def used(self) -> StoredConnection:
        """The one that Airflow uses while no tag claims the conn_id."""
        return self.entries[0]


class Stored(Struct, frozen=True):
    """What was read: each conn_id, how many connections each source has, and what could not be read and why."""

    conn_ids: tuple[StoredUnder, ...]
    counts: Mapping[str, int]
    failures: tuple[str, ...]


def sources(names: Sequence[str], settings: Settings) -> list[Source]:
    """Return the sources with these names, or those that this site's Airflow asks; raises `StoredError`.

    A name is `database`, `environment`, `secrets-manager` or `parameter-store`, the last two with `:PREFIX` if it is not the
    Amazon provider's, or else the path of a file.
    """
    configured = _configured(settings)
    if not names:
        return [*configured, Source("environment"), Source("database")]
    found = []
    for name in names:
        kind, _, prefix = name.partition(":")
        if kind in ("secrets-manager", "parameter-store"):
            same = [each for each in configured if each.kind == kind and prefix in ("", each.name)]
            found += same or [Source(kind, prefix or _PREFIX)]  # type: ignore[arg-type]  # one of the two
        elif name in ("environment", "database"):
            found.append(Source(name))  # type: ignore[arg-type]
        elif Path(name).is_file():
            found.append(Source("file", name))
        else:
            hint = values.nearest(kind, _ORDER)
            raise StoredError(
                f"--from must be database, environment, secrets-manager[:PREFIX], parameter-store[:PREFIX] or a file, not {name!r}{hint}"
            )
    return sorted(found, key=lambda source: _ORDER.index(source.kind))


def read_stored(
    settings: Settings,
    found: Sequence[Source],
    environ: Mapping[str, str],
    conn_ids: Sequence[str] = (),
    *,
    passwords: bool = False,
) -> Stored:
    """Return the connections that these sources have, all or those of some conn_ids; passwords only where they are asked for."""
    entries: list[StoredConnection] = []
    counts: dict[str, int] = {}
    failures: list[str] = []
    folded = {conn_id.lower() for conn_id in conn_ids}

    def wanted(conn_id: str) -> bool:
        return not conn_ids or conn_id in conn_ids

    for source in found:
        try:
            read = _read(source, settings, environ, wanted, list(conn_ids) or None, passwords)
        except RedshiftSecretsError as error:
            failures.append(str(error))
            continue
        if source.kind == "environment" and conn_ids:
            read = [each for each in read if each.conn_id in folded]
        else:
            read = [each for each in read if wanted(each.conn_id)]
        counts[str(source)] = len(read)
        entries += read
    return Stored(_grouped(entries, conn_ids), counts, tuple(failures))


def _read(
    source: Source,
    settings: Settings,
    environ: Mapping[str, str],
    wanted: Callable[[str], bool],
    conn_ids: Sequence[str] | None,
    passwords: bool,
) -> list[StoredConnection]:
    if source.kind == "environment":
        return environment_connections(environ, passwords=passwords, teams=configuration.has_teams())
    if source.kind == "database":
        return _from_database(conn_ids, passwords)
    if source.kind == "file":
        return file_connections(Path(source.name), passwords=passwords)
    return _from_aws(source, settings, wanted, passwords)


def _from_database(conn_ids: Sequence[str] | None, passwords: bool) -> list[StoredConnection]:
    read = functools.partial(metadata_database.database_connections, conn_ids, passwords=passwords)
    found = Runner(_DATABASE_SECONDS).begin(Call(metadata_database.database(), read)).result()
    if isinstance(found, RedshiftSecretsError):
        raise found
    return list(found)


def _from_aws(
    source: Source, settings: Settings, wanted: Callable[[str], bool], passwords: bool
) -> list[StoredConnection]:
    from redshift_secrets.aws.stored import StoredTexts  # loads boto3

    kwargs = reveal(source.kwargs)
    if kwargs:  # a backend of its own, which is called as these say
        settings = Settings.from_kwargs({name: kwargs[name] for name in _OF_AWS if name in kwargs})
    aws = StoredTexts(settings)
    is_secret = source.kind == "secrets-manager"
    texts = (
        aws.secrets(source.name, str(kwargs.get("sep", "/")), wanted)
        if is_secret
        else aws.parameters(source.name, wanted)
    )
    words = dict(kwargs.get("extra_conn_words") or {})
    words["login"] = [*words.get("login", ()), *words.pop("user", ())]  # by either name
    found = []
    for each in texts:
        place = Place("secret" if is_secret else "parameter", each.name, aws.region)
        text = None if each.text is None else reveal(each.text)
        if text is None:
            problem = each.problem or "the secret is binary, which Airflow cannot read"
            found.append(StoredConnection(each.conn_id, place, problem=problem))
        else:
            found.append(from_text(each.conn_id, text, place, passwords=passwords, words=words if is_secret else None))
    return found


def _configured(settings: Settings) -> list[Source]:
    """The backends among the fallbacks that this can read."""
    found = []
    for fallback in settings.fallback:
        kind = _FALLBACKS.get(fallback.class_path.rpartition(".")[2])
        kwargs = reveal(fallback.kwargs)
        if kind == "file" and kwargs.get("connections_file_path"):
            found.append(Source(kind, str(kwargs["connections_file_path"])))
        elif kind in ("secrets-manager", "parameter-store") and kwargs.get("connections_prefix", _PREFIX) is not None:
            found.append(Source(kind, str(kwargs.get("connections_prefix", _PREFIX)), kwargs))
    return found


def _grouped(entries: Sequence[StoredConnection], conn_ids: Sequence[str]) -> tuple[StoredUnder, ...]:
    """By conn_id and team. A variable does not say how its conn_id is spelled: as another place does, else in lower case."""
    spelled = {each.conn_id.lower(): each.conn_id for each in entries if each.place.kind != "environment"} | {
        conn_id.lower(): conn_id for conn_id in conn_ids
    }
    groups: dict[tuple[str, str], list[StoredConnection]] = {}
    for each in entries:
        if each.place.kind == "environment":
            each = replace(each, conn_id=spelled.get(each.conn_id, each.conn_id))
        groups.setdefault((each.conn_id, (each.team or "").lower()), []).append(each)
    return tuple(StoredUnder(conn_id, tuple(found)) for (conn_id, _), found in sorted(groups.items()))
