"""The tag grammar: what `airflow:*` tags on a warehouse say of each conn_id.

    airflow:conn-id            = analytics reporting      the marker: which conn_ids live here
    airflow:db-user            = airflow_etl              a field, for all of them
    airflow:db-user/reporting  = bi_readonly              the same field, for one of them
    airflow:extra.sslmode      = verify-full              one key of the connection's extra

Pure: tags in, fields and problems out. A problem never raises here, since it must not affect other connections.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from msgspec import Struct

from redshift_secrets.settings import values

MARKER = "conn-id"

FIELDS: Mapping[str, Callable[[object], object]] = {
    "database": values.database,
    "db-user": values.db_user,
    "db-groups": values.db_groups,
    "db-roles": values.db_roles,
    "auto-create": values.boolean,
    "auth": values.auth,
    "duration": values.duration,
    "endpoint": values.endpoint,
    "conn-type": values.conn_type,
    "team": values.team,
}
"""Every field that a tag can set, by its name after the prefix, with the reader of its value; `extra.<key>` is one more."""

EXTRA_KEYS = {
    "redshift": frozenset(
        "application_name client_protocol_version database_metadata_current_db_only enable_table_types iam_disable_cache"
        " max_prepared_statements numeric_to_float sslmode tcp_keepalive tcp_keepalive_count tcp_keepalive_idle"
        " tcp_keepalive_interval timeout"
        # Read by psycopg, in the engine of RedshiftSQLHook and in PostgresHook.
        " client_encoding connect_timeout keepalives keepalives_count keepalives_idle keepalives_interval tcp_user_timeout".split()
    ),
    "postgres": frozenset(
        "application_name client_encoding connect_timeout cursor keepalives keepalives_count keepalives_idle"
        " keepalives_interval sslmode tcp_user_timeout".split()
    ),
}
"""The keys of `extra` that a tag can set, by connection type. With none of them does a driver connect elsewhere, as somebody
else, or with less protection, as long as `sslmode` is no weaker than the setting; see docs/contract.md, "Tags"."""

_EXTRA = "extra."
_SPELLINGS_OF_TEAM = frozenset("team teams teamname teamnames teamid teamids airflowteam".split())
"""In lower case and Latin letters, without what separates words: ignoring one of these would open to every team what was meant for
one."""
_LOOK_ALIKES = str.maketrans("\u0442\u0435\u0430\u043c\u03c4\u03b5\u03b1\u03bc\u00b5\u0455\u0441", "teamteammsc")
"""Cyrillic and Greek letters that look like those of `team` and `teams`."""
_IGNORED = "; the tag is ignored"


class TagValue(Struct, frozen=True):
    """A value that a tag gave, and the key of that tag."""

    value: object
    key: str


class TaggedConnection(Struct, frozen=True):
    """What the tags of one warehouse say of one conn_id. `errors` make the connection fail, `warnings` do not."""

    conn_id: str
    fields: Mapping[str, TagValue]
    extra: Mapping[str, TagValue]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def claimed(tags: Mapping[str, str], prefix: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the conn_ids that the marker claims, and the problems of the marker itself; where there is none, the tags that
    therefore have no effect. The cheap half of `read`."""
    marker = prefix + MARKER
    if marker not in tags:
        return (), _without_marker(tags, prefix)
    names: list[str] = []
    problems: list[str] = []
    for word in tags[marker].split():
        try:
            names.append(values.conn_id(word))
        except ValueError as error:
            problems.append(f"tag {marker}: {error}")
    if not tags[marker].split():
        problems.append(f"tag {marker} is empty: give it one or more conn_ids with spaces between them")
    return tuple(dict.fromkeys(names)), tuple(problems)


