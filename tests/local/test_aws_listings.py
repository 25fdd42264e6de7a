"""A listing that was cut is continued by another client, from the page tokens that the first one was given."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from redshift_secrets.aws.client import AwsClient
from redshift_secrets.aws.paging import ask_aws
from redshift_secrets.local.aws import SimulatedAws
from redshift_secrets.local.aws.arns import warehouse_arn
from redshift_secrets.local.config import Cluster, Warehouses, Workgroup
from redshift_secrets.local.tokens import TokenRegistry
from redshift_secrets.model import Scope
from redshift_secrets.settings import Settings
from tests.local.aws_harness import ACCOUNT, Endpoints
from tests.local.patience import PATIENCE
from tests.support.fakes import Clock

TAGS = {"airflow:conn-id": "analytics", "airflow:endpoint": "vpc:private"}
CLUSTERS = tuple(Cluster(f"c{number:03}", tags=TAGS, vpc_endpoints=("private",)) for number in range(201))
WORKGROUPS = tuple(Workgroup(f"w{number:03}", tags=TAGS, vpc_endpoints=("private",)) for number in range(101))
LISTINGS = {
    "cluster": {"redshift:DescribeClusters": 3, "redshift:DescribeEndpointAccess": 3},
    "workgroup": {
        "redshift-serverless:ListEndpointAccess": 2,
        "redshift-serverless:ListNamespaces": 2,
        "redshift-serverless:ListWorkgroups": 2,
        "resourcegroupstaggingapi:GetResources": 2,
    },
}


class CutError(Exception):
    """The listing is cut once AWS has answered a call."""


@pytest.fixture
def endpoints() -> Endpoints:
    return Endpoints(
        ((warehouse_arn(each), kind), (f"{kind.removeprefix('vpc:')}.example", 5439))
        for each in (*CLUSTERS, *WORKGROUPS)
        for kind in ("default", "vpc:private")
    )


@pytest.fixture
def aws(endpoints: Endpoints, tokens: TokenRegistry, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Any:
    with SimulatedAws(Warehouses(CLUSTERS, WORKGROUPS), tokens, endpoints=endpoints, clock=clock) as running:
        key_id, secret, _ = running.add_access_key(f"arn:aws:iam::{ACCOUNT}:user/etl-bot")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        yield running


@pytest.mark.parametrize("kind", ["cluster", "workgroup"])
def test_a_listing_is_continued_wherever_it_was_cut(aws: SimulatedAws, kind: Any) -> None:
    settings = Settings.from_kwargs(
        {"regions": ["eu-west-1"], "endpoint_url": aws.url, "aws_timeout_seconds": PATIENCE}
    )
    answers: dict[str, Any] = {}

    def recall(name: str, ask: Callable[[], Any]) -> Any:
        if name not in answers:
            answers[name] = ask()
            raise CutError
        return answers[name]

    scope = Scope(kind, "eu-west-1", None)
    for client in itertools.cycle([AwsClient(settings), AwsClient(settings)]):
        try:
            found = client.list(scope, recall)
            break
        except CutError:
            pass
    assert aws.calls.by_operation() == LISTINGS[kind]
    assert [each.identifier for each in found] == [
        getattr(each, "identifier", None) or each.name for each in (CLUSTERS if kind == "cluster" else WORKGROUPS)
    ]
    assert all(each.host == "default.example" and each.vpc_endpoints[0].host == "private.example" for each in found)
    assert found == client.list(scope, ask_aws)
