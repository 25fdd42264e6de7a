"""Faults and call counts of the simulated AWS."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from redshift_secrets.local.aws import Fault, SimulatedAws, fault_effects
from redshift_secrets.local.config import Warehouses
from tests.local.aws_harness import ACCOUNT, OTHER_ACCOUNT, client, client_with, error_code, make_aws
from tests.local.patience import PATIENCE


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a delay or a black hole holds a request."""
    event = threading.Event()

    def hold(*arguments: Any) -> None:
        event.set()
        fault_effects.hold(*arguments)

    monkeypatch.setattr("redshift_secrets.local.aws.application.hold", hold)
    return event


def in_background(call: Any, **arguments: Any) -> Future[Any]:
    pool = ThreadPoolExecutor(1)
    future = pool.submit(call, **arguments)
    pool.shutdown(wait=False)
    return future


def http_json(aws: SimulatedAws, method: str, path: str, body: object = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(aws.url.removeprefix("http://"), timeout=PATIENCE)
    connection.request(method, path, body if isinstance(body, str) else json.dumps(body))
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, json.loads(content) if content else None


@pytest.mark.parametrize(
    ("service", "operation", "name", "code"),
    [
        ("redshift", "describe_clusters", "redshift:DescribeClusters", "Throttling"),
        ("redshift-serverless", "list_workgroups", "redshift-serverless:ListWorkgroups", "ThrottlingException"),
        ("resourcegroupstaggingapi", "get_resources", "resourcegroupstaggingapi:GetResources", "ThrottlingException"),
        ("sts", "get_caller_identity", "sts:*", "Throttling"),
        ("secretsmanager", "list_secrets", "secretsmanager:ListSecrets", "ThrottlingException"),
        ("iam", "list_users", "*", "Throttling"),
        ("s3", "list_buckets", "s3:ListBuckets", "Throttling"),
    ],
)
def test_throttle(aws: SimulatedAws, service: str, operation: str, name: str, code: str) -> None:
    aws.faults.add(name, "throttle", times=1)
    call = getattr(client(aws, service), operation)
    with pytest.raises(ClientError, match="Rate exceeded") as error:
        call()
    assert error_code(error) == (code, 400)
    assert call()["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert aws.calls.total() == 2


def test_access_denied_has_the_message_of_aws(aws: SimulatedAws) -> None:
    aws.faults.add("*", "access_denied")
    user = f"arn:aws:iam::{ACCOUNT}:user/team/etl-bot"
    serverless = client(aws, "redshift-serverless")
    redshift = client(aws)
    prefix = f"arn:aws:redshift:eu-west-1:{ACCOUNT}"
    for call, arguments, status, action, resource in (
        (redshift.describe_clusters, {}, 403, "redshift:DescribeClusters", f"{prefix}:cluster:*"),
        (
            redshift.get_cluster_credentials,
            {"ClusterIdentifier": "etl", "DbUser": "bob"},
            403,
            "redshift:GetClusterCredentials",
            f"{prefix}:dbuser:etl/bob",
        ),
        (
            redshift.get_cluster_credentials_with_iam,
            {"ClusterIdentifier": "etl"},
            403,
            "redshift:GetClusterCredentialsWithIAM",
            f"{prefix}:dbname:etl/*",
        ),
        (
            serverless.list_tags_for_resource,
            {"resourceArn": "arn:x"},
            400,
            "redshift-serverless:ListTagsForResource",
            "arn:x",
        ),
        (client(aws, "resourcegroupstaggingapi").get_resources, {}, 400, "tag:GetResources", "*"),
        (client(aws, "secretsmanager").get_secret_value, {"SecretId": "s"}, 400, "secretsmanager:GetSecretValue", "s"),
    ):
        with pytest.raises(ClientError) as error:
            call(**arguments)
        assert error_code(error) == ("AccessDenied" if status == 403 else "AccessDeniedException", status)
        assert error.value.response["Error"]["Message"] == (
            f"User: {user} is not authorized to perform: {action} on resource: {resource} "
            f"because no identity-based policy allows the {action} action"
        )


@pytest.mark.parametrize(
    ("service", "operation"), [("redshift", "describe_clusters"), ("secretsmanager", "list_secrets")]
)
def test_server_error(aws: SimulatedAws, service: str, operation: str) -> None:
    aws.faults.add(f"{service}:*", "server_error")
    with pytest.raises(ClientError) as error:
        getattr(client(aws, service), operation)()
    assert error_code(error) == ("InternalFailure", 500)


def test_a_fault_can_be_limited_to_a_region_and_account(aws: SimulatedAws) -> None:
    aws.faults.add("redshift:DescribeClusters", "server_error", region="us-east-1", account=OTHER_ACCOUNT)
    assert client(aws, region="us-east-1").describe_clusters()["Clusters"] == []
    other_user = f"arn:aws:iam::{OTHER_ACCOUNT}:user/bob"
    assert client(aws, arn=other_user).describe_clusters()["Clusters"] == []
    with pytest.raises(ClientError):
        client(aws, region="us-east-1", arn=other_user).describe_clusters()
    assert client(aws, region="us-east-1", arn=other_user).describe_tags()["TaggedResources"] == []


def test_faults_apply_in_order_and_for_their_times(aws: SimulatedAws) -> None:
    aws.faults.add("redshift:*", "throttle", times=2)
    aws.faults.add("redshift:*", "server_error", times=1)
    assert [fault.times for fault in aws.faults.active()] == [2, 1]
    redshift = client(aws)
    codes = []
    for _ in range(3):
        with pytest.raises(ClientError) as error:
            redshift.describe_clusters()
        codes.append(error_code(error)[0])
    assert codes == ["Throttling", "Throttling", "InternalFailure"]
    assert aws.faults.active() == ()
    assert len(redshift.describe_clusters()["Clusters"]) == 1


def test_a_delay_waits_for_its_seconds() -> None:
    released = Mock(spec=threading.Event)
    fault_effects.hold(Fault("*", "delay", seconds=600.0), released, Mock(spec=socket.socket))
    released.wait.assert_called_once_with(600.0)


def test_a_delayed_call_succeeds(aws: SimulatedAws, held: threading.Event) -> None:
    aws.faults.add("redshift:*", "delay", seconds=0.001)
    assert len(client(aws).describe_clusters()["Clusters"]) == 1
    assert held.is_set()


@pytest.mark.parametrize(("kind", "seconds"), [("black_hole", None), ("delay", 600.0)])
def test_clear_releases_held_requests(
    aws: SimulatedAws, held: threading.Event, kind: str, seconds: float | None
) -> None:
    aws.faults.add("redshift:DescribeClusters", kind, seconds=seconds)
    pending = in_background(client(aws).describe_clusters)
    assert held.wait(PATIENCE)
    assert not pending.done()
    assert aws.calls.by_operation() == {"redshift:DescribeClusters": 1}
    aws.faults.clear()
    assert len(pending.result(PATIENCE)["Clusters"]) == 1


def test_a_black_hole_also_holds_requests_with_an_invalid_key(aws: SimulatedAws, held: threading.Event) -> None:
    aws.faults.add("*", "black_hole")
    redshift = client_with(aws, "redshift", "eu-west-1", "AKIAIOSFODNN7EXAMPLE", "x", None, read_timeout=0.2)
    with pytest.raises(ReadTimeoutError):
        redshift.describe_clusters()
    assert held.wait(PATIENCE)


def test_a_black_hole_ends_when_the_client_disconnects(aws: SimulatedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def hold(*arguments: Any) -> None:
        try:
            fault_effects.hold(*arguments)
        except ConnectionAbortedError:
            ended.set()
            raise

    monkeypatch.setattr("redshift_secrets.local.aws.application.hold", hold)
    aws.faults.add("redshift:*", "black_hole")
    key = aws.add_access_key(f"arn:aws:iam::{ACCOUNT}:user/x")
    with pytest.raises(ReadTimeoutError):
        client_with(aws, "redshift", "eu-west-1", *key, read_timeout=0.1).describe_clusters()
    assert ended.wait(PATIENCE)


def test_stop_closes_the_connections_of_held_requests(held: threading.Event) -> None:
    aws = make_aws(Warehouses())
    aws.start()
    aws.faults.add("redshift:*", "black_hole")
    pending = in_background(client(aws).describe_clusters)
    assert held.wait(PATIENCE)
    aws.stop()
    with pytest.raises(ConnectionClosedError):
        pending.result(PATIENCE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"operation": "redshift:*", "kind": "explode"}, "unknown kind 'explode'; known are throttle"),
        ({"operation": "redshift:DescribeCluster", "kind": "throttle"}, "did you mean 'DescribeClusters'"),
        ({"operation": "redshfit:*", "kind": "throttle"}, "unknown service 'redshfit'"),
        ({"operation": "DescribeClusters", "kind": "throttle"}, "must be 'service:Operation'"),
        ({"operation": "*", "kind": "delay"}, "'seconds' is for the kind 'delay'"),
        ({"operation": "*", "kind": "throttle", "seconds": 1}, "'seconds' is for the kind 'delay'"),
        ({"operation": "*", "kind": "delay", "seconds": -1}, "must not be negative"),
        ({"operation": "*", "kind": "throttle", "times": 0}, "'times' must be 1 or more"),
    ],
)
def test_invalid_faults(aws: SimulatedAws, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("*", r"\*")):
        aws.faults.add(**arguments)
    status, content = http_json(aws, "POST", "/_local/faults", arguments)
    assert status == 400
    assert message in content["message"]
    assert aws.faults.active() == ()


