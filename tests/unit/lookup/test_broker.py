"""docs/contract.md, "Looking a conn_id up": misses, conflicts, teams, and what happens where nothing can be listed."""

from __future__ import annotations

import logging
import threading

import pytest

from redshift_secrets.errors import AwsError, CannotServeError
from redshift_secrets.model import Scope
from tests.support.fakes import EPOCH, cluster, denied, workgroup
from tests.support.helpers import BOUND, Crowd, all_refreshes_done, in_child, tagged

CLUSTERS, WORKGROUPS = Scope("cluster", "eu-west-1", None), Scope("workgroup", "eu-west-1", None)
UNREACHABLE = AwsError(
    "redshift:DescribeClusters", "every cluster", "me", "Unreachable", "No way.", "Check the network."
)
PATTERN = "ana.*|new"


def unreachable(here):
    here.aws.failing = {CLUSTERS: UNREACHABLE, WORKGROUPS: UNREACHABLE}
    return here


class TestNotManaged:
    def test_a_conn_id_that_no_warehouse_claims_is_none(self, site):
        assert site().ask("smtp_default") is None

    @pytest.mark.parametrize("conn_id", ["smtp_default", "xana", ""])
    def test_an_id_that_does_not_match_costs_no_call_even_without_a_catalog(self, site, conn_id):
        here = site(managed_conn_ids=PATTERN)
        assert here.ask(conn_id) is None
        assert here.aws.calls == {}

    @pytest.mark.parametrize("conn_id", ["analytics", "ANAlytics"])
    def test_an_id_that_matches_is_served(self, site, conn_id):
        here = site(cluster(tags={"airflow:conn-id": conn_id}), managed_conn_ids=PATTERN)
        assert here.ask(conn_id).conn_id == conn_id


class TestMisses:
    def test_a_thousand_misses_against_a_fresh_catalog_cost_no_call(self, site):
        here = site()
        here.ask("first")
        here.aws.calls.clear()
        assert [here.broker.connection(f"other-{number}") for number in range(1000)] == [None] * 1000
        assert here.aws.calls == {}

    def test_a_missing_id_that_matches_finds_a_cluster_tagged_a_moment_ago(self, site, clock):
        here = site(managed_conn_ids=PATTERN)
        here.refusal("new")
        here.aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        clock.pass_(9.9)
        here.refusal("new")
        assert here.aws.calls["list"] == 2
        clock.pass_(0.1)
        assert here.ask("new").description.startswith("cluster new")
        assert here.aws.calls["list"] == 4

    def test_any_number_of_misses_that_match_cost_one_listing(self, site, clock):
        here = site(managed_conn_ids=PATTERN)
        for pause in (10, 20, 40):
            outcomes = Crowd(16, lambda: here.broker.connection("new")).outcomes()
            assert [type(each) for each in outcomes] == [CannotServeError] * 16
            clock.pass_(pause)
        all_refreshes_done()
        assert here.aws.calls["list"] == 2 * 3

    def test_a_missing_id_without_a_pattern_waits_for_the_next_catalog(self, site, clock):
        here = site()
        here.ask("new")
        here.aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        clock.pass_(299)
        assert here.ask("new") is None
        assert here.aws.calls["list"] == 2


