"""What holds for every set of tags that AWS may store."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from redshift_secrets.lookup import tags
from redshift_secrets.settings.values import RESERVED

P = "airflow:"

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
aws_text = st.text(LETTERS + " +-=._:/@", max_size=40)
names = st.from_regex(r"[a-z][a-z0-9_+.@-]{0,20}", fullmatch=True)
conn_ids = st.lists(st.from_regex(r"[A-Za-z0-9_.:/-]{1,12}", fullmatch=True), min_size=1, max_size=4, unique=True)


def with_text(values: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[str, object]]:
    return values.map(lambda value: (str(value).lower() if isinstance(value, bool) else str(value), value))


GRAMMAR: dict[str, st.SearchStrategy[tuple[str, object]]] = {
    "database": with_text(names),
    "db-user": with_text(names.filter(lambda name: name not in RESERVED)),
    "db-groups": st.lists(names, unique=True, max_size=3).map(lambda groups: (" ".join(groups), tuple(groups))),
    "auto-create": with_text(st.booleans()),
    "auth": with_text(st.sampled_from(["auto", "db-user", "iam", "secret", "connector"])),
    "duration": with_text(st.integers(900, 3600)),
    "endpoint": with_text(st.sampled_from(["default", "custom-domain", "vpc:a-1"])),
    "conn-type": with_text(st.sampled_from(["redshift", "postgres"])),
    "team": with_text(st.from_regex(r"[a-z0-9_-]{1,50}", fullmatch=True)),
    "extra.sslmode": with_text(st.sampled_from(["require", "verify-full"])),
    "extra.timeout": with_text(st.integers(-(10**17), 10**17) | st.booleans()),
}


@st.composite
def written(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, dict[str, object]]]:
    """Well-formed tags, and what they say of each conn_id."""
    ids = draw(conn_ids)
    written_tags = {P + "conn-id": " ".join(ids)}
    meant: dict[str, dict[str, object]] = {conn_id: {} for conn_id in ids}
    for name, strategy in GRAMMAR.items():
        for target in draw(st.sets(st.sampled_from([None, *ids]))):
            text, value = draw(strategy)
            written_tags[P + name + (f"/{target}" if target else "")] = text
            for conn_id in [target] if target else ids:
                if target or f"{P}{name}/{conn_id}" not in written_tags:
                    meant[conn_id][name] = value
    return written_tags, meant


def read_values(tagged: tags.TaggedConnection) -> dict[str, object]:
    extra = {f"extra.{name}": value.value for name, value in tagged.extra.items()}
    return {**{name: value.value for name, value in tagged.fields.items()}, **extra}


@given(written())
def test_well_formed_tags_are_read_for_every_conn_id(example):
    written_tags, meant = example
    assert tags.claimed(written_tags, P) == (tuple(meant), ())
    for conn_id, fields in meant.items():
        tagged = tags.read(written_tags, conn_id, P)
        assert read_values(tagged) == fields
        assert (tagged.errors, tagged.warnings) == ((), ())


@given(written(), st.dictionaries(aws_text.filter(lambda key: not key.lower().startswith(P)), aws_text, max_size=5))
def test_tags_without_the_prefix_change_nothing(example, foreign: dict[str, str]):
    written_tags, meant = example
    for conn_id in meant:
        assert tags.read({**foreign, **written_tags}, conn_id, P) == tags.read(written_tags, conn_id, P)


@given(written(), st.sampled_from(sorted(tags.FIELDS)), st.data())
def test_a_malformed_override_fails_its_own_connection_only(example, name: str, data: st.DataObject):
    written_tags, meant = example
    target = data.draw(st.sampled_from(sorted(meant)))
    key = f"{P}{name}/{target}"
    malformed = {**written_tags, key: "@ @"}
    (error,) = tags.read(malformed, target, P).errors
    assert error.startswith(f"tag {key} must ")
    for conn_id in set(meant) - {target}:
        assert tags.read(malformed, conn_id, P) == tags.read(written_tags, conn_id, P)


KEYS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from([P, P, P, "Airflow:", ""]),
        st.sampled_from([*tags.FIELDS, "conn-id", "extra.", "extra.host", "extra.x"]) | aws_text,
        st.sampled_from(["", "/a", "/b", "/zz", "/"]),
    ),
)


@given(st.dictionaries(KEYS, aws_text, max_size=12))
def test_every_tag_under_the_prefix_is_used_or_reported(found: dict[str, str]):
    found = {**found, P + "conn-id": "a b"}
    for conn_id, other in (("a", "/b"), ("b", "/a")):
        tagged = tags.read(found, conn_id, P)
        used = {value.key for value in [*tagged.fields.values(), *tagged.extra.values()]}
        for key in found:
            if not key.lower().startswith(P) or key == P + "conn-id":
                assert key not in used
            elif key not in used and not any(
                message.startswith(f"tag {key}: ") for message in (*tagged.warnings, *tagged.errors)
            ):
                # It is for the other connection, or a tag for this one alone beats it.
                assert key.endswith(other) or f"{key}/{conn_id}" in used
