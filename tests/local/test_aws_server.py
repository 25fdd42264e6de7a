"""How the simulated AWS starts and stops, keeps to itself, and notices its own mistakes."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from aws_harness import ACCOUNT, Clock, Endpoints, client, client_with, refusal
from botocore.exceptions import ClientError

from redshift_secrets.local.aws import SimulatedAws
from redshift_secrets.local.aws.answers import answer
from redshift_secrets.local.aws.errors import AwsError, DriftError
from redshift_secrets.local.aws.models import service_model
from redshift_secrets.local.aws.redshift import Redshift
from redshift_secrets.local.config import Cluster, Warehouses, Workgroup
from redshift_secrets.local.tokens import TokenRegistry

WAREHOUSES = Warehouses(clusters=(Cluster("etl", manage_master_password=True),), workgroups=(Workgroup("adhoc"),))
BOUND = 20.0


def make_aws(warehouses: Warehouses = WAREHOUSES, port: int = 0) -> SimulatedAws:
    clock = Clock()
    return SimulatedAws(warehouses, TokenRegistry(clock), endpoints=Endpoints(), clock=clock, port=port)


@pytest.fixture
def aws() -> Iterator[SimulatedAws]:
    with make_aws() as running:
        yield running


def test_what_nobody_simulates_is_named(aws: SimulatedAws) -> None:
    for service, operation, name in (
        ("redshift", "describe_cluster_versions", "redshift:DescribeClusterVersions"),
        ("redshift-serverless", "list_snapshots", "redshift-serverless:ListSnapshots"),
        ("redshift-data", "list_statements", "redshift-data:ListStatements"),
        ("sts", "get_session_token", "sts:GetSessionToken"),
        ("freetier", "get_free_tier_usage", "freetier:GetFreeTierUsage"),
    ):
        with pytest.raises(ClientError, match=f"does not implement {name}") as error:
            getattr(client(aws, service), operation)()
        assert refusal(error) == ("NotSimulated", 501)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"Colour": "red"}, r"DescribeClusters\.Clusters\[0\]\.Colour: not a member of Cluster"),
        ({"NumberOfNodes": "1"}, r"DescribeClusters\.Clusters\[0\]\.NumberOfNodes: must be a integer, is str"),
        ({"SnapshotScheduleState": "X"}, r"Clusters\[0\]\.SnapshotScheduleState: must be one of MODIFYING"),
    ],
)
def test_an_answer_that_aws_could_not_give_is_a_loud_500(
    aws: SimulatedAws, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], complaint: str
) -> None:
    real = Redshift.describe
    monkeypatch.setattr(Redshift, "describe", lambda *arguments: {**real(*arguments), **change})
    with pytest.raises(ClientError, match=f"bug in redshift:DescribeClusters: .*{complaint}") as error:
        client(aws).describe_clusters()
    assert refusal(error) == ("InternalFailure", 500)


@pytest.mark.parametrize(
    ("service", "operation", "result", "complaint"),
    [
        ("redshift-serverless", "ListWorkgroups", {}, "ListWorkgroups.workgroups: required and missing"),
        (
            "redshift-serverless",
            "ListTagsForResource",
            {"tags": [{"key": "k" * 129, "value": ""}]},
            "tags[0].key: length must be at most 128",
        ),
        ("redshift", "CreateTags", {"Tags": []}, "CreateTags has no output, the stand-in answers Tags"),
        ("redshift", "GetClusterCredentials", {"Expiration": datetime(2024, 1, 1)}, "must carry a time zone"),
        ("sts", "GetCallerIdentity", {"Arn": "short"}, "Arn: length must be at least 20"),
        ("redshift", "DescribeClusters", {"Clusters": [{"Encrypted": 1}]}, "Encrypted: must be a boolean, is int"),
        ("redshift", "DescribeClusters", {"Clusters": [{"NumberOfNodes": True}]}, "must be a integer, is bool"),
    ],
)
def test_what_the_model_forbids(service: str, operation: str, result: dict[str, Any], complaint: str) -> None:
    model = service_model(service).operation_model(operation)
    with pytest.raises(DriftError) as error:
        answer(model, "json", result)
    assert complaint in str(error.value)


def test_an_error_that_aws_does_not_have_is_a_loud_500(aws: SimulatedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(*arguments: Any) -> None:
        raise AwsError("ClusterOnFire", "hot")

    monkeypatch.setattr(Redshift, "describe", describe)
    with pytest.raises(ClientError, match="DescribeClusters has no error ClusterOnFire") as error:
        client(aws).describe_clusters()
    assert refusal(error) == ("InternalFailure", 500)


def test_a_bug_tells_no_secret(aws: SimulatedAws, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    def describe(*arguments: Any) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(Redshift, "describe", describe)
    with pytest.raises(ClientError, match="redshift:DescribeClusters: RuntimeError") as error:
        client(aws).describe_clusters()
    assert "hunter2" not in str(error.value) + caplog.text
    assert "bug in redshift:DescribeClusters" in caplog.text


def test_instances_do_not_see_each_other(aws: SimulatedAws) -> None:
    with make_aws(Warehouses(clusters=(Cluster("other"),))) as other:
        secret = client(aws).describe_clusters()["Clusters"][0]["MasterPasswordSecretArn"]
        assert [one["ClusterIdentifier"] for one in client(other).describe_clusters()["Clusters"]] == ["other"]
        other.faults.add("*", "throttle")
        # The second one to start must not wipe the secrets of the first.
        assert client(aws, "secretsmanager").get_secret_value(SecretId=secret)["ARN"] == secret
        assert other.calls.total() == 1
        key_id, key_secret, _ = aws.add_access_key(f"arn:aws:iam::{ACCOUNT}:user/x")
        other.faults.clear()
        with pytest.raises(ClientError) as error:
            client_with(other, "redshift", "eu-west-1", key_id, key_secret, None).describe_clusters()
        assert refusal(error) == ("InvalidClientTokenId", 403)


def test_moto_begins_empty(aws: SimulatedAws) -> None:
    client(aws, "secretsmanager").create_secret(Name="left behind", SecretString="x")
    aws.stop()
    with make_aws(Warehouses()) as later:
        assert client(later, "secretsmanager").list_secrets()["SecretList"] == []


def test_start_and_stop_twice() -> None:
    aws = make_aws()
    with pytest.raises(RuntimeError, match="not started"):
        _ = aws.url
    for _ in range(2):
        aws.start()
        with pytest.raises(RuntimeError, match="started already"):
            aws.start()
        arn = client(aws).describe_clusters()["Clusters"][0]["MasterPasswordSecretArn"]
        assert client(aws, "secretsmanager").get_secret_value(SecretId=arn)["Name"] == "redshift!etl-awsuser"
        address = aws.url.removeprefix("http://").split(":")
        aws.stop()
        aws.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address[0], int(address[1])), timeout=BOUND)


def test_a_port_of_ones_own() -> None:
    with make_aws() as aws:
        port = int(aws.url.rpartition(":")[2])
        taken = make_aws(port=port)
        with pytest.raises(OSError, match="in use"):
            taken.start()
        taken.stop()
    with make_aws(port=port) as again:
        assert again.url == f"http://127.0.0.1:{port}"


def test_nothing_is_said_on_stderr(aws: SimulatedAws, capfd: pytest.CaptureFixture[str]) -> None:
    client(aws).describe_clusters()
    client(aws, "secretsmanager").list_secrets()
    with pytest.raises(ClientError):
        client(aws).describe_clusters(ClusterIdentifier="nope")
    with pytest.raises(ClientError):
        client(aws, "freetier").get_free_tier_usage()
    with socket.create_connection(("127.0.0.1", int(aws.url.rpartition(":")[2])), timeout=BOUND) as rude:
        rude.sendall(b"nonsense\r\n\r\n")
        rude.recv(1000)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("sent", [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", b"POST", b""])
def test_a_client_that_hangs_up_in_the_middle_is_no_news(
    aws: SimulatedAws, capfd: pytest.CaptureFixture[str], sent: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", int(aws.url.rpartition(":")[2]))) as caller:
        caller.sendall(sent)
        # Closing with this set sends a reset instead of a polite end.
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert client(aws).describe_clusters()["Clusters"]
    assert capfd.readouterr().err == ""
