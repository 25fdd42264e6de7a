"""What is said of warehouses, their tags and their claims."""

from __future__ import annotations

import json
import re

import pytest

from redshift_secrets.airflow.stored import Place, StoredConnection
from redshift_secrets.model import Scope
from redshift_secrets.operations.doctor.stored import DATABASE, stored_verdicts
from redshift_secrets.operations.doctor.warehouses import claim_verdicts, see, seen_verdicts, tag_verdicts
from redshift_secrets.settings import Settings
from tests.support.fakes import EPOCH, cluster, denied, workgroup

CLUSTERS, WORKGROUPS = Scope("cluster", "eu-west-1", None), Scope("workgroup", "eu-west-1", None)
ME = {None: "arn:aws:iam::1:user/me"}
PROD = "cluster prod (account 123456789012, eu-west-1)"


def site(*warehouses, unlisted=(), **changes):
    settings = Settings.from_kwargs(
        {"regions": ["eu-west-1"], "db_user": "etl", "managed_conn_ids": "^(analytics|bi)", **changes}
    )
    listed = {scope: [each for each in warehouses if each.kind == scope.kind] for scope in (CLUSTERS, WORKGROUPS)}
    listed |= dict.fromkeys(unlisted, denied())
    return settings, see(settings, listed)


def said(found):
    return [(each.status, each.message) for each in found]


def test_how_many_are_seen_and_tagged():
    settings, seen = site(cluster(), cluster("bare", {}), workgroup("adhoc", {}))
    assert said(seen_verdicts(settings, seen, ME)) == [
        ("ok", "in eu-west-1 as arn:aws:iam::1:user/me: 2 clusters and 1 workgroup seen, 1 carries airflow:conn-id")
    ]


def test_none_is_tagged_anywhere():
    settings, seen = site(cluster(tags={}))
    place, nowhere = seen_verdicts(settings, seen, ME)
    assert place.status == "warning"
    assert place.message.endswith("1 cluster and 0 workgroups seen, 0 carry airflow:conn-id")
    assert nowhere.status == "problem"
    assert "no warehouse carries the tag airflow:conn-id" in nowhere.message


def test_what_could_not_be_listed_may_be_tagged():
    settings, seen = site(cluster(tags={}), unlisted=[WORKGROUPS])
    assert said(seen_verdicts(settings, seen, ME)) == [
        ("warning", "in eu-west-1 as arn:aws:iam::1:user/me: 1 cluster seen, 0 carry airflow:conn-id")
    ]


def test_tagged_warehouses_that_accept_no_logins_are_grouped_by_state():
    settings, seen = site(cluster("a", status="paused"), cluster("b", status="paused"), cluster("c", host=None))
    _, paused, no_endpoint = seen_verdicts(settings, seen, ME)
    assert paused.status == "problem"
    assert paused.message.startswith("cluster a (account 123456789012, eu-west-1), cluster b")
    assert "paused, so its conn_ids are refused. Resume it" in paused.message
    assert "available, without an endpoint" in no_endpoint.message


def test_tags_that_are_understood():
    settings, seen = site(cluster(), cluster("bare", {"Name": "x", "conn": "y", "airport": "z"}))
    assert said(tag_verdicts(settings, seen)) == [("ok", "those of 1 warehouse are understood")]


@pytest.mark.parametrize(
    "key",
    [
        "airflow:con-id",
        "airflow:conn_id",
        "Airflow:Conn-Id",
        "airflow:connid",
        "airflow_conn_id",
        "airflow/conn-id",
        "airlfow:conn-id",
        "airflow.conn-ids",
    ],
)
def test_a_marker_that_is_nearly_right_is_a_problem_without_one(key):
    settings, seen = site(cluster(), cluster("near", {key: "x"}))
    assert said(tag_verdicts(settings, seen)) == [
        (
            "problem" if key.lower().startswith("airflow:") else "warning",  # else it may be another program's
            f"tag {key} looks like airflow:conn-id, without which a warehouse claims no conn_id: rename it"
            " (on cluster near (account 123456789012, eu-west-1))",
        )
    ]


