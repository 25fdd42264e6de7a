"""docs/contract.md, "Tags": every row of the table, overrides for one conn_id, and the messages about wrong tags."""

from __future__ import annotations

import pytest

from redshift_secrets.lookup import tags

P = "airflow:"
BOTH = {P + "conn-id": "analytics reporting"}
EXAMPLES = {
    "database": ("sales", "sales", "marketing", "marketing", "sales/eu"),
    "db-user": ("etl", "etl", "bi_readonly", "bi_readonly", "1etl"),
    "db-groups": ("loaders readers", ("loaders", "readers"), "readers", ("readers",), "Readers"),
    "auto-create": ("true", True, "false", False, "yes"),
    "db-roles": ("readers Loaders_2", ("readers", "Loaders_2"), "_own", ("_own",), "sys:monitor"),
    "auth": ("iam", "iam", "db-user", "db-user", "password"),
    "duration": ("900", 900, "3600", 3600, "fast"),
    "endpoint": ("custom-domain", "custom-domain", "vpc:bi", "vpc:bi", "private"),
    "conn-type": ("postgres", "postgres", "redshift", "redshift", "mysql"),
    "team": ("Finance", "finance", "sales", "sales", "all of them"),
    "extra.sslmode": ("verify-full", "verify-full", "require", "require", None),
    "extra.timeout": ("30", 30, "5", 5, None),
    "extra.tcp_keepalive": ("false", False, "true", True, None),
}
"""For every field: a value and what it is read as, the same for one conn_id alone, and a malformed value."""


every_field = pytest.mark.parametrize("name", EXAMPLES)
every_malformed = pytest.mark.parametrize(
    "name", [name for name, example in EXAMPLES.items() if example[4] is not None]
)


def read(more: dict[str, str], conn_id: str = "analytics") -> tags.TaggedConnection:
    return tags.read({**BOTH, **more}, conn_id, P)


def get_value(tagged: tags.TaggedConnection, name: str) -> tags.TagValue | None:
    return (tagged.extra if name.startswith("extra.") else tagged.fields).get(name.removeprefix("extra."))


def test_there_is_an_example_of_every_field():
    assert {name for name in EXAMPLES if not name.startswith("extra.")} == set(tags.FIELDS)


@every_field
def test_a_field_is_read_with_the_key_of_its_tag(name: str):
    text, value, *_ = EXAMPLES[name]
    for conn_id in ("analytics", "reporting"):
        tagged = read({P + name: text}, conn_id)
        assert get_value(tagged, name) == tags.TagValue(value, P + name)
        assert (tagged.conn_id, tagged.errors, tagged.warnings) == (conn_id, (), ())


@every_field
def test_a_field_for_one_conn_id_beats_the_field_for_all_and_affects_no_other(name: str):
    text, value, own_text, own_value, _ = EXAMPLES[name]
    both = {P + name: text, f"{P}{name}/reporting": own_text}
    assert get_value(read(both, "reporting"), name) == tags.TagValue(own_value, f"{P}{name}/reporting")
    assert get_value(read(both, "analytics"), name) == tags.TagValue(value, P + name)


@every_field
def test_a_field_for_one_conn_id_alone_is_not_set_for_the_others(name: str):
    own_text, own_value = EXAMPLES[name][2:4]
    alone = {f"{P}{name}/reporting": own_text}
    assert get_value(read(alone, "reporting"), name) == tags.TagValue(own_value, f"{P}{name}/reporting")
    assert get_value(read(alone, "analytics"), name) is None


@every_malformed
def test_a_malformed_value_fails_every_connection_with_the_tag_and_the_value(name: str):
    bad = EXAMPLES[name][4]
    for conn_id in ("analytics", "reporting"):
        (error,) = read({P + name: bad}, conn_id).errors
        assert error.startswith(f"tag {P}{name} must ")
        assert bad in error


@every_malformed
def test_a_malformed_value_for_one_conn_id_affects_no_other(name: str):
    text, value, _, _, bad = EXAMPLES[name]
    more = {P + name: text, f"{P}{name}/reporting": bad}
    assert [error.split()[1] for error in read(more, "reporting").errors] == [f"{P}{name}/reporting"]
    analytics = read(more, "analytics")
    assert (get_value(analytics, name), analytics.errors) == (tags.TagValue(value, P + name), ())