def read(tags: Mapping[str, str], conn_id: str, prefix: str) -> TaggedConnection:
    """Return what `tags` say of `conn_id`, which the marker must claim.

    A field for this conn_id alone beats the field for all. A malformed value is an error for each connection it touches;
    an unknown tag is a warning with the nearest known name, and an error where it is a spelling of `team`.
    """
    general: dict[str, TagValue] = {}
    own: dict[str, TagValue] = {}
    errors: dict[str, str] = {}
    misspelled: list[str] = []
    warnings: list[str] = []
    for key in sorted(tags):
        if not key.lower().startswith(prefix.lower()) or key == prefix + MARKER:
            continue
        name, slash, target = key[len(prefix) :].partition("/")
        unknown = _unknown(key, name, target if slash else None, tags, prefix)
        if unknown and _restricts_to_a_team(name, target if slash else None, conn_id, tags, prefix):
            # Ignored, it would open to every team what was meant for one.
            misspelled.append(
                f"tag {key}: {unknown.removesuffix(_IGNORED)}; it looks like a misspelled team restriction; fix or remove"
                " the tag"
            )
        elif unknown:
            warnings.append(f"tag {key}: {unknown}")
        elif not slash or target == conn_id:
            fields = own if slash else general
            try:
                fields[name] = TagValue(_reader(name)(tags[key]), key)
            except ValueError as error:
                # Kept under its name, so that a valid tag for this conn_id alone overrides a malformed one for all.
                errors[key] = f"tag {key} {error}"
                fields[name] = TagValue(None, key)
    merged = {**general, **own}
    return TaggedConnection(
        conn_id=conn_id,
        fields={name: value for name, value in merged.items() if not name.startswith(_EXTRA)},
        extra={name.removeprefix(_EXTRA): value for name, value in merged.items() if name.startswith(_EXTRA)},
        errors=(*misspelled, *(errors[value.key] for value in merged.values() if value.key in errors)),
        warnings=tuple(warnings),
    )


def _without_marker(tags: Mapping[str, str], prefix: str) -> tuple[str, ...]:
    problems, known = [], []
    for key in sorted(tags):
        if key.lower().startswith(prefix.lower()):
            unknown = _unknown(key, key[len(prefix) :].partition("/")[0], None, tags, prefix)
            if unknown:
                problems.append(f"tag {key}: {unknown}")
            else:
                known.append(key)
    if known:
        problems.append(f"{', '.join(known)}: no effect without the tag {prefix}{MARKER}; add it, or remove the others")
    return tuple(problems)


def _reader(name: str) -> Callable[[object], object]:
    if not name.startswith(_EXTRA):
        return FIELDS[name]

    key = name.removeprefix(_EXTRA)

    def read_extra(raw: object) -> object:
        if key == "sslmode":
            return values.sslmode(raw)
        values.extra_key(key)
        return values.scalar(str(raw))

    return read_extra


def _restricts_to_a_team(name: str, target: str | None, conn_id: str, tags: Mapping[str, str], prefix: str) -> bool:
    """Whether an unknown key is a spelling of one that would restrict `conn_id` to one team."""
    import unicodedata  # only mistakes need it

    # Letters of full width, for one, become plain ones.
    plain = unicodedata.normalize("NFKC", name).lower().translate(_LOOK_ALIKES)
    if re.sub(r"[\W_]", "", plain) not in _SPELLINGS_OF_TEAM:
        return False
    known = claimed(tags, prefix)[0]
    # Several conn_ids after the slash, as the marker lists them, are as many that were meant. No conn_id has these signs in it.
    meant = () if target is None else (target, *re.split(r"[\s+=@]+", target))
    return not target or conn_id in (values.nearest_name(each, known) for each in meant)


def _unknown(key: str, name: str, target: str | None, tags: Mapping[str, str], prefix: str) -> str | None:
    """Return what is wrong with a key that no connection can use, `None` for one that is fine."""
    if not key.startswith(prefix):
        return f"the prefix is {prefix!r}, in this spelling{_IGNORED}"
    if name == MARKER:
        return f"{prefix}{MARKER} lists all conn_ids itself and takes none after a slash{_IGNORED}"
    if name == _EXTRA or (name not in FIELDS and not name.startswith(_EXTRA)):
        hint = values.nearest(name, [*FIELDS, MARKER, "extra.<key>"])
        return f"unknown field {name!r}{hint}{_IGNORED}"
    if target is not None and target not in (conn_ids := claimed(tags, prefix)[0]):
        hint = values.nearest(target, conn_ids)
        return f"{target!r} is not among the conn_ids of {prefix}{MARKER}{hint}{_IGNORED}"
    return None
