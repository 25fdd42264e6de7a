"""What becomes of each stored connection beside the others: claims that are there, twins, teams, and the room that tags have."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from redshift_secrets.airflow.stored import Place
from redshift_secrets.lookup.catalog import Unseen
from redshift_secrets.model import Scope
from redshift_secrets.operations.migrate import rendering
from redshift_secrets.operations.migrate.plan import Seen, make_plan, managed_pattern
from redshift_secrets.operations.migrate.reading import Stored, StoredUnder
from redshift_secrets.settings import Settings
from tests.support.fakes import cluster, denied, workgroup
from tests.unit.operations.migrate.stored import PROD, move, plan, stored

CLAIMED = cluster("prod", {"airflow:conn-id": "analytics", "airflow:db-user": "etl"})


def test_what_a_tag_serves_already():
    found = plan(stored(), warehouses=(CLAIMED,))
    assert found.changes == ()
    row = found.moves[0]
    assert (row.state, row.differences, row.user) == ("served", (), "etl")
    assert (found.managed_now, found.managed_then) == ("^(analytics)$", "^(analytics)$")


def test_what_has_moved_stays_managed_when_it_is_stored_no_more():
    found = plan(stored("bi"), warehouses=(CLAIMED,))
    assert (found.managed_now, found.managed_then) == ("^(analytics)$", "^(analytics|bi)$")


def test_what_is_served_differently_from_what_is_stored():
    row = move(stored(login="bi", extra={"timeout": 3}), warehouses=(CLAIMED,))
    assert row.state == "served"
    assert row.differences == ("db-user is etl, and bi is stored", "extra.timeout is not set, and 3 is stored")
    other = cluster("other", {}, host="other.example")
    row = move(stored(host="other.example"), warehouses=(CLAIMED, other))
    assert row.differences == ("what is stored connects to cluster other (account 123456789012, eu-west-1)",)
    row = move(stored(host="gone.example"), warehouses=(CLAIMED,))
    assert row.differences[0].startswith(
        "what is stored is not that: no warehouse that was seen has the host gone.example"
    )


def test_what_is_claimed_and_refused():
    malformed = cluster("prod", {**CLAIMED.tags, "airflow:duration": "fast"})
    assert "must be a whole number" in move(stored(), warehouses=(malformed,)).reasons[0]
    rival = cluster("rival", {"airflow:conn-id": "analytics"}, host="rival.example")
    row = move(stored(), warehouses=(CLAIMED, rival))
    assert (row.state, row.tags) == ("refused", {})
    assert "it is claimed by cluster" in row.reasons[0]


def test_a_scope_that_may_not_be_listed_leaves_what_is_served():
    unseen = Unseen(Scope("cluster", "us-east-1", None), denied())
    assert move(stored(), warehouses=(CLAIMED,), unseen=(unseen,)).state == "served"
    row = move(stored(host="x.example"), unseen=(unseen,))
    assert "clusters in us-east-1 could not be listed" in row.reasons[0]


def test_what_managed_conn_ids_refuses_today_is_said():
    row = move(stored(), managed_conn_ids="^ana")
    assert row.notes == ("it is refused now: managed_conn_ids matches it, and no tag claims it",)
    made = plan(stored(), managed_conn_ids="^ana")
    assert made.covered
    row = move(stored(), managed_conn_ids="^dw_")
    assert (row.state, row.notes) == ("move", ("managed_conn_ids does not match it yet, so that no tag can claim it",))
    row = move(stored(), managed_conn_ids="^dw_", warehouses=(CLAIMED,))  # its tag is there already
    assert (row.state, row.tags) == ("move", {})
    assert not plan(stored(), managed_conn_ids="^dw_").covered


def test_a_warehouse_that_accepts_no_logins_now_is_said():
    row = move(stored(), warehouses=(cluster("prod", {}, status="paused"),))
    assert row.state == "move"
    assert row.notes == ("cluster prod (account 123456789012, eu-west-1) does not accept logins now: paused",)
    made = cluster("prod", {}, status="creating", host=None, port=None)
    row = move(stored(host="", extra={"iam": True, "cluster_identifier": "prod"}), warehouses=(made,))
    assert (row.state, row.tags) == ("move", {"db-user": "etl"})
    assert row.notes[0].endswith("does not accept logins now: creating")


def test_one_connection_under_several_names():
    found = plan(stored("a"), stored("b"), stored("c", login="bi"), stored("d"))
    assert [each.same_as for each in found.moves] == ["", "a", "", "a"]
    assert rendering.twins(found) == [("a", "b", "d")]


def test_tags_that_all_share_are_said_once():
    change = plan(stored("a"), stored("b"), stored("c", login="bi")).changes[0]
    assert change.written == {
        "airflow:conn-id": "a b c",
        "airflow:db-user": "etl",
        "airflow:db-user/c": "bi",
    }
    old = cluster("prod", {"airflow:conn-id": "old"})
    change = plan(stored("a"), stored("b"), warehouses=(old,)).changes[0]
    assert change.written == {"airflow:conn-id": "old a b", "airflow:db-user/a": "etl", "airflow:db-user/b": "etl"}


def test_more_than_tags_have_room_for():
    many = [stored(f"connection_number_{number:02}") for number in range(20)]
    found = plan(*many)
    states = [each.state for each in found.moves]
    assert states.count("move") == 12
    assert states == ["move"] * 12 + ["cannot"] * 8
    # The same for all of them, so that it is said once.
    reasons = {reason for each in found.moves for reason in each.reasons}
    assert reasons == {"tag airflow:conn-id may have at most 256 characters, and would have more"}
    assert found.changes[0].errors == ()
    assert len(found.changes[0].after["airflow:conn-id"]) <= 256
    full = cluster("prod", {f"key-{number}": "" for number in range(49)})
    found = plan(stored("a"), stored("b"), warehouses=(full,), db_user="etl")
    assert [each.state for each in found.moves] == ["move", "move"]
    found = plan(stored("a"), warehouses=(full,))
    assert found.moves[0].reasons == (
        "cluster prod (account 123456789012, eu-west-1) would have 51 tags, and AWS allows 50",
    )


def test_teams():
    other = cluster("other", {}, host="other.example")
    one, two = stored(team="a"), stored(team="b", host="other.example")
    found = plan(one, two, warehouses=(PROD, other))
    assert [each.state for each in found.moves] == ["move", "move"]
    assert [each.written["airflow:team"] for each in found.changes] == ["a", "b"]
    for clash in (stored(team="b"), stored(team=None, host="other.example")):
        found = plan(one, clash, warehouses=(PROD, other))
        assert {each.state for each in found.moves} == {"cannot"}
        assert "stored for several teams" in found.moves[0].reasons[0]


def test_other_places_with_something_else_under_the_same_conn_id():
    variable = stored(place=Place("environment", "AIRFLOW_CONN_ANALYTICS"))
    same, another = stored(), stored(login="bi")
    for second, notes in (
        (same, ()),
        (another, ("the metadata database has another connection under this conn_id, which Airflow does not use",)),
    ):
        under = StoredUnder("analytics", (variable, second))
        found = make_plan(Settings(), Stored((under,), {}, ()), Seen((PROD,), (), "me"))
        assert found.moves[0].notes == notes
        assert found.moves[0].places == ("variable AIRFLOW_CONN_ANALYTICS", "metadata database")


def test_the_pattern_matches_these_and_no_others():
    conn_ids = ["analytics", "dw.core", "bi/reporting", "a-b:c"]
    pattern = re.compile(managed_pattern(conn_ids), re.IGNORECASE)
    assert all(pattern.match(conn_id) for conn_id in conn_ids)
    assert not any(pattern.match(conn_id) for conn_id in ("analytics_old", "dwxcore", "xanalytics", "a", ""))
    assert managed_pattern([]) == ""
    Settings.from_kwargs({"managed_conn_ids": managed_pattern(conn_ids)})


@pytest.mark.parametrize("form", ["aws", "terraform", "cloudformation"])
def test_code_names_each_warehouse_and_ends_with_the_setting(form):
    group = workgroup(tags={}, host="adhoc.example")
    iam = stored("b", host="adhoc.example", login="", has_password=False)
    text = rendering.code(plan(stored("a"), iam, warehouses=(PROD, group)), form)
    assert text.count("# cluster prod") == 1
    assert text.count("# Serverless workgroup adhoc") == 1
    assert text.endswith('# "managed_conn_ids": "^(a|b)$"')
    if form == "aws":
        commands = [shlex.split(line) for line in text.splitlines() if not line.startswith("#")]
        assert [words[:3] for words in commands] == [
            ["aws", "redshift", "create-tags"],
            ["aws", "redshift-serverless", "tag-resource"],
        ]
        assert json.loads(commands[1][-1]) == [{"key": "airflow:conn-id", "value": "b"}]


def test_each_remark_is_said_once_with_all_that_it_is_about():
    found = plan(stored("a", port=1), stored("b", port=1), stored("c", port=2), stored("d"))
    said = rendering.remarks(found)
    assert [(each.number, each.text, each.conn_ids) for each in said] == [
        (1, "port 1 becomes 5439", ("a", "b")),
        (2, "port 2 becomes 5439", ("c",)),
    ]
    assert [row["remarks"] for row in rendering.rows(found, said)] == ["1", "1", "2", ""]


def test_what_is_no_redshift_has_a_row_only_where_nothing_else_has():
    smtp = stored("smtp", conn_type="smtp", host="mail")
    assert [row["conn_id"] for row in rendering.rows(plan(stored(), smtp), [])] == ["analytics"]
    only = plan(smtp)
    assert [row["state"] for row in rendering.rows(only, rendering.remarks(only))] == ["other"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (Place("database", "it's"), ["airflow", "connections", "delete", "it's"]),
        (Place("database", "-x"), ["airflow", "connections", "delete", "--", "-x"]),
        (Place("environment", "AIRFLOW_CONN_A"), ["unset", "AIRFLOW_CONN_A"]),
        (
            Place("secret", "airflow/connections/a", "eu-west-1"),
            "aws secretsmanager delete-secret --secret-id airflow/connections/a --recovery-window-in-days 30"
            " --region eu-west-1".split(),
        ),
        (
            Place("parameter", "/airflow/connections/a", "eu-west-1"),
            "aws ssm delete-parameter --name /airflow/connections/a --region eu-west-1".split(),
        ),
        (Place("file", "c.json"), []),
    ],
)
def test_what_removes_a_stored_connection(place, words):
    assert shlex.split(rendering.removal(place), comments=True) == words


def test_the_way_back():
    row = move(stored(), warehouses=(CLAIMED,))
    place = Place("secret", "airflow/connections/a", "eu-west-1")
    restore = "aws secretsmanager restore-secret --secret-id airflow/connections/a --region eu-west-1"
    untag = f"redshift-secrets untag {PROD.arn} --conn-id analytics"
    assert rendering.way_back(row, place, Settings()) == f"{restore}; {untag}"
    managed = Settings.from_kwargs({"managed_conn_ids": "^ana"})  # which would refuse it
    assert rendering.way_back(row, place, managed) == f"{restore}; take it out of managed_conn_ids; {untag}"