@every_malformed
def test_a_valid_value_for_one_conn_id_overrides_a_malformed_one_for_all(name: str):
    _, _, own_text, own_value, bad = EXAMPLES[name]
    more = {P + name: bad, f"{P}{name}/reporting": own_text}
    reporting = read(more, "reporting")
    assert (get_value(reporting, name), reporting.errors) == (tags.TagValue(own_value, f"{P}{name}/reporting"), ())
    assert len(read(more, "analytics").errors) == 1


def test_all_malformed_values_are_listed_at_once():
    errors = read({P + "duration": "fast", P + "auth": "password", P + "db-user/analytics": "a:b"}).errors
    assert sorted(error.split()[1] for error in errors) == [P + "auth", P + "db-user/analytics", P + "duration"]


@pytest.mark.parametrize("key", ["host", "Password", "user", "iam"])
@pytest.mark.parametrize("target", ["", "/analytics"])
def test_extra_cannot_change_where_the_password_is_sent(key: str, target: str):
    tag = f"{P}extra.{key}{target}"
    (error,) = read({tag: "evil.example.com"}).errors
    assert error.startswith(f"tag {tag} must not contain {key!r}")


def test_an_empty_tag_removes_the_groups_of_one_conn_id():
    more = {P + "db-groups": "loaders", P + "db-groups/reporting": ""}
    assert get_value(read(more, "reporting"), "db-groups") == tags.TagValue((), P + "db-groups/reporting")


def test_an_override_may_be_for_a_conn_id_with_a_slash():
    tagged = tags.read({P + "conn-id": "bi/reporting bi", P + "db-user/bi/reporting": "bi"}, "bi/reporting", P)
    assert tagged.fields["db-user"].value == "bi"
    assert tagged.warnings == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("analytics", ("analytics",)), ("  b   a b ", ("b", "a")), ("team/a x.y:z", ("team/a", "x.y:z"))],
)
def test_the_marker_claims_one_or_more_conn_ids(text: str, expected: tuple[str, ...]):
    assert tags.claimed({P + "conn-id": text}, P) == (expected, ())


def test_a_resource_without_the_marker_claims_nothing():
    assert tags.claimed({"conn-id": "a", "other:conn-id": "b", "env": "prod"}, P) == ((), ())


@pytest.mark.parametrize(
    ("found", "problems"),
    [
        (["con-id"], ["tag airflow:con-id: unknown field 'con-id' (did you mean 'conn-id'?); the tag is ignored"]),
        (["Conn-Id"], ["tag airflow:Conn-Id: unknown field 'Conn-Id' (did you mean 'conn-id'?); the tag is ignored"]),
        (["conn_id"], ["tag airflow:conn_id: unknown field 'conn_id' (did you mean 'conn-id'?); the tag is ignored"]),
        (["con-id/a"], ["tag airflow:con-id/a: unknown field 'con-id' (did you mean 'conn-id'?); the tag is ignored"]),
        (
            ["conn-id/a"],
            [
                "tag airflow:conn-id/a: airflow:conn-id lists all conn_ids itself and takes none after a slash; the tag is"
                " ignored"
            ],
        ),
        (["owner"], ["tag airflow:owner: unknown field 'owner'; the tag is ignored"]),
        (["team"], ["airflow:team: no effect without the tag airflow:conn-id; add it, or remove the others"]),
        (
            ["db-user", "con-id", "db-user/a", "extra.sslmode"],
            [
                "tag airflow:con-id: unknown field 'con-id' (did you mean 'conn-id'?); the tag is ignored",
                "airflow:db-user, airflow:db-user/a, airflow:extra.sslmode: no effect without the tag airflow:conn-id; add"
                " it, or remove the others",
            ],
        ),
    ],
)
def test_tags_on_a_resource_without_the_marker_are_reported(found: list[str], problems: list[str]):
    assert tags.claimed({P + name: "x" for name in found}, P) == ((), tuple(problems))


