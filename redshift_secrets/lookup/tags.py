"""The tag grammar: what `airflow:*` tags on a warehouse say of each conn_id.

    airflow:conn-id            = analytics reporting      the marker: which conn_ids live here
    airflow:db-user            = airflow_etl              a field, for all of them
    airflow:db-user/reporting  = bi_readonly              the same field, for one of them
    airflow:extra.sslmode      = verify-full              one key of the connection's extra

Pure: tags in, fields and problems out. A problem never raises here, since it must not hurt other connections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from redshift_secrets.settings import values

MARKER = "conn-id"

FIELDS: Mapping[str, Callable[[object], object]] = {
    "database": values.database,
    "db-user": values.db_user,
    "db-groups": values.db_groups,
    "auto-create": values.boolean,
    "auth": values.auth,
    "duration": values.duration,
    "endpoint": values.endpoint,
    "conn-type": values.conn_type,
    "team": values.team,
}
"""Every field a tag can set, by its name after the prefix, with the reader of its value. `extra.<key>` comes on top."""

_EXTRA = "extra."
_TEAM = "team"
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
    """Return the conn_ids that the marker claims, and the problems of the marker itself. The cheap half of `read`."""
    marker = prefix + MARKER
    if marker not in tags:
        return (), ()
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

    A field for this conn_id alone beats the field for all. A malformed value is an error for each connection it
    touches; an unknown tag is a warning with the nearest known name, and an error where that is `team`.
    """
    general: dict[str, TagValue] = {}
    own: dict[str, TagValue] = {}
    errors: dict[str, str] = {}
    misspelt: list[str] = []
    warnings: list[str] = []
    for key in sorted(tags):
        if not key.startswith(prefix) or key == prefix + MARKER:
            continue
        name, slash, target = key.removeprefix(prefix).partition("/")
        unknown = _unknown(name, target if slash else None, tags, prefix)
        if unknown and _was_to_restrict(name, target if slash else None, conn_id, tags, prefix):
            # Ignored, it would leave to every team what was meant for one.
            misspelt.append(
                f"tag {key}: {unknown.removesuffix(_IGNORED)}, and it may say which team alone: mend or remove it"
            )
        elif unknown:
            warnings.append(f"tag {key}: {unknown}")
        elif not slash or target == conn_id:
            fields = own if slash else general
            try:
                fields[name] = TagValue(_reader(name)(tags[key]), key)
            except ValueError as error:
                # ClockSafeEntry under its name, so that a good tag for this conn_id alone heals a bad one for all.
                errors[key] = f"tag {key} {error}"
                fields[name] = TagValue(None, key)
    merged = {**general, **own}
    return TaggedConnection(
        conn_id=conn_id,
        fields={name: value for name, value in merged.items() if not name.startswith(_EXTRA)},
        extra={name.removeprefix(_EXTRA): value for name, value in merged.items() if name.startswith(_EXTRA)},
        errors=(*misspelt, *(errors[value.key] for value in merged.values() if value.key in errors)),
        warnings=tuple(warnings),
    )


def _reader(name: str) -> Callable[[object], object]:
    if not name.startswith(_EXTRA):
        return FIELDS[name]

    def read_extra(raw: object) -> object:
        values.extra_key(name.removeprefix(_EXTRA))
        return values.scalar(str(raw))

    return read_extra


def _was_to_restrict(name: str, target: str | None, conn_id: str, tags: Mapping[str, str], prefix: str) -> bool:
    """Whether a key that is none of ours looks like one that would give `conn_id` to one team alone."""
    if name != _TEAM and values.nearest_name(name, [*FIELDS, MARKER]) != _TEAM:
        return False
    return not target or conn_id == values.nearest_name(target, claimed(tags, prefix)[0])


def _unknown(name: str, target: str | None, tags: Mapping[str, str], prefix: str) -> str | None:
    """Say why a key is none of ours, or `None` where it is."""
    if name == MARKER:
        return f"{prefix}{MARKER} lists all conn_ids itself and takes none after a slash{_IGNORED}"
    if name == _EXTRA or (name not in FIELDS and not name.startswith(_EXTRA)):
        hint = values.nearest(name, [*FIELDS, MARKER, "extra.<key>"])
        return f"unknown field {name!r}{hint}{_IGNORED}"
    if target is not None and target not in (conn_ids := claimed(tags, prefix)[0]):
        hint = values.nearest(target, conn_ids)
        return f"{target!r} is not among the conn_ids of {prefix}{MARKER}{hint}{_IGNORED}"
    return None
