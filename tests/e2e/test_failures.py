"""AWS that refuses, throttles, fails or does not answer: the outcome of a lookup, and its error message."""

from __future__ import annotations

import logging
import re

import boto3
import pytest

from redshift_secrets.cache import entry
from redshift_secrets.errors import CannotServeError
from redshift_secrets.local.stand_in import StandIn
from tests.e2e.conftest import LIST, MINT, REMOTE_ROLE, STRICT_ROLE, MakeBroker
from tests.support.fakes import Clock
from tests.support.helpers import all_refreshes_done

PROD = "arn:aws:redshift:eu-west-1:123456789012:cluster:prod"


def refusal(broker: object, conn_id: str) -> str:
    with pytest.raises(CannotServeError) as caught:
        broker.connection(conn_id)  # type: ignore[attr-defined]
    return str(caught.value)


def test_a_denied_mint_names_resource_caller_and_remedy(make_broker: MakeBroker, stand_in: StandIn) -> None:
    stand_in.aws.faults.add(operation=MINT, kind="access_denied")
    message = refusal(make_broker(), "analytics")
    assert "connection 'analytics' cannot be served" in message
    assert "AccessDenied" in message
    assert "as arn:aws:iam::123456789012:user/airflow" in message
    assert f"Grant {MINT} on arn:aws:redshift:eu-west-1:123456789012:dbuser:prod/etl" in message


def test_a_throttled_mint_is_retried_within_the_lookup(make_broker: MakeBroker, stand_in: StandIn) -> None:
    stand_in.aws.faults.add(operation=MINT, kind="throttle", times=1)
    assert make_broker().connection("analytics") is not None
    assert stand_in.aws.calls.by_operation()[MINT] == 2


def test_a_mint_that_stays_throttled_is_refused_and_not_retried_at_once(
    make_broker: MakeBroker, stand_in: StandIn, clock: Clock
) -> None:
    stand_in.aws.faults.add(operation=MINT, kind="throttle")
    broker = make_broker()
    assert "Throttling" in refusal(broker, "analytics")
    asked = stand_in.aws.calls.by_operation()[MINT]
    assert "Throttling" in refusal(broker, "analytics")
    assert stand_in.aws.calls.by_operation()[MINT] == asked
    stand_in.aws.faults.clear()
    clock.pass_(11)
    assert broker.connection("analytics") is not None


def test_a_failed_refresh_returns_the_stale_credential_until_it_expires(
    make_broker: MakeBroker, stand_in: StandIn, clock: Clock
) -> None:
    broker = make_broker()
    first = broker.connection("analytics")
    stand_in.aws.faults.add(operation=MINT, kind="server_error")
    clock.pass_(2000)
    assert first is not None
    for _ in range(3):
        again = broker.connection("analytics")
        assert again is not None
        assert again.password == first.password
    clock.pass_(1700)  # it has expired
    assert "redshift:GetClusterCredentials" in refusal(broker, "analytics")


@pytest.mark.parametrize("operation", ["*", MINT])
def test_a_lookup_ends_where_aws_does_not_answer_and_the_next_one_does_not_ask(
    make_broker: MakeBroker, stand_in: StandIn, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "_FIRST_PAUSE_SECONDS", entry._LONGEST_PAUSE_SECONDS)  # on a busy machine, too
    broker = make_broker(aws_timeout_seconds=2, managed_conn_ids=".*")
    if operation == MINT:
        while "no warehouse claims it" not in refusal(broker, "nobody"):
            pass  # a busy machine takes longer to list
    stand_in.aws.faults.add(operation=operation, kind="black_hole")  # until the test ends
    message = refusal(broker, "analytics")
    assert stand_in.aws.url in message, "the endpoint that does not answer"
    assert "eu-west-1" in message
    assert re.search("called as (arn|the default)|as the default AWS identity of this process", message)
    assert "Check the route to it" in message
    all_refreshes_done()
    asked = stand_in.aws.calls.total()
    refusal(broker, "analytics")
    assert stand_in.aws.calls.total() == asked