@pytest.mark.parametrize("name", ["conn-id", "db-user", "team/analytics", "nonsense"])
@pytest.mark.parametrize("prefix", ["Airflow:", "AIRFLOW:"])
def test_so_are_those_under_the_prefix_in_another_case(prefix: str, name: str):
    problem = f"tag {prefix}{name}: the prefix is 'airflow:', in this spelling; the tag is ignored"
    assert tags.claimed({prefix + name: "analytics"}, P) == ((), (problem,))


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_marker_claims_nothing_and_is_reported(text: str):
    conn_ids, (problem,) = tags.claimed({P + "conn-id": text}, P)
    assert conn_ids == ()
    assert problem.startswith("tag airflow:conn-id is empty: give it one or more conn_ids")


def test_a_malformed_conn_id_affects_no_other():
    conn_ids, (problem,) = tags.claimed({P + "conn-id": "good b@d fine"}, P)
    assert conn_ids == ("good", "fine")
    assert problem.startswith("tag airflow:conn-id: must be a conn_id")
    assert "'b@d'" in problem


def test_the_prefix_is_a_setting():
    both = {"dwh/conn-id": "analytics", "dwh/db-user": "etl", P + "conn-id": "other", P + "db-user": "bi"}
    assert tags.claimed(both, "dwh/") == (("analytics",), ())
    assert tags.read(both, "analytics", "dwh/").fields == {"db-user": tags.TagValue("etl", "dwh/db-user")}


def typos(name: str) -> list[str]:
    """Return every way to leave a letter out, to double one, to swap two, and the name in the style of the settings."""
    left_out = [name[:i] + name[i + 1 :] for i in range(len(name))]
    doubled = [name[:i] + name[i] + name[i:] for i in range(len(name))]
    swapped = [name[:i] + name[i + 1] + name[i] + name[i + 2 :] for i in range(len(name) - 1)]
    return sorted({*left_out, *doubled, *swapped, name.replace("-", "_"), name.upper()} - {name})


@pytest.mark.parametrize("known", sorted({*tags.FIELDS, "conn-id"} - {"team"}))
def test_a_misspelled_field_is_reported_with_the_nearest_known_name(known: str):
    for typo in typos(known):
        tagged = read({P + typo: "x"})
        assert tagged.warnings == (
            f"tag {P}{typo}: unknown field {typo!r} (did you mean {known!r}?); the tag is ignored",
        )
        assert (tagged.fields, tagged.errors) == ({}, ())


SPELLINGS_OF_TEAM = [
    "Team", "TEAM", "tEAm", "team ", "teams", "Teams", "team-name", "Team-Name", "team_name", "TEAM_NAME", "team.name",
    "teamname", "team-names", "team_names", "team-id", "team_id", "teamid", "airflow-team",
    "teamName", "team name", "Team Name", " team", "team_", "_team", "team.", ":team", "te-am", "team=", "airflow:team",
    "\u0442eam", "t\u0435am", "te\u0430m", "tea\u043c", "\u0442\u0435\u0430\u043c",  # Cyrillic letters
    "\u0422\u0415\u0410\u041c", "team\u0455", "te\u0430m-name",
    "\u03c4eam", "t\u03b5am", "te\u03b1m", "tea\u03bc", "tea\u00b5", "\u03c4\u03b5\u03b1\u03bc",  # Greek letters
    "\u03a4\u0395\u0391\u039c",
    "\uff54\uff45\uff41\uff4d", "\U0001d42d\U0001d41e\U0001d41a\U0001d426", "team\u2003",  # of full width, bold, with a wide space
]  # fmt: skip


@pytest.mark.attempt("open a team's connection with a misspelled team tag")
@pytest.mark.parametrize("spelling", SPELLINGS_OF_TEAM)
def test_a_spelling_of_team_fails_the_connection(spelling: str):
    tagged = read({P + spelling: "finance", P + "db-user": "etl"})
    (error,) = tagged.errors
    assert error.startswith(f"tag {P}{spelling}: unknown field {spelling!r}")
    assert error.endswith("; it looks like a misspelled team restriction; fix or remove the tag")
    assert "ignored" not in error
    assert (list(tagged.fields), tagged.warnings) == (["db-user"], ())


