"""Start, stop and isolation of the simulated AWS, and its checks of its own responses."""

from __future__ import annotations

import socket
import struct
from datetime import datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from redshift_secrets.local.aws import SimulatedAws
from redshift_secrets.local.aws.errors import AwsError, InvalidResponseError
from redshift_secrets.local.aws.models import service_model
from redshift_secrets.local.aws.redshift import Redshift
from redshift_secrets.local.aws.responses import build_response
from redshift_secrets.local.config import Cluster, Warehouses
from tests.local.aws_harness import ACCOUNT, client, client_with, error_code, make_aws
from tests.local.patience import PATIENCE


def test_operations_that_are_not_simulated_are_named(aws: SimulatedAws) -> None:
    for service, operation, name in (
        ("redshift", "describe_cluster_versions", "redshift:DescribeClusterVersions"),
        ("redshift-serverless", "list_snapshots", "redshift-serverless:ListSnapshots"),
        ("redshift-data", "list_statements", "redshift-data:ListStatements"),
        ("sts", "get_session_token", "sts:GetSessionToken"),
        ("freetier", "get_free_tier_usage", "freetier:GetFreeTierUsage"),
    ):
        with pytest.raises(ClientError, match=f"does not implement {name}") as error:
            getattr(client(aws, service), operation)()
        assert error_code(error) == ("NotSimulated", 501)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Colour": "red"}, r"DescribeClusters\.Clusters\[0\]\.Colour: not a member of Cluster"),
        ({"NumberOfNodes": "1"}, r"DescribeClusters\.Clusters\[0\]\.NumberOfNodes: must be of type integer, is str"),
        ({"SnapshotScheduleState": "X"}, r"Clusters\[0\]\.SnapshotScheduleState: must be one of MODIFYING"),
    ],
)
def test_a_response_that_aws_could_not_send_is_an_error_500(
    aws: SimulatedAws, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    real = Redshift.describe
    monkeypatch.setattr(Redshift, "describe", lambda *arguments: {**real(*arguments), **change})
    with pytest.raises(ClientError, match=f"Bug .* in redshift:DescribeClusters: .*{message}") as error:
        client(aws).describe_clusters()
    assert error_code(error) == ("InternalFailure", 500)


@pytest.mark.parametrize(
    ("service", "operation", "result", "message"),
    [
        ("redshift-serverless", "ListWorkgroups", {}, "ListWorkgroups.workgroups: required, but missing"),
        (
            "redshift-serverless",
            "ListTagsForResource",
            {"tags": [{"key": "k" * 129, "value": ""}]},
            "tags[0].key: length must be at most 128",
        ),
        ("redshift", "CreateTags", {"Tags": []}, "CreateTags has no output, but the stand-in returned Tags"),
        ("redshift", "GetClusterCredentials", {"Expiration": datetime(2024, 1, 1)}, "must have a time zone"),
        ("sts", "GetCallerIdentity", {"Arn": "short"}, "Arn: length must be at least 20"),
        (
            "redshift",
            "DescribeClusters",
            {"Clusters": [{"Encrypted": 1}]},
            "Encrypted: must be of type boolean, is int",
        ),
        ("redshift", "DescribeClusters", {"Clusters": [{"NumberOfNodes": True}]}, "must be of type integer, is bool"),
    ],
)
def test_results_are_checked_against_the_model(
    service: str, operation: str, result: dict[str, Any], message: str
) -> None:
    model = service_model(service).operation_model(operation)
    with pytest.raises(InvalidResponseError) as error:
        build_response(model, "json", result)
    assert message in str(error.value)


def test_an_error_that_aws_could_not_send_is_an_error_500(aws: SimulatedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(*arguments: Any) -> None:
        raise AwsError("ClusterOnFire", "hot")

    monkeypatch.setattr(Redshift, "describe", describe)
    with pytest.raises(ClientError, match="DescribeClusters has no error ClusterOnFire") as error:
        client(aws).describe_clusters()
    assert error_code(error) == ("InternalFailure", 500)


def test_an_internal_error_does_not_reveal_secrets(
    aws: SimulatedAws, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def describe(*arguments: Any) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(Redshift, "describe", describe)
    with pytest.raises(ClientError, match="redshift:DescribeClusters: RuntimeError") as error:
        client(aws).describe_clusters()
    assert "hunter2" not in str(error.value) + caplog.text
    assert "Bug in the simulated AWS, in redshift:DescribeClusters" in caplog.text


def test_instances_are_independent(aws: SimulatedAws) -> None:
    with make_aws(Warehouses(clusters=(Cluster("other"),))) as other:
        secret = client(aws).describe_clusters()["Clusters"][0]["MasterPasswordSecretArn"]
        assert [item["ClusterIdentifier"] for item in client(other).describe_clusters()["Clusters"]] == ["other"]
        other.faults.add("*", "throttle")
        # The start of the second instance must not delete the secrets of the first.
        assert client(aws, "secretsmanager").get_secret_value(SecretId=secret)["ARN"] == secret
        assert other.calls.total() == 1
        key_id, key_secret, _ = aws.add_access_key(f"arn:aws:iam::{ACCOUNT}:user/x")
        other.faults.clear()
        with pytest.raises(ClientError) as error:
            client_with(other, "redshift", "eu-west-1", key_id, key_secret, None).describe_clusters()
        assert error_code(error) == ("InvalidClientTokenId", 403)


def test_moto_starts_empty(aws: SimulatedAws) -> None:
    client(aws, "secretsmanager").create_secret(Name="left behind", SecretString="x")
    aws.stop()
    with make_aws(Warehouses()) as later:
        assert client(later, "secretsmanager").list_secrets()["SecretList"] == []


def test_start_and_stop_twice(warehouses: Warehouses) -> None:
    aws = make_aws(warehouses)
    with pytest.raises(RuntimeError, match="not started"):
        _ = aws.url
    for _ in range(2):
        aws.start()
        with pytest.raises(RuntimeError, match="already started"):
            aws.start()
        arn = client(aws).describe_clusters()["Clusters"][0]["MasterPasswordSecretArn"]
        assert client(aws, "secretsmanager").get_secret_value(SecretId=arn)["Name"] == "redshift!etl-awsuser"
        address = aws.url.removeprefix("http://").split(":")
        aws.stop()
        aws.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address[0], int(address[1])), timeout=PATIENCE)


def test_a_given_port() -> None:
    with make_aws(Warehouses()) as aws:
        port = int(aws.url.rpartition(":")[2])
        second = make_aws(Warehouses(), port=port)
        with pytest.raises(
            OSError, match=rf"^port {port} of 127.0.0.1 cannot be used: Address already in use\. .*--port"
        ):
            second.start()
        second.stop()
    with make_aws(Warehouses(), port=port) as third:
        assert third.url == f"http://127.0.0.1:{port}"


def test_nothing_is_printed(aws: SimulatedAws, capfd: pytest.CaptureFixture[str]) -> None:
    client(aws).describe_clusters()
    client(aws, "secretsmanager").list_secrets()
    with pytest.raises(ClientError):
        client(aws).describe_clusters(ClusterIdentifier="nope")
    with pytest.raises(ClientError):
        client(aws, "freetier").get_free_tier_usage()
    with socket.create_connection(("127.0.0.1", int(aws.url.rpartition(":")[2])), timeout=PATIENCE) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        connection.recv(1000)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("sent", [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", b"POST", b""])
def test_a_client_that_disconnects_in_a_request_is_not_reported(
    aws: SimulatedAws, capfd: pytest.CaptureFixture[str], sent: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", int(aws.url.rpartition(":")[2]))) as connection:
        connection.sendall(sent)
        # With this option, close() resets the connection.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert client(aws).describe_clusters()["Clusters"]
    assert capfd.readouterr().err == ""
