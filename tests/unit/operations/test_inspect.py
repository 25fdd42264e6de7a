"""The rows that commands and pages show: what is claimed, from where each field comes, what is wrong, which credential there is."""

from __future__ import annotations

import json

import msgspec
import pytest

from redshift_secrets.lookup.catalog import scopes_to_list
from redshift_secrets.model import Scope
from redshift_secrets.operations.inspect import CredentialView, view_site
from tests.support.fakes import EPOCH, Clock, FakeAws, cluster, denied, workgroup
from tests.support.helpers import Site
from tests.support.memory_store import MemoryStore, tier

CLUSTERS, WORKGROUPS = Scope("cluster", "eu-west-1", None), Scope("workgroup", "eu-west-1", None)


def site(*warehouses, **settings):
    clock = Clock()
    return Site(clock, aws=FakeAws(clock, warehouses), **settings)


def rows(*warehouses, **settings):
    return {(row.conn_id, row.warehouse): row for row in view_site(site(*warehouses, **settings).broker).rows}


def field(row, name):
    return next((each.value, each.source) for each in row.fields if each.name == name)


def test_a_row_is_plain_data_with_typed_values():
    row = rows(cluster(tags={"airflow:conn-id": "analytics", "airflow:db-user": "etl", "airflow:auto-create": "true"}))[
        "analytics", "prod"
    ]
    assert (row.kind, row.account, row.region, row.database) == ("cluster", "123456789012", "eu-west-1", "dev")
    assert (row.user, row.auth, row.team, row.state, row.available, row.fails) == (
        "etl", "db-user", None, "available", True, False,
    )  # fmt: skip
    assert field(row, "port") == (5439, "AWS")
    assert field(row, "auto_create") == (True, "tag airflow:auto-create")
    assert field(row, "db_groups")[0] == ()
    assert field(row, "user") == ("etl", "tag airflow:db-user")
    assert json.loads(msgspec.json.encode(row))["fields"][5] == {"name": "port", "value": 5439, "source": "AWS"}


def test_the_state_of_workgroups_is_written_as_that_of_clusters():
    found = rows(cluster(), workgroup(tags={"airflow:conn-id": "adhoc"}))
    assert {row.state for row in found.values()} == {"available"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"status": "paused"}, "does not accept logins now: paused"),
        ({"host": None, "port": None, "status": "MODIFYING"}, "does not accept logins now: modifying, no endpoint"),
    ],
)
def test_a_warehouse_that_does_not_accept_logins_is_a_problem(changes, problem):
    row = rows(cluster(**changes))["analytics", "prod"]
    assert (row.problems, row.available, row.fails) == ((problem,), False, True)


def test_two_claims_fail_unless_the_settings_decide():
    both = (cluster("new", created_at=EPOCH - 5), cluster("old", created_at=EPOCH - 50))
    assert {name: row.fails for (_, name), row in rows(*both).items()} == {"new": True, "old": True}
    found = rows(*both, on_conflict="oldest")
    assert {name: row.fails for (_, name), row in found.items()} == {"new": True, "old": False}
    assert "also claimed by cluster new" in found["analytics", "old"].problems[0]
    assert len({len(row.problems) for row in found.values()}) == 1


def test_claims_of_two_teams_do_not_meet():
    tags = {"airflow:conn-id": "analytics"}
    found = rows(
        cluster("a", {**tags, "airflow:team": "sales"}), cluster("b", {**tags, "airflow:team": "finance"})
    ).values()
    assert [(row.team, row.problems, row.fails) for row in found] == [("sales", (), False), ("finance", (), False)]


def test_what_claims_nothing_and_what_is_not_seen_is_told_apart():
    here = site(
        cluster(tags={"airflow:con-id": "analytics"}),
        cluster("other", {"airflow:conn-id": "b", "stage": "test"}),
        required_tags={"stage": "prod"},
    )
    here.aws.failing[WORKGROUPS] = denied()
    here.aws.warehouses[0] = cluster(tags={"airflow:con-id": "analytics", "stage": "prod"})
    found = view_site(here.broker)
    assert "airflow:con-id" in found.tag_problems[0]
    assert "did you mean 'conn-id'?" in found.tag_problems[0]
    assert "required_tags" in found.ignored[0]
    assert "Serverless workgroups in eu-west-1 could not be listed" in found.unseen[0]
    assert found.has_problems
    assert set(found.scopes) == {CLUSTERS, WORKGROUPS}


