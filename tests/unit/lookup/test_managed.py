"""`managed_conn_ids`: which conn_ids belong to this backend. docs/contract.md, "Looking a conn_id up"."""

from __future__ import annotations

import logging

import pytest

from redshift_secrets.errors import AwsError
from redshift_secrets.model import Scope
from tests.support.fakes import cluster, denied, workgroup
from tests.support.helpers import tagged

CLUSTERS, WORKGROUPS = Scope("cluster", "eu-west-1", None), Scope("workgroup", "eu-west-1", None)
ROLE = "arn:aws:iam::210987654321:role/reader"
MANAGED = "^(analytics|dw_)"
MWAA = "^(?!aws_default$).*$"
"""What Amazon MWAA sets `connections_lookup_pattern` to, unless a site sets it."""
UNREACHABLE = AwsError(
    "redshift:DescribeClusters", "every cluster", "me", "Unreachable", "No way.", "Check the network.", True
)


def unreachable(here):
    here.aws.failing = dict.fromkeys((CLUSTERS, WORKGROUPS), UNREACHABLE)
    return here


class TestMissing:
    def test_the_refusal_says_what_was_looked_for_where_as_whom_and_what_to_do(self, site):
        assert site(managed_conn_ids=MANAGED).refusal("dw_sales") == (
            "connection 'dw_sales' matches managed_conn_ids, and no warehouse claims it: it is in no tag airflow:conn-id of"
            " clusters in eu-west-1, Serverless workgroups in eu-west-1, listed as the default AWS identity of this process."
            " Tag its warehouse, or exclude the conn_id from managed_conn_ids; `redshift-secrets list` shows tags that have"
            " no effect"
        )

    @pytest.mark.parametrize("conn_id", ["dw sales", "dw%2Fsales", "dw_sales!", "dw\nsales"])
    def test_of_one_that_no_tag_can_have_it_says_that(self, site, conn_id):
        message = site(managed_conn_ids="dw").refusal(conn_id)
        assert (
            "matches managed_conn_ids, and no tag can claim it: it must be a conn_id that both Airflow and" in message
        )
        assert "Tag its warehouse" not in message

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"tag_prefix": "dwh/"}, "in no tag dwh/conn-id of"),
            ({"warehouses": ["clusters"]}, "of clusters in eu-west-1, listed as"),
            (
                {"regions": ["us-east-1", "us-west-2"], "warehouses": ["clusters"]},
                "clusters in us-east-1, clusters in us-",
            ),
            ({"accounts": [{"role_arn": ROLE}]}, f"clusters in eu-west-1 as {ROLE}, "),
            ({"role_arn": ROLE}, f"listed as {ROLE}."),
            ({"profile_name": "prod"}, "listed as profile prod."),
        ],
    )
    def test_it_names_the_tag_the_scopes_and_the_caller_of_this_site(self, site, settings, words):
        assert words in site(managed_conn_ids=MANAGED, **settings).refusal("dw_sales")

    def test_what_no_tag_claims_is_none_where_the_site_does_not_say_what_it_manages(self, site):
        assert site().ask("dw_sales") is None

    def test_a_warehouse_that_may_claim_nothing_does_not_claim_it(self, site):
        assert "no warehouse claims it" in site(managed_conn_ids=MANAGED, required_tags={"env": "prod"}).refusal()


@pytest.mark.attempt("claim a conn_id outside managed_conn_ids")
class TestOutside:
    @pytest.mark.parametrize("conn_id", ["aws_default", "my_analytics", "d", "dw_" + "x" * 248])
    def test_an_id_outside_is_none_without_io_whoever_claims_it(self, site, conn_id):
        here = site(cluster(tags={"airflow:conn-id": conn_id}), managed_conn_ids=MANAGED)
        assert here.ask(conn_id) is None
        assert here.aws.calls == {}

    def test_a_tag_that_claims_one_is_reported_with_the_resource_once_and_its_other_claims_hold(self, site, caplog):
        here = site(cluster(tags={"airflow:conn-id": "analytics aws_default"}), managed_conn_ids=MANAGED)
        assert here.ask() is not None
        problem = (
            "tag airflow:conn-id: 'aws_default' is outside managed_conn_ids, so no tag can claim it (on cluster prod (account"
            " 123456789012, eu-west-1))"
        )
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [problem]
        snapshot = here.broker.inventory.snapshot()
        assert (list(snapshot.specs), snapshot.problems) == (["analytics"], (problem,))

    def test_so_is_one_that_is_never_looked_up(self, site):
        here = site(cluster(tags={"airflow:conn-id": "analytics aws_default"}), connections_lookup_pattern=MWAA)
        snapshot = here.broker.inventory.snapshot()
        assert list(snapshot.specs) == ["analytics"]
        assert (
            "'aws_default' does not match connections_lookup_pattern, so it is never looked up" in snapshot.problems[0]
        )

    def test_letter_case_does_not_count(self, site):
        assert site(cluster(tags={"airflow:conn-id": "DW_Sales"}), managed_conn_ids=MANAGED).ask("DW_Sales") is not None

    def test_a_claim_of_one_causes_no_conflict(self, site):
        here = site(tagged("a"), cluster("b", {"airflow:conn-id": "other"}), managed_conn_ids="analytics$")
        assert here.ask().host.startswith("a.")
        assert here.ask("other") is None


