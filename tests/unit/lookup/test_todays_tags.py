"""docs/contract.md, "Ages": while AWS answers, nobody is served the tags of yesterday; while it fails, everybody is."""

from __future__ import annotations

import pytest

from redshift_secrets.errors import AwsError
from redshift_secrets.lookup.catalog import Catalog
from redshift_secrets.model import Scope
from tests.support.fakes import FakeAws, cluster, denied
from tests.support.helpers import Site, all_refreshes_done
from tests.support.memory_store import MemoryStore, tier

HOUR = 3600
SCOPES = [Scope(kind, "eu-west-1", None) for kind in ("cluster", "workgroup")]


@pytest.fixture
def blue_yesterday(site, clock):
    """A process that knows `analytics` on `blue`, as it was tagged hours ago."""

    def make(hours, **settings):
        here = site(cluster("blue"), cluster("green", {}), **settings)
        assert here.ask().host.startswith("blue")
        clock.pass_(hours * HOUR)
        return here

    return make


def tag(here, identifier, tags):
    here.aws.warehouses[:] = [w for w in here.aws.warehouses if w.identifier != identifier]
    here.aws.warehouses.append(cluster(identifier, tags))


@pytest.mark.parametrize("hours", [0.26, 6, 20])
def test_a_conn_id_that_was_moved_goes_to_its_new_warehouse(blue_yesterday, hours):
    here = blue_yesterday(hours)
    tag(here, "blue", {})
    tag(here, "green", {"airflow:conn-id": "analytics"})
    assert here.ask().host.startswith("green")


def test_a_tag_that_was_removed_claims_nothing(blue_yesterday):
    here = blue_yesterday(20)
    tag(here, "blue", {})
    assert here.ask() is None


def test_a_team_that_was_added_closes_the_connection_to_others(blue_yesterday):
    here = blue_yesterday(20)
    tag(here, "blue", {"airflow:conn-id": "analytics", "airflow:team": "finance"})
    assert here.ask() is None
    assert here.ask(team="finance").host.startswith("blue")


@pytest.mark.parametrize("minutes", [6, 14])
def test_tags_of_a_quarter_of_an_hour_are_served_at_once(blue_yesterday, minutes):
    here = blue_yesterday(minutes / 60)
    tag(here, "blue", {})
    assert here.ask().host.startswith("blue")  # listed again behind this lookup
    assert here.ask() is None


def test_while_aws_fails_what_was_known_is_served_and_it_is_asked_again_behind_the_lookups(blue_yesterday, clock):
    here = blue_yesterday(6)
    here.aws.failing = dict.fromkeys(SCOPES, denied())
    here.aws.calls.clear()
    assert [here.ask().host.split(".")[0] for _ in range(5)] == ["blue"] * 5
    assert here.aws.calls["list"] == 2
    here.aws.failing = {}
    tag(here, "blue", {})
    tag(here, "green", {"airflow:conn-id": "analytics"})
    clock.pass_(60)
    here.ask()
    assert here.ask().host.startswith("green")


def test_a_day_after_the_last_listing_it_is_no_longer_served(blue_yesterday):
    here = blue_yesterday(24.1)
    here.aws.failing = dict.fromkeys(SCOPES, denied())
    assert here.ask() is None


@pytest.mark.parametrize("code", ["ClusterNotFound", "ResourceNotFoundException"])
def test_a_mint_that_finds_no_cluster_lists_again_behind_the_refusal(site, code):
    here = site(cluster("blue"), cluster("green", {}))
    here.ask("other")  # lists
    tag(here, "blue", {})
    tag(here, "green", {"airflow:conn-id": "analytics", "airflow:db-user": "etl"})
    here.aws.mint_error = AwsError("redshift:GetClusterCredentials", "blue", "me", code, "Not found.", "It is gone.")
    assert code in here.refusal()
    all_refreshes_done()
    assert (here.aws.listed[SCOPES[0]], here.aws.listed[SCOPES[1]]) == (2, 1)
    here.aws.mint_error = None
    assert here.ask().host.startswith("green")


def test_so_does_a_look_at_a_paused_one_that_finds_none(site):
    here = site(cluster("blue", status="paused"), cluster("green", {}))
    here.ask("other")
    here.aws.warehouses[:] = [cluster("green")]
    assert "ClusterNotFound" in here.refusal()
    all_refreshes_done()
    assert (here.aws.listed[SCOPES[0]], here.aws.listed[SCOPES[1]]) == (2, 1)
    assert here.ask().host.startswith("green")


@pytest.mark.parametrize("seconds", [0.1, 2.9, 60])
def test_where_the_new_listing_says_the_same_it_is_not_listed_for_each_refusal(site, clock, seconds):
    gone = AwsError("redshift:GetClusterCredentials", "blue", "me", "ClusterNotFound", "Not found.", "It is gone.")
    here = site(cluster("blue"), catalog_ttl_seconds=86_400)
    here.ask("other")
    here.aws.mint_error = gone
    for _ in range(60):
        clock.pass_(seconds)
        here.refusal()
        all_refreshes_done()
    assert here.aws.listed[SCOPES[0]] <= 6  # by the pauses between the attempts to mint, the first ones may be news
    before = here.aws.listed[SCOPES[0]]
    clock.pass_(300)  # nobody asked for it: what AWS says then is news
    here.refusal()
    all_refreshes_done()
    assert here.aws.listed[SCOPES[0]] == before + 1


def test_a_host_with_an_older_listing_takes_the_new_one_from_the_fleet(clock, monkeypatch):
    aws, fleet = FakeAws(clock, [cluster("blue"), cluster("green", {})]), MemoryStore(clock, "fleet")
    here, there = (Site(clock, aws=aws, tiers=[tier(MemoryStore(clock)), tier(fleet)]) for _ in range(2))
    for each in (here, there):
        each.ask("other")
    clock.pass_(1)
    tag(here, "blue", {})
    tag(here, "green", {"airflow:conn-id": "analytics", "airflow:db-user": "etl"})
    aws.mint_error = AwsError("redshift:GetClusterCredentials", "blue", "me", "ClusterNotFound", "Not found.", "Gone.")
    refresh_behind = Catalog.refresh_behind

    def a_moment_later(*arguments):
        clock.pass_(0.1)
        refresh_behind(*arguments)

    monkeypatch.setattr(Catalog, "refresh_behind", a_moment_later)
    for each in (here, there):
        each.refusal()
        all_refreshes_done()
    clock.pass_(5)
    aws.mint_error = None
    assert [each.ask().host.split(".")[0] for each in (here, there)] == ["green", "green"]
    assert aws.listed[SCOPES[0]] == 2


@pytest.mark.parametrize("status", ["deleting", "final-snapshot", "DELETING"])
def test_a_warehouse_that_is_being_deleted_claims_nothing_beside_another_one(site, status):
    tags = {"airflow:conn-id": "analytics"}
    assert site(cluster("blue", tags, status=status), cluster("green", tags)).ask().host.startswith("green")
    assert (
        f"cluster blue (account 123456789012, eu-west-1) is {status}"
        in site(cluster("blue", tags, status=status)).refusal()
    )


def test_a_warehouse_that_was_restored_under_its_name_gets_a_new_credential(blue_yesterday):
    here = blue_yesterday(0.3)
    assert here.ask().password == "password-1"
    here.aws.warehouses[:] = [cluster("blue", created_at=here.aws.clock())]
    here.aws.clock.pass_(HOUR / 3)
    assert here.ask().password == "password-2"
