"""The tags of one warehouse for several conn_ids together: what they share is said once, and what AWS allows is kept. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec.structs import replace

from redshift_secrets.lookup import tags
from redshift_secrets.model import Warehouse
from redshift_secrets.operations.tag import TagChange, check_change, plan_tags
from redshift_secrets.settings import Settings

FieldsById = Mapping[str, Mapping[str, str]]
"""Fields of tags by their names after the prefix, by conn_id."""


def fit_tags(settings: Settings, warehouse: Warehouse, wanted: FieldsById) -> tuple[TagChange, dict[str, str]]:
    """Return the change with which a warehouse claims these conn_ids, or as many as its tags have room for and lookups accept, and
    by conn_id why another one is left out."""
    change = _together(settings, warehouse, wanted)
    if not change.errors:
        return change, {}
    fitting: dict[str, Mapping[str, str]] = {}
    left_out: dict[str, str] = {}
    for conn_id, fields in wanted.items():
        attempt = _together(settings, warehouse, {**fitting, conn_id: fields})
        if attempt.errors:
            left_out[conn_id] = "; ".join(attempt.errors)
        else:
            fitting[conn_id] = fields
    return _together(settings, warehouse, fitting), left_out


def _together(settings: Settings, warehouse: Warehouse, wanted: FieldsById) -> TagChange:
    if not wanted:
        return TagChange(warehouse, {}, ())
    conn_ids = list(wanted)
    claimed, _ = tags.claimed(warehouse.tags, settings.tag_prefix)
    shared = {} if set(claimed) - set(conn_ids) else _shared(wanted)
    change = plan_tags(settings, warehouse, conn_ids, shared)
    for conn_id, fields in wanted.items():
        own = {name: value for name, value in fields.items() if shared.get(name) != value}
        if own:
            change = plan_tags(settings, replace(warehouse, tags=change.after), [conn_id], own)
    written = {key: value for key, value in change.after.items() if warehouse.tags.get(key) != value}
    return check_change(settings, TagChange(warehouse, written, ()), conn_ids)


def _shared(wanted: FieldsById) -> dict[str, str]:
    """The most frequent value of each field that all of them have: the others say their own."""
    names = set.intersection(*(set(fields) for fields in wanted.values()))
    return {name: Counter(fields[name] for fields in wanted.values()).most_common(1)[0][0] for name in sorted(names)}
