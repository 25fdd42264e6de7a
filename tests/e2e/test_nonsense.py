"""What comes with status 200 is no answer of AWS: the page of a portal, nothing, half an answer, that of another service."""

from __future__ import annotations

import re

import pytest

from redshift_secrets.errors import CannotServeError
from redshift_secrets.local.aws.faults import NONSENSE
from redshift_secrets.local.stand_in import StandIn
from tests.e2e.conftest import LIST, MINT, MINT_WITH_IAM, MakeBroker
from tests.e2e.test_failures import refusal

CAME = {
    "html": r"an HTML page \(HTTP status 200, Content-Type: text/html.*\)",
    "empty": r"an empty body \(HTTP status 200, .*0 bytes\)",
    "truncated": r"(JSON|XML) that is cut off or broken \(HTTP status 200, ",
    "other": r"other (JSON|XML) \(HTTP status 200, ",
}
CALLS = {
    LIST: "analytics",
    "redshift:DescribeEndpointAccess": "by-vpc",
    MINT: "analytics",
    MINT_WITH_IAM: "by-iam",
    "secretsmanager:GetSecretValue": "by-secret",
    "redshift-serverless:ListWorkgroups": "serverless",
    "redshift-serverless:ListNamespaces": "serverless",
    "redshift-serverless:ListEndpointAccess": "serverless-vpc",
    "redshift-serverless:GetCredentials": "serverless",
    "sts:AssumeRole": "remote",
}
"""What is asked, and a connection that needs the answer."""
ONCE = {"retries": {"total_max_attempts": 1}}
"""Botocore asks again where an answer cannot be parsed."""


@pytest.mark.parametrize("kind", NONSENSE)
@pytest.mark.parametrize("operation", CALLS)
def test_is_called_that(make_broker: MakeBroker, stand_in: StandIn, operation: str, kind: str) -> None:
    stand_in.aws.faults.add(operation=operation, kind=kind)
    message = refusal(make_broker(managed_conn_ids=".*", config=ONCE), CALLS[operation])
    name = operation.partition(":")[2]
    assert re.search(
        f"{stand_in.aws.url} was asked for {name} and gave no answer of that kind.*, but {CAME[kind]}", message
    )
    assert "A proxy, a captive portal or another service answers there" in message
    assert "UnreadableResponse" in message
    assert "unexpected" not in message
    for quoted in ("log in to this network", "<", "thing"):
        assert quoted not in message.lower()


@pytest.mark.parametrize("kind", NONSENSE)
def test_from_the_tagging_api_the_tags_are_asked_for_one_by_one(
    make_broker: MakeBroker, stand_in: StandIn, kind: str
) -> None:
    stand_in.aws.faults.add(operation="resourcegroupstaggingapi:GetResources", kind=kind)
    assert make_broker(config=ONCE).connection("serverless") is not None


@pytest.mark.parametrize("kind", NONSENSE)
@pytest.mark.parametrize(
    ("operation", "others"),
    [
        ("redshift:DescribeEndpointAccess", ("analytics", "serverless")),
        ("redshift-serverless:ListNamespaces", ("analytics",)),
        ("redshift-serverless:ListEndpointAccess", ("analytics", "serverless")),
        ("sts:GetCallerIdentity", ("analytics", "serverless")),
    ],
)
def test_hurts_only_what_needs_the_answer(
    make_broker: MakeBroker, stand_in: StandIn, operation: str, others: tuple[str, ...], kind: str
) -> None:
    stand_in.aws.faults.add(operation=operation, kind=kind)
    broker = make_broker(managed_conn_ids=".*", config=ONCE)
    for conn_id in others:
        assert broker.connection(conn_id) is not None


@pytest.mark.parametrize("kind", NONSENSE)
def test_from_a_direct_look_at_a_paused_warehouse(make_broker: MakeBroker, stand_in: StandIn, kind: str) -> None:
    arn = "arn:aws:redshift:eu-west-1:123456789012:cluster:prod"
    stand_in.aws.set_status(arn, "paused")
    try:
        broker = make_broker(managed_conn_ids=".*", config=ONCE, accounts=[])
        with pytest.raises(CannotServeError, match="is paused"):
            broker.connection("analytics")
        stand_in.aws.faults.add(operation=LIST, kind=kind)
        broker._clock.pass_(6)  # type: ignore[attr-defined]  # it is looked at again
        message = refusal(broker, "analytics")
    finally:
        stand_in.aws.set_status(arn, "available")
    assert "was asked for DescribeClusters and gave no answer of that kind" in message
