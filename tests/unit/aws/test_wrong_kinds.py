"""A field of another kind than in botocore's model hurts only the resource that it is a field of, and a time without a zone is in UTC."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from msgspec.structs import replace

from redshift_secrets.aws.client import AwsClient
from redshift_secrets.errors import AwsError
from redshift_secrets.model import MintRequest
from tests.support.fakes import EPOCH
from tests.unit.aws.test_missing_fields import FULL, SETTINGS, answers, check_the_others, listed, paths

__all__ = ["answers"]

LISTS = {
    "describe_clusters": "cluster",
    "describe_endpoint_access": "cluster",
    "list_workgroups": "workgroup",
    "list_namespaces": "workgroup",
    "list_endpoint_access": "workgroup",
    "get_resources": "workgroup",
}
READ = (
    "ClusterIdentifier", "ClusterNamespaceArn", "ClusterStatus", "ClusterCreateTime", "Tags", "DBName", "Endpoint", "CustomDomainName",
    "MasterPasswordSecretArn",
)  # fmt: skip
ODD: list[Any] = [
    None, "", "x", "\ud800", 0, -1, 70_000, 10**40, 1.5, float("nan"), True, b"x", [], ["x"], [None], {}, {"a": 1}, datetime(1, 1, 1),
]  # fmt: skip


def _without_zone(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None)


@pytest.fixture
def west(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A host whose zone is eight hours behind UTC."""
    monkeypatch.setenv("TZ", "XXX+8")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("method", LISTS)
def test_hurts_no_other(answers: dict[str, Any], method: str) -> None:
    before = listed(LISTS[method])
    for path in paths(FULL[method], method):
        # A list that is none is no answer at all, and of a cluster's hundred fields a few are read.
        if len(path) < 3 or (method == "describe_clusters" and len(path) > 3 and path[3] not in READ):
            continue
        for odd in ODD:
            answers[method] = inner = copy.deepcopy(FULL[method])
            for step in path[1:-1]:
                inner = inner[step]
            inner[path[-1]] = odd
            check_the_others(LISTS[method], before, listed(LISTS[method]))


def test_an_address_without_a_port_that_can_be_one_is_none(answers: dict[str, Any]) -> None:
    for odd in (0, -1, 70_000, True, "5439"):
        answers["describe_clusters"]["Clusters"][1]["Endpoint"]["Port"] = odd
        assert (warehouse := listed("cluster").specs["s2"][0].warehouse).host is None
        assert not warehouse.can_serve


@pytest.mark.usefixtures("west")
def test_a_time_without_a_zone_is_in_utc(answers: dict[str, Any]) -> None:
    answers["describe_clusters"]["Clusters"][1]["ClusterCreateTime"] = _without_zone(EPOCH)
    spec = listed("cluster").specs["s2"][0]
    assert spec.warehouse.created_at == EPOCH
    answers["get_cluster_credentials_with_iam"]["Expiration"] = _without_zone(EPOCH + 900)
    request = MintRequest.of(listed("cluster").specs["c1"][0])
    assert AwsClient(SETTINGS, clock=lambda: EPOCH).mint(request).expires_at == EPOCH + 900


@pytest.mark.parametrize(
    "secret",
    [
        "hunter2",
        '["hunter2"]',
        '{"username": "admin", "password": 123}',
        '{"username": "", "password": "hunter2"}',
        '{"password": "hunter2"}',
        "[" * 100_000,
        None,
    ],
    ids=lambda secret: str(secret)[:20],
)
def test_an_admin_secret_of_another_form_is_told_as_that_and_not_quoted(
    answers: dict[str, Any], secret: str | None
) -> None:
    answers["get_secret_value"] = {"SecretBinary": b"hunter2"} if secret is None else {"SecretString": secret}
    request = replace(MintRequest.of(listed("cluster").specs["s1"][0]), auth="secret", admin_secret_arn="arn:x")
    with pytest.raises(AwsError, match="the admin secret is not a JSON object with username and password") as caught:
        AwsClient(SETTINGS).mint(request)
    assert caught.value.code == "UnreadableSecret"
    assert "hunter2" not in str(caught.value)