def test_a_field_without_a_marker_has_no_effect():
    settings, seen = site(cluster("near", {"airflow:db-user": "etl", "airflow:db-usr": "x"}))
    told = [message for _, message in said(tag_verdicts(settings, seen))]
    assert told[0].startswith("tag airflow:db-usr: unknown field 'db-usr' (did you mean 'db-user'?)")
    assert told[1].startswith("airflow:db-user: no effect without the tag airflow:conn-id")


@pytest.mark.parametrize("key", ["airflow:con-id", "Airflow:Conn-Id", "airflow:db-usr"])
def test_a_tag_that_is_nearly_right_is_a_problem_beside_the_marker(key):
    settings, seen = site(cluster(tags={"airflow:conn-id": "analytics bi", key: "x"}))
    ((status, message),) = said(tag_verdicts(settings, seen))
    assert status == "problem"
    assert message.startswith(f"tag {key}: ")
    assert message.endswith(f"(on {PROD})")


def test_the_same_mistake_on_several_warehouses_is_one_verdict():
    wrong = {"airflow:conn-id": "analytics", "airflow:duration": "fast"}
    settings, seen = site(cluster("a", wrong), cluster("b", {**wrong, "airflow:conn-id": "bi"}))
    (found,) = tag_verdicts(settings, seen)
    assert found.where == (str(cluster("a")), str(cluster("b")))


def test_what_could_not_be_read_of_a_warehouse():
    settings, seen = site(cluster(), workgroup("odd", {}, unknown={"tags": "its tags are not known: denied"}))
    ((_, message),) = said(tag_verdicts(settings, seen))
    assert message == "its tags are not known: denied (on Serverless workgroup odd (account 123456789012, eu-west-1))"


def test_claims_that_are_fine():
    settings, seen = site(cluster(), workgroup("adhoc", {"airflow:conn-id": "bi"}))
    assert said(claim_verdicts(settings, seen)) == [("ok", "2 conn_ids, each of one warehouse")]


@pytest.mark.parametrize(("on_conflict", "status"), [("refuse", "problem"), ("oldest", "warning")])
def test_two_claims(on_conflict, status):
    settings, seen = site(cluster("a"), cluster("b", created_at=EPOCH), on_conflict=on_conflict)
    found = [each for each in claim_verdicts(settings, seen) if each.status != "ok"]
    assert [each.status for each in found] == [status]
    assert found[0].message.startswith(
        "'analytics' claimed by cluster a (account 123456789012, eu-west-1) and cluster b"
    )


@pytest.mark.parametrize(
    "other",
    [
        cluster("b", status="deleting"),
        cluster("b", {"airflow:conn-id": "analytics", "airflow:team": "two"}),
    ],
)
def test_what_is_no_second_claim(other):
    first = cluster("a", {"airflow:conn-id": "analytics", "airflow:team": "one"})
    settings, seen = site(first, other)
    assert [each.status for each in claim_verdicts(settings, seen)] == ["ok"]


def test_a_warehouse_that_two_roles_see_claims_once():
    settings = Settings.from_kwargs({"managed_conn_ids": "^analytics"})
    both = see(settings, {CLUSTERS: [cluster()], Scope("cluster", "eu-west-1", "role"): [cluster(role_arn="role")]})
    assert [each.status for each in claim_verdicts(settings, both)] == ["ok"]


@pytest.mark.parametrize("setting", ["managed_conn_ids", "connections_lookup_pattern"])
def test_claims_outside_the_patterns(setting):
    settings, seen = site(
        cluster(tags={"airflow:conn-id": "smtp analytics"}), **{"managed_conn_ids": ".*", setting: "^analytics"}
    )
    (found,) = [each for each in claim_verdicts(settings, seen) if each.status == "problem"]
    assert found.message == (
        f"'smtp' outside {setting}, so the claim of {PROD} has no effect. Add it to {setting}, or remove it from the tag"
    )