@pytest.mark.attempt("open a team's connection with a misspelled team tag")
@pytest.mark.parametrize("prefix", ["Airflow:", "AIRFLOW:", "airFlow:"])
@pytest.mark.parametrize("name", ["team", "Team", "teams", "team/analytics"])
def test_a_team_under_the_prefix_in_another_case_fails_the_connection(prefix: str, name: str):
    tagged = read({prefix + name: "finance"})
    (error,) = tagged.errors
    assert error == (
        f"tag {prefix}{name}: the prefix is 'airflow:', in this spelling; it looks like a misspelled team restriction; fix"
        " or remove the tag"
    )
    assert (tagged.fields, tagged.warnings) == ({}, ())


@pytest.mark.parametrize(
    "name", [*sorted({*tags.FIELDS} - {"team"}), "conn-id", "extra.sslmode", "stream", "db-user/b"]
)
def test_any_other_field_under_the_prefix_in_another_case_is_a_warning(name: str):
    tagged = read({f"Airflow:{name}": "finance"})
    assert tagged.warnings == (f"tag Airflow:{name}: the prefix is 'airflow:', in this spelling; the tag is ignored",)
    assert (tagged.fields, tagged.extra, tagged.errors) == ({}, {}, ())


@pytest.mark.parametrize(
    "word", ["stream", "tenant", "term", "temp", "item", "dream", *sorted({*typos("team")} - {"TEAM"})]
)
def test_a_word_that_only_resembles_team_is_a_warning(word: str):
    tagged = read({P + word: "finance", f"{P}{word}/analytics": "finance", P + "team": "bi"})
    assert get_value(tagged, "team") == tags.TagValue("bi", P + "team")
    assert tagged.errors == ()
    hints = {f"unknown field {word!r}{hint}" for hint in ("", " (did you mean 'team'?)")}
    assert [
        warning.partition(": ")[2].removesuffix("; the tag is ignored") in hints for warning in tagged.warnings
    ] == [
        True,
        True,
    ]


@pytest.mark.attempt("open a team's connection with a misspelled team tag")
@pytest.mark.parametrize(
    ("key", "failing"),
    [
        ("teams/analytics", {"analytics"}),
        ("team/analytcs", {"analytics"}),
        ("team/Reporting", {"reporting"}),
        ("team/", {"analytics", "reporting"}),
        ("team/retired", set()),
        ("team/analytics reporting", {"analytics", "reporting"}),
        ("team/Reporting  Analytics ", {"analytics", "reporting"}),
        ("team/analytics+reporting", {"analytics", "reporting"}),
        ("team/retired reporting", {"reporting"}),
    ],
)
def test_a_team_for_a_misspelled_conn_id_fails_the_nearest_one(key: str, failing: set[str]):
    for conn_id in ("analytics", "reporting"):
        tagged = read({P + key: "finance"}, conn_id)
        assert (len(tagged.errors), len(tagged.warnings)) == ((1, 0) if conn_id in failing else (0, 1))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("extra", "did you mean 'extra.<key>'?"),
        ("extra.", "did you mean 'extra.<key>'?"),
        ("", "unknown field ''"),
        ("zebra", "unknown field 'zebra'; the tag is ignored"),
        ("db-usr/reporting", "did you mean 'db-user'?"),
        ("db-user/reportin", "'reportin' is not among the conn_ids of airflow:conn-id (did you mean 'reporting'?)"),
        ("db-user/Reporting", "did you mean 'reporting'?"),
        ("db-user/", "'' is not among the conn_ids"),
        ("extra.sslmode/other", "'other' is not among the conn_ids"),
        ("conn-id/reporting", "lists all conn_ids itself"),
    ],
)
def test_a_tag_without_effect_is_reported_to_every_connection_of_the_resource(key: str, message: str):
    for conn_id in ("analytics", "reporting"):
        tagged = read({P + key: "bi"}, conn_id)
        (warning,) = tagged.warnings
        assert warning.startswith(f"tag {P}{key}: ")
        assert message in warning
        assert (tagged.fields, tagged.extra, tagged.errors) == ({}, {}, ())