class TestLookupPattern:
    """It means what it means in the Amazon provider, and makes no conn_id a managed one."""

    @pytest.mark.parametrize("conn_id", ["aws_default", "AWS_DEFAULT"])
    def test_an_id_that_does_not_match_is_never_looked_up(self, site, conn_id):
        here = site(cluster(tags={"airflow:conn-id": conn_id}), connections_lookup_pattern=MWAA)
        assert here.ask(conn_id) is None
        assert here.aws.calls == {}

    def test_nor_is_one_that_managed_conn_ids_matches(self, site):
        here = site(connections_lookup_pattern="^dw_", managed_conn_ids=MANAGED)
        assert here.ask() is None
        assert here.aws.calls == {}

    def test_while_aws_cannot_be_reached_an_id_that_matches_is_none_after_one_error(self, site, caplog):
        here = unreachable(site(connections_lookup_pattern=MWAA))
        for _ in range(3):
            assert here.ask("my_postgres") is None
        errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert len(errors) == 1
        assert str(UNREACHABLE) in errors[0]
        assert "clusters in eu-west-1" in errors[0]

    def test_an_id_that_matches_and_that_no_tag_claims_is_none_without_another_listing(self, site, clock):
        here = site(connections_lookup_pattern=MWAA)
        for _ in range(5):
            assert here.ask("my_postgres") is None
            clock.pass_(25)
        assert here.aws.calls == {"list": 2}

    def test_with_both_only_what_is_managed_is_refused_while_aws_cannot_be_reached(self, site):
        here = unreachable(site(connections_lookup_pattern=MWAA, managed_conn_ids=MANAGED))
        assert here.ask("my_postgres") is None
        assert "'dw_sales' matches managed_conn_ids and cannot be looked up: no warehouse" in here.refusal("dw_sales")


class TestTooLong:
    @pytest.mark.parametrize("settings", [{}, {"managed_conn_ids": "."}, {"connections_lookup_pattern": MWAA}])
    def test_an_id_that_airflow_cannot_store_is_never_looked_up(self, site, settings):
        here = site(**settings)
        assert here.ask("x" * 251) is None
        assert here.aws.calls == {}

    def test_the_longest_one_is(self, site):
        assert site(cluster(tags={"airflow:conn-id": "x" * 250})).ask("x" * 250) is not None


@pytest.mark.attempt("get the connection of another team")
class TestTeams:
    @pytest.mark.parametrize("asker", ["etl", "", None])
    @pytest.mark.parametrize("failing", [None, WORKGROUPS])
    def test_for_an_asker_that_may_not_have_it_a_claimed_id_is_not_managed(self, site, asker, failing):
        here = site(tagged(team="bi", duration="nonsense"), managed_conn_ids=MANAGED)
        if failing:
            here.aws.failing[failing] = denied()
        assert here.ask(team=asker) is None
        assert "airflow:duration" in here.refusal(team="bi")

    @pytest.mark.parametrize("asker", ["etl", None])
    def test_one_that_nobody_claims_is_refused_to_every_asker(self, site, asker):
        assert "no warehouse claims it" in site(managed_conn_ids=MANAGED).refusal("dw_sales", team=asker)

    @pytest.mark.parametrize("team", ["finance", "Finance", "FINANCE"])
    @pytest.mark.parametrize("asker", ["finance", "Finance", "FINANCE"])
    def test_letter_case_of_a_team_does_not_count(self, site, team, asker):
        here = site(tagged(team=team), workgroup(tags={"airflow:conn-id": "analytics", "airflow:team": "sales"}))
        assert here.ask(team=asker).host.startswith("prod.")

    def test_two_spellings_of_a_team_are_one_and_share_a_credential(self, site):
        here = site(tagged(team="Finance"))
        assert here.ask(team="finance").password == here.ask(team="FINANCE").password
        assert here.aws.calls["mint"] == 1