def test_without_a_network_one_error_is_logged_before_the_lookup_ends(
    make_broker: MakeBroker, stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    stand_in.aws.faults.add(operation="*", kind="black_hole")
    broker = make_broker(aws_timeout_seconds=2, accounts=[])
    assert broker.connection("analytics") is None
    (line,) = (record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR)
    for told in (stand_in.aws.url, "eu-west-1", "the default AWS identity of this process", "Check the route to it"):
        assert told in line
    assert line.count("Check the route to it") == 1


def test_a_region_that_does_not_answer_any_more_leaves_the_others_working_and_keeps_its_known_connections(
    make_broker: MakeBroker, stand_in: StandIn, clock: Clock
) -> None:
    broker = make_broker()
    assert broker.connection("remote") is not None
    stand_in.aws.faults.add(operation=LIST, kind="black_hole", region="us-east-1")
    clock.pass_(400)
    assert broker.connection("analytics") is not None
    assert broker.connection("remote") is not None


def test_a_denied_account_leaves_the_others_working_and_keeps_its_known_connections(
    make_broker: MakeBroker, stand_in: StandIn, clock: Clock
) -> None:
    broker = make_broker()
    assert broker.connection("remote") is not None
    stand_in.aws.faults.add(operation=LIST, kind="access_denied", account="222222222222")
    clock.pass_(400)
    broker.connection("analytics")
    assert "remote" in broker.inventory.snapshot().specs
    assert broker.connection("remote") is not None
    assert broker.connection("analytics") is not None


def test_a_conn_id_that_the_pattern_matches_is_refused_while_its_account_fails(
    make_broker: MakeBroker, stand_in: StandIn
) -> None:
    stand_in.aws.faults.add(operation=LIST, kind="access_denied", account="222222222222")
    broker = make_broker(managed_conn_ids="^(remote|analytics)")
    assert broker.connection("analytics") is not None
    message = refusal(broker, "remote")
    assert "may be in what cannot" in message
    assert REMOTE_ROLE in message
    assert make_broker().connection("remote") is None


def test_without_a_catalog_only_a_conn_id_that_the_pattern_matches_is_refused(
    make_broker: MakeBroker, stand_in: StandIn, clock: Clock
) -> None:
    stand_in.aws.faults.add(operation="*", kind="access_denied")
    without_pattern, with_pattern = make_broker(), make_broker(managed_conn_ids="^ana")
    assert without_pattern.connection("analytics") is None
    asked = stand_in.aws.calls.total()
    assert without_pattern.connection("reporting") is None
    assert stand_in.aws.calls.total() == asked
    assert "no warehouse could be listed" in refusal(with_pattern, "analytics")
    stand_in.aws.faults.clear()
    clock.pass_(11)
    assert without_pattern.connection("analytics") is not None
    assert with_pattern.connection("analytics") is not None


@pytest.mark.parametrize("external_id", [None, "wrong-word"])
def test_a_role_that_cannot_be_assumed_is_named(
    make_broker: MakeBroker, stand_in: StandIn, external_id: str | None
) -> None:
    account = {"role_arn": STRICT_ROLE, **({"external_id": external_id} if external_id else {})}
    message = refusal(make_broker(accounts=[account], managed_conn_ids="^strict$"), "strict")
    assert "sts:AssumeRole" in message
    assert STRICT_ROLE in message
    assert "external_id" in message
    assert "wrong-word" not in message


def test_no_aws_credentials_at_all(make_broker: MakeBroker, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    message = refusal(make_broker(accounts=None, managed_conn_ids=".*"), "analytics")
    assert "NoCredentials" in message
    assert "instance profile" in message


@pytest.mark.parametrize(
    ("kind", "advice"), [("expired_token", "have expired; renew"), ("clock_skew", "out of sync with AWS")]
)
def test_an_expired_session_and_a_wrong_clock_have_their_own_advice(
    make_broker: MakeBroker, stand_in: StandIn, kind: str, advice: str
) -> None:
    stand_in.aws.faults.add(operation=MINT, kind=kind)
    assert advice in refusal(make_broker(), "analytics")


def test_a_profile_that_does_not_exist(make_broker: MakeBroker) -> None:
    message = refusal(make_broker(accounts=None, profile_name="nobody", managed_conn_ids=".*"), "analytics")
    assert "Misconfigured" in message
    assert "nobody" in message


def test_a_paused_cluster_is_refused_until_it_is_back(make_broker: MakeBroker, stand_in: StandIn, clock: Clock) -> None:
    client = boto3.client("redshift", region_name="eu-west-1")
    client.pause_cluster(ClusterIdentifier="prod")
    try:
        broker = make_broker()
        message = refusal(broker, "analytics")
        assert "cluster prod (account 123456789012, eu-west-1) is paus" in message
        assert "Resume it" in message
    finally:
        client.resume_cluster(ClusterIdentifier="prod")
        stand_in.aws.set_status(PROD, "available")
    clock.pass_(6)  # the catalog is still the one that saw it paused
    listed = stand_in.aws.calls.by_operation()[LIST]
    assert broker.connection("analytics") is not None
    assert stand_in.aws.calls.by_operation()[LIST] == listed + 1


def test_a_cluster_tagged_a_moment_ago_is_found_for_a_conn_id_that_the_pattern_matches(
    make_broker: MakeBroker, stand_in: StandIn, clock: Clock
) -> None:
    broker = make_broker(managed_conn_ids="^(analytics|brand-new)$")
    assert "no warehouse claims it" in refusal(broker, "brand-new")
    client = boto3.client("redshift", region_name="eu-west-1")
    before = next(
        t["Value"] for t in client.describe_clusters()["Clusters"][0]["Tags"] if t["Key"] == "airflow:conn-id"
    )
    client.create_tags(ResourceName=PROD, Tags=[{"Key": "airflow:conn-id", "Value": f"{before} brand-new"}])
    try:
        refusal(broker, "brand-new")  # listed less than ten seconds ago
        clock.pass_(11)
        assert broker.connection("brand-new") is not None
    finally:
        client.create_tags(ResourceName=PROD, Tags=[{"Key": "airflow:conn-id", "Value": before}])