def test_claims_that_nothing_bounds():
    settings, seen = site(cluster(tags={"airflow:conn-id": "a.b c d e"}), managed_conn_ids=None)
    ok, warning = claim_verdicts(settings, seen)
    assert (ok.status, warning.status) == ("ok", "warning")
    assert warning.message.endswith(r'such as "^(a\\.b|c|d|...)$"')  # as JSON, which it is copied into
    settings, seen = site(cluster(tags={"airflow:conn-id": "dw-sales dw.hr"}), managed_conn_ids=None)
    example = json.loads(claim_verdicts(settings, seen)[1].message.partition(" such as ")[2])
    assert [name for name in ("dw-sales", "dw.hr", "dw_hr") if re.match(example, name)] == ["dw-sales", "dw.hr"]


def test_tagged_warehouses_that_the_settings_ignore():
    settings, seen = site(
        cluster("a", {"airflow:conn-id": "analytics", "airflow:typo": "x"}), required_tags={"env": "prod"}
    )
    assert said(claim_verdicts(settings, seen)) == [
        (
            "warning",
            "1 tagged warehouse ignored (cluster a (account 123456789012, eu-west-1)): required_tags asks for the tag env = prod",
        )
    ]
    assert tag_verdicts(settings, seen) == []


def variable(name):
    return StoredConnection(name.removeprefix("AIRFLOW_CONN_").lower(), Place("environment", name))


def in_database(conn_id, team=None):
    return StoredConnection(conn_id, Place("database", conn_id), team=team)


def test_stored_connections():
    settings, seen = site(cluster())
    variables = [variable("AIRFLOW_CONN_ANALYTICS"), variable("AIRFLOW_CONN_OTHER")]
    shadowed, refused = stored_verdicts(settings, seen, variables, [*map(in_database, ["bi", "analytics", "smtp"])])
    assert shadowed.status == "warning"
    assert "2 stored connections no longer used" in shadowed.message
    assert "AIRFLOW_CONN_ANALYTICS in environment variables; 'analytics' in the metadata database" in shadowed.message
    assert refused.status == "problem"
    assert "1 stored connection refused" in refused.message
    assert refused.where == ("bi",)


def test_a_variable_is_shadowed_whatever_its_capitals_and_a_stored_conn_id_is_not():
    settings, seen = site(cluster(tags={"airflow:conn-id": "Analytics"}))
    (found,) = stored_verdicts(settings, seen, [variable("AIRFLOW_CONN_ANALYTICS")], [])
    assert "AIRFLOW_CONN_ANALYTICS" in found.message
    (found,) = stored_verdicts(settings, seen, [], [in_database("analytics")])
    assert "1 stored connection refused" in found.message


@pytest.mark.parametrize(
    ("stored_for", "claimed_for", "status"),
    [
        ("finance", None, "warning"),
        (None, "finance", "warning"),
        ("finance", "finance", "warning"),
        ("Finance", "finance", "warning"),
        ("hr", "finance", "ok"),
    ],
)
def test_a_stored_connection_is_shadowed_for_its_own_team(stored_for, claimed_for, status):
    tags = {"airflow:conn-id": "analytics", **({"airflow:team": claimed_for} if claimed_for else {})}
    settings, seen = site(cluster(tags=tags))
    (found,) = stored_verdicts(settings, seen, [], [in_database("analytics", stored_for)])
    assert found.status == status


def test_nothing_is_said_to_be_refused_while_a_warehouse_may_claim_it():
    settings, seen = site(cluster(), unlisted=[WORKGROUPS])
    (found,) = stored_verdicts(settings, seen, [], [in_database("bi")])
    assert found.status == "ok"


def test_a_database_that_cannot_be_read():
    settings, seen = site(cluster())
    unread, of_environment = stored_verdicts(settings, seen, [], denied())
    assert unread.status == "warning"
    assert "Which connections it stores is not known" in unread.message
    assert DATABASE not in of_environment.message
    assert stored_verdicts(settings, None, [], []) == []