@pytest.mark.attempt("claim a conn_id that another warehouse claims")
class TestConflicts:
    OLD, YOUNG = tagged("old", created_at=EPOCH - 9), tagged("young", created_at=EPOCH - 5)

    @pytest.mark.parametrize("order", [1, -1])
    def test_a_conn_id_claimed_twice_is_refused_with_both_names_and_the_fixes(self, site, order):
        message = site(*[self.OLD, self.YOUNG][::order]).refusal()
        assert "'analytics' cannot be served: it is claimed by" in message
        assert str(self.OLD) in message
        assert str(self.YOUNG) in message
        assert "Remove the tag from all but one, or set on_conflict = oldest" in message

    @pytest.mark.parametrize("order", [1, -1])
    def test_with_oldest_the_warehouse_created_first_serves_it_and_the_conflict_is_logged_once(
        self, site, order, caplog
    ):
        here = site(*[self.OLD, self.YOUNG][::order], on_conflict="oldest")
        for _ in range(3):
            assert here.ask().host.startswith("old.")
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert str(self.OLD) in record.getMessage()
        assert str(self.YOUNG) in record.getMessage()
        assert "'analytics'" in record.getMessage()

    def test_each_conn_id_in_conflict_is_logged(self, site, caplog):
        tags = {"airflow:conn-id": "a b"}
        here = site(cluster("old", tags, created_at=EPOCH - 9), cluster("young", tags), on_conflict="oldest")
        here.ask("a")
        here.ask("b")
        assert [r.getMessage().split()[1].strip(":") for r in caplog.records if r.levelno == logging.ERROR] == [
            "'a'",
            "'b'",
        ]

    @pytest.mark.parametrize("created_at", [EPOCH, float("inf")], ids=["equal", "unknown"])
    def test_with_oldest_equal_creation_times_are_refused(self, site, created_at):
        here = site(*(tagged(name, created_at=created_at) for name in "ab"), on_conflict="oldest")
        message = here.refusal()
        assert "cluster a" in message
        assert "cluster b" in message
        assert "created at the same moment" in message
        assert here.aws.calls["mint"] == 0

    def test_with_oldest_one_whose_age_aws_leaves_out_may_be_the_oldest(self, site):
        here = site(self.YOUNG, tagged("ageless", created_at=float("inf")), on_conflict="oldest")
        assert "cannot decide since AWS does not say when cluster ageless" in here.refusal()
        assert here.aws.calls["mint"] == 0

    @pytest.mark.parametrize("status", ["creating", "CREATING"])
    def test_with_oldest_one_that_is_being_created_is_the_youngest(self, site, status):
        here = site(tagged("new", created_at=float("inf"), status=status), self.YOUNG, on_conflict="oldest")
        assert here.ask().host.startswith("young.")

    def test_with_oldest_younger_warehouses_of_equal_age_do_not_matter(self, site):
        assert site(self.YOUNG, tagged("a", created_at=EPOCH - 5), self.OLD, on_conflict="oldest").ask() is not None

    def test_a_cluster_and_a_workgroup_can_be_in_conflict(self, site):
        message = site(cluster(), workgroup(tags={"airflow:conn-id": "analytics"})).refusal()
        assert "cluster prod" in message
        assert "Serverless workgroup adhoc" in message

    def test_a_conflict_affects_no_other_conn_id(self, site):
        assert site(self.OLD, self.YOUNG, cluster("c", {"airflow:conn-id": "fine"})).ask("fine") is not None

    def test_an_ineligible_warehouse_causes_no_conflict(self, site):
        here = site(self.YOUNG, tagged("foreign", created_at=0), allowed_accounts=["123456789012"])
        here.aws.warehouses[1] = cluster("foreign", account="210987654321")
        assert here.ask().host.startswith("young.")