def test_one_reason_is_said_once_for_all_that_could_not_be_listed(site):
    here = site(cluster(), accounts=[{"role_arn": "arn:aws:iam::222222222222:role/a"}])
    here.aws.failing |= {scope: denied() for scope in scopes_to_list(here.settings, ["eu-west-1"])[1:]}
    (found,) = view_site(here.broker).unseen
    assert found.startswith("3 listings in 2 accounts (Serverless workgroups in eu-west-1, ")
    assert found.endswith(f"failed for one reason: {denied()}")


def test_a_workgroup_whose_tags_are_not_known_may_claim_anything():
    unknown = {"tags": "its tags are not known: denied"}
    found = view_site(site(workgroup(tags={}, unknown=unknown)).broker)
    assert "its tags are not known" in found.unseen[0]


def test_another_process_finds_the_same_in_a_store_and_says_so():
    clock = Clock()
    store = MemoryStore(clock)
    warehouses = [
        cluster(tags={"airflow:conn-id": "analytics", "airflow:db-user": "etl"}),
        cluster("other", {"airflow:conn-id": "b"}, account="1"),
        workgroup(tags={}, unknown={"tags": "its tags are not known: denied"}),
    ]
    aws = FakeAws(clock, warehouses)

    def process():
        return Site(clock, aws=aws, tiers=[tier(store)], allowed_accounts=["123456789012"])

    first = view_site(process().broker)
    clock.pass_(20)
    second = view_site(process().broker)
    assert (first.tier, second.tier) == ("aws", "host")
    assert (first.listed_at, second.listed_at) == (EPOCH, EPOCH)
    assert [(each.rows, each.ignored, each.unseen) for each in (first,)] == [
        (second.rows, second.ignored, second.unseen)
    ]
    assert second.ignored
    assert second.unseen


def test_a_credential_comes_without_its_password_and_is_not_masked():
    clock = Clock()
    store = MemoryStore(clock)
    aws = FakeAws(clock, [cluster(tags={"airflow:conn-id": "analytics bi", "airflow:db-user/analytics": "etl"})])
    first = Site(clock, aws=aws, tiers=[tier(store)])
    first.ask("analytics")
    clock.pass_(60)
    other = Site(clock, aws=aws, tiers=[tier(store)])
    found = {row.conn_id: row.credential for row in view_site(other.broker, credentials=True).rows}
    assert found["bi"] is None
    assert found["analytics"] == CredentialView(
        "IAM:etl", "arn:aws:iam::1:role/x", EPOCH, EPOCH + 1800, EPOCH + 3600, "host"
    )
    assert other.secrets == []
    assert view_site(first.broker, "analytics", credentials=True).rows[0].credential.tier == "process"


def test_a_value_of_the_setting_extra_that_may_be_a_secret_is_hidden():
    row = rows(cluster(), extra={"sslpassword": "planted", "application_name": "nightly"})["analytics", "prod"]
    assert field(row, "extra.sslpassword") == ("***", "setting extra")
    assert field(row, "extra.application_name") == ("nightly", "setting extra")
    assert field(row, "extra.sslmode") == ("verify-full", "default")
    assert "planted" not in repr(row) + msgspec.json.encode(row).decode()


def test_what_was_found_in_the_fleet_store_did_not_come_from_aws():
    clock = Clock()
    host, fleet = MemoryStore(clock), MemoryStore(clock, "fleet")
    aws = FakeAws(clock, [cluster()])
    view_site(Site(clock, aws=aws, tiers=[tier(fleet)]).broker)
    clock.pass_(20)
    on_another_host = Site(clock, aws=aws, tiers=[tier(host), tier(fleet)]).broker
    assert [view_site(on_another_host).tier for _ in range(2)] == ["fleet", "host"]