def test_faults_over_http(aws: SimulatedAws) -> None:
    status, added = http_json(
        aws,
        "POST",
        "/_local/faults",
        {"operation": "redshift:*", "kind": "throttle", "region": "eu-west-1", "times": 2},
    )
    assert (status, added["kind"]) == (201, "throttle")
    assert aws.faults.active() == (Fault("redshift:*", "throttle", region="eu-west-1", times=2),)
    with pytest.raises(ClientError, match="Rate exceeded"):
        client(aws).describe_clusters()
    assert http_json(aws, "GET", "/_local/faults") == (200, {"faults": [{**added, "times": 1}]})
    assert http_json(aws, "DELETE", "/_local/faults") == (204, None)
    assert aws.faults.active() == ()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "must be JSON"),
        ([], "must be a JSON object"),
        ({"kind": "throttle"}, "'operation' is missing"),
        ({"operation": "*", "kind": "throttle", "often": 2}, "unknown key 'often'"),
        ({"operation": "*", "kind": "throttle", "times": "2"}, "'times' must be a int"),
        ({"operation": "*", "kind": "throttle", "times": True}, "'times' must be a int"),
    ],
)
def test_invalid_faults_over_http(aws: SimulatedAws, body: object, message: str) -> None:
    status, content = http_json(aws, "POST", "/_local/faults", body)
    assert status == 400
    assert message in content["message"]