@pytest.mark.attempt("get the connection of another team")
class TestTeams:
    @pytest.mark.parametrize("settings", [{}, {"managed_conn_ids": PATTERN}], ids=["no-pattern", "pattern"])
    @pytest.mark.parametrize(
        ("team", "served"), [("bi", True), ("etl", False), (None, False), ("", False), ("BI", True)]
    )
    def test_a_teams_connection_answers_only_to_that_team(self, site, team, served, settings):
        here = site(tagged(team="bi"), **settings)
        assert (here.ask(team=team) is not None) == served
        assert here.aws.calls["mint"] == served

    @pytest.mark.parametrize("team", ["bi", None])
    def test_a_connection_without_a_team_answers_to_every_team(self, site, team):
        assert site().ask(team=team) is not None

    def test_a_conn_id_of_another_team_is_neither_missing_nor_refused(self, site, clock):
        here = site(tagged(team="bi"), managed_conn_ids=PATTERN)
        here.aws.failing[WORKGROUPS] = denied()
        assert here.ask() is None, "a worker does not know its team: after a refusal it would not ask the API server"
        clock.pass_(11)
        here.ask()
        assert here.aws.listed[CLUSTERS] == 1

    def test_two_teams_may_have_a_connection_of_the_same_name(self, site):
        here = site(tagged("a", team="etl"), tagged("b", team="bi"))
        assert here.ask(team="etl").host.startswith("a.")
        assert here.ask(team="bi").host.startswith("b.")
        assert here.ask() is None

    def test_a_connection_of_a_team_and_one_of_every_team_are_in_conflict_for_that_team(self, site):
        here = site(tagged("a", team="etl"), tagged("b"))
        assert "claimed by" in here.refusal(team="etl")
        assert here.ask(team="bi").host.startswith("b.")

    def test_a_malformed_team_is_refused_to_every_team(self, site):
        assert "airflow:team" in site(tagged(team="b i!")).refusal(team="bi")


class TestNothingListed:
    def test_an_id_that_matches_is_refused_with_the_reason(self, site):
        message = unreachable(site(managed_conn_ids=PATTERN)).refusal()
        assert "'analytics' matches managed_conn_ids and cannot be looked up: no warehouse could" in message
        assert str(UNREACHABLE) in message

    def test_without_a_pattern_it_is_none_after_one_logged_error_and_one_try(self, site, clock, caplog):
        here = unreachable(site())
        assert [here.ask(name) for name in ("analytics", "smtp_default") * 10] == [None] * 20
        assert [record.levelno for record in caplog.records].count(logging.ERROR) == 1
        assert here.aws.calls == {"list": 2}
        here.aws.failing = {}
        clock.pass_(10)
        assert here.ask() is not None

    def test_an_id_that_may_be_in_a_scope_that_could_not_be_listed_is_refused(self, site):
        here = site(workgroup(tags={"airflow:conn-id": "other"}), managed_conn_ids=PATTERN)
        here.aws.failing[CLUSTERS] = denied()
        message = here.refusal()
        assert "may be in what cannot" in message
        assert "clusters in eu-west-1" in message
        assert str(denied()) in message

    def test_without_a_pattern_an_id_that_was_not_listed_is_none(self, site):
        here = site(workgroup(tags={"airflow:conn-id": "other"}))
        here.aws.failing[CLUSTERS] = denied()
        assert here.ask() is None
        assert here.ask("other") is not None

    def test_after_an_unexpected_failure_of_a_listing_a_matching_id_is_refused_without_its_text(self, site):
        here = site(managed_conn_ids=PATTERN)
        here.aws.failing[CLUSTERS] = ZeroDivisionError("hunter2")
        assert "ZeroDivisionError" in here.refusal()
        assert "hunter2" not in here.refusal()


def test_a_lookup_that_began_before_the_refresh_of_another_one_ended_causes_no_second_one(site, clock, monkeypatch):
    here, others = site(), []

    def interrupted():
        # This lookup has found no entry; before it can start a refresh, that of another thread begins and ends.
        if others:
            others.pop()()
        return clock()

    monkeypatch.setattr(here.refresher, "clock", interrupted)
    others.append(here.ask)
    assert here.ask().password == "password-1"
    assert here.aws.calls == {"list": 2, "mint": 1}


def test_a_child_forked_during_a_lookup_answers_at_once(site, clock):
    here = site()
    here.ask()
    clock.pass_(4000)
    here.aws.hold = threading.Event()
    here.aws.entered.clear()
    crowd = Crowd(2, lambda: here.broker.connection("analytics").login)
    assert here.aws.entered.wait(BOUND)

    def child():
        here.aws.hold = None
        return here.broker.connection("analytics").login

    assert in_child(child) == "IAMR:airflow"
    here.aws.hold.set()
    assert crowd.outcomes() == ["IAMR:airflow"] * 2