def test_calls_over_http(aws: SimulatedAws) -> None:
    client(aws).describe_clusters()
    client(aws, "secretsmanager").list_secrets()
    counts = {"redshift:DescribeClusters": 1, "secretsmanager:ListSecrets": 1}
    assert http_json(aws, "GET", "/_local/calls") == (200, {"total": 2, "by_operation": counts})
    assert http_json(aws, "DELETE", "/_local/calls") == (204, None)
    assert (aws.calls.total(), aws.calls.by_operation()) == (0, {})
    assert http_json(aws, "POST", "/_local/calls")[0] == 405
    assert http_json(aws, "GET", "/_local/nothing")[0] == 404


@pytest.mark.parametrize(
    ("service", "operation", "kind", "code", "status", "message"),
    [
        ("redshift", "describe_clusters", "expired_token", "ExpiredToken", 403, "token included .* is expired$"),
        ("redshift-serverless", "list_workgroups", "expired_token", "ExpiredTokenException", 400, "is expired$"),
        (
            "redshift",
            "describe_clusters",
            "clock_skew",
            "SignatureDoesNotMatch",
            403,
            r"Signature expired: \d{8}T\d{6}Z",
        ),
        ("redshift-serverless", "list_workgroups", "clock_skew", "InvalidSignatureException", 400, r"\(.* - 5 min\.\)"),
    ],
)
def test_expired_token_and_clock_skew_have_the_messages_of_aws(
    aws: SimulatedAws, service: str, operation: str, kind: str, code: str, status: int, message: str
) -> None:
    aws.faults.add(f"{service}:*", kind)
    with pytest.raises(ClientError, match=message) as error:
        getattr(client(aws, service), operation)()
    assert error_code(error) == (code, status)
