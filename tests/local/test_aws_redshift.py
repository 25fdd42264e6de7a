"""Provisioned clusters of the simulated AWS, through real boto3 clients."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from aws_harness import NOW, OTHER_ACCOUNT, Clock, Endpoints, client, refusal
from botocore.exceptions import ClientError

from redshift_secrets.local.aws import SimulatedAws, warehouse_arn
from redshift_secrets.local.config import Cluster, ConfigError, Database, Warehouses
from redshift_secrets.local.tokens import TokenRegistry

ETL = Cluster(
    "etl",
    database=Database("warehouse"),
    tags={"airflow:conn-id": "etl", "owner": "admin"},
    custom_domain="dw.example.com",
    vpc_endpoints=("private", "shared"),
    manage_master_password=True,
    create_time="2024-05-01T10:00:00Z",
)
BI = Cluster("bi", tags={"environment": "test"})
NEW = Cluster("new", status="creating")
ELSEWHERE = Cluster("etl", region="us-east-1", tags={"owner": "virginia"})
FOREIGN = Cluster("theirs", account=OTHER_ACCOUNT)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> TokenRegistry:
    return TokenRegistry(clock)


@pytest.fixture
def endpoints() -> Endpoints:
    return Endpoints(
        {
            (warehouse_arn(ETL), "default"): ("localhost", 5439),
            (warehouse_arn(ETL), "vpc:private"): ("localhost", 5440),
            (warehouse_arn(BI), "default"): ("localhost", 5441),
            (warehouse_arn(NEW), "default"): ("localhost", 5442),
        }
    )


@pytest.fixture
def aws(clock: Clock, tokens: TokenRegistry, endpoints: Endpoints) -> Iterator[SimulatedAws]:
    warehouses = Warehouses(clusters=(ETL, BI, NEW, ELSEWHERE, FOREIGN))
    with SimulatedAws(warehouses, tokens, endpoints=endpoints, clock=clock) as running:
        yield running


@pytest.fixture
def redshift(aws: SimulatedAws) -> Any:
    return client(aws)


def names(answer: dict[str, Any]) -> list[str]:
    return [cluster["ClusterIdentifier"] for cluster in answer["Clusters"]]


def test_arn_of_a_cluster() -> None:
    assert warehouse_arn(ELSEWHERE) == "arn:aws:redshift:us-east-1:123456789012:cluster:etl"


def test_describe_clusters_shows_what_discovery_needs(redshift: Any) -> None:
    cluster = redshift.describe_clusters(ClusterIdentifier="etl")["Clusters"][0]
    assert cluster["Endpoint"] == {"Address": "localhost", "Port": 5439}
    assert cluster["DBName"] == "warehouse"
    assert cluster["MasterUsername"] == "awsuser"
    assert cluster["ClusterStatus"] == "available"
    assert cluster["ClusterAvailabilityStatus"] == "Available"
    assert cluster["ClusterCreateTime"] == datetime(2024, 5, 1, 10, tzinfo=timezone.utc)
    assert cluster["CustomDomainName"] == "dw.example.com"
    assert cluster["CustomDomainCertificateArn"].startswith("arn:aws:acm:eu-west-1:123456789012:certificate/")
    assert cluster["ClusterNamespaceArn"].startswith("arn:aws:redshift:eu-west-1:123456789012:namespace:")
    assert cluster["MasterPasswordSecretArn"].startswith("arn:aws:secretsmanager:eu-west-1:123456789012:secret:")
    assert {tag["Key"]: tag["Value"] for tag in cluster["Tags"]} == ETL.tags


def test_created_when_the_stand_in_starts_unless_told(redshift: Any) -> None:
    cluster = redshift.describe_clusters(ClusterIdentifier="bi")["Clusters"][0]
    assert cluster["ClusterCreateTime"].timestamp() == NOW
    assert "CustomDomainName" not in cluster
    assert "MasterPasswordSecretArn" not in cluster


def test_a_cluster_being_created_has_no_endpoint(redshift: Any) -> None:
    cluster = redshift.describe_clusters(ClusterIdentifier="new")["Clusters"][0]
    assert "Endpoint" not in cluster
    assert cluster["ClusterAvailabilityStatus"] == "Unavailable"


def test_a_cluster_without_an_address_has_no_endpoint(redshift: Any, endpoints: Endpoints) -> None:
    del endpoints[warehouse_arn(ETL), "default"]
    assert "Endpoint" not in redshift.describe_clusters(ClusterIdentifier="etl")["Clusters"][0]


def test_an_account_and_region_see_their_own_clusters(aws: SimulatedAws, redshift: Any) -> None:
    assert names(redshift.describe_clusters()) == ["bi", "etl", "new"]
    assert names(client(aws, region="us-east-1").describe_clusters()) == ["etl"]
    assert names(client(aws, arn=f"arn:aws:iam::{OTHER_ACCOUNT}:user/bob").describe_clusters()) == ["theirs"]
    assert names(client(aws, region="ap-south-1").describe_clusters()) == []


def test_unknown_cluster(redshift: Any) -> None:
    with pytest.raises(ClientError, match=r"Cluster nope not found\.") as error:
        redshift.describe_clusters(ClusterIdentifier="nope")
    assert refusal(error) == ("ClusterNotFound", 404)


@pytest.mark.parametrize(
    ("keys", "values", "expected"),
    [
        (["owner"], [], ["etl"]),
        (["owner", "environment"], [], ["bi", "etl"]),
        ([], ["admin"], ["etl"]),
        ([], ["admin", "test"], ["bi", "etl"]),
        (["owner", "environment"], ["admin", "test"], ["bi", "etl"]),
        # The value must belong to one of the keys: "etl" is the value of another tag.
        (["owner"], ["etl"], []),
        (["owner"], ["test"], []),
        (["nobody"], [], []),
    ],
)
def test_tag_filters(redshift: Any, keys: list[str], values: list[str], expected: list[str]) -> None:
    assert names(redshift.describe_clusters(TagKeys=keys, TagValues=values)) == expected


def test_250_tagged_clusters_are_three_pages(clock: Clock, tokens: TokenRegistry) -> None:
    clusters = tuple(Cluster(f"c{n:03}", tags={"airflow:conn-id": f"id{n}"}) for n in range(250))
    warehouses = Warehouses(clusters=(*clusters, Cluster("untagged")))
    with SimulatedAws(warehouses, tokens, endpoints=Endpoints(), clock=clock) as aws:
        pages = list(client(aws).get_paginator("describe_clusters").paginate(TagKeys=["airflow:conn-id"]))
        assert [len(page["Clusters"]) for page in pages] == [100, 100, 50]
        assert [name for page in pages for name in names(page)] == [cluster.identifier for cluster in clusters]
        assert aws.calls.by_operation() == {"redshift:DescribeClusters": 3}


def test_bad_paging(redshift: Any) -> None:
    for wrong in ({"MaxRecords": 19}, {"MaxRecords": 101}, {"Marker": "?"}, {"Marker": "b", "ClusterIdentifier": "bi"}):
        with pytest.raises(ClientError) as error:
            redshift.describe_clusters(**wrong)
        assert refusal(error) == ("InvalidParameterValue", 400)


def test_tags_come_and_go(redshift: Any) -> None:
    arn = warehouse_arn(BI)
    redshift.create_tags(ResourceName=arn, Tags=[{"Key": "airflow:conn-id", "Value": "a b"}, {"Key": "x", "Value": ""}])
    shown = redshift.describe_tags(ResourceName=arn)["TaggedResources"]
    assert [(one["Tag"]["Key"], one["Tag"]["Value"]) for one in shown] == [
        ("airflow:conn-id", "a b"),
        ("environment", "test"),
        ("x", ""),
    ]
    assert {(one["ResourceName"], one["ResourceType"]) for one in shown} == {(arn, "Cluster")}
    redshift.delete_tags(ResourceName=arn, TagKeys=["environment", "x"])
    assert redshift.describe_clusters(ClusterIdentifier="bi")["Clusters"][0]["Tags"] == [
        {"Key": "airflow:conn-id", "Value": "a b"}
    ]


def test_describe_tags_filters_and_pages(redshift: Any) -> None:
    def described(**filters: Any) -> list[tuple[str, str]]:
        answer = redshift.describe_tags(**filters)
        return [(one["ResourceName"].rpartition(":")[2], one["Tag"]["Key"]) for one in answer["TaggedResources"]]

    assert described() == [("bi", "environment"), ("etl", "airflow:conn-id"), ("etl", "owner")]
    assert described(TagKeys=["owner"]) == [("etl", "owner")]
    assert described(TagValues=["test"], ResourceType="cluster") == [("bi", "environment")]
    assert described(TagKeys=["owner"], TagValues=["etl"]) == []
    assert described(ResourceType="snapshot") == []
    redshift.create_tags(ResourceName=warehouse_arn(BI), Tags=[{"Key": f"k{n:02}", "Value": "v"} for n in range(20)])
    first = redshift.describe_tags(MaxRecords=10)
    second = redshift.describe_tags(MaxRecords=50, Marker=first["Marker"])
    assert len(first["TaggedResources"]) == 10
    assert len(second["TaggedResources"]) == 13
    assert "Marker" not in second
    with pytest.raises(ClientError) as error:
        redshift.describe_tags(ResourceName=warehouse_arn(BI), ResourceType="cluster")
    assert refusal(error) == ("InvalidParameterValue", 400)


@pytest.mark.parametrize(
    ("key", "value"), [("aws:mine", "x"), ("k" * 129, "x"), ("k", "v" * 257), ("k", "a;b"), ("", "x"), ("k*", "x")]
)
def test_tags_that_aws_refuses(redshift: Any, key: str, value: str) -> None:
    with pytest.raises(ClientError) as error:
        redshift.create_tags(ResourceName=warehouse_arn(BI), Tags=[{"Key": key, "Value": value}])
    assert refusal(error) == ("InvalidTagFault", 400)


def test_fifty_tags_and_no_more(redshift: Any) -> None:
    fifty = [{"Key": f"k{n}", "Value": "v"} for n in range(50)]
    with pytest.raises(ClientError) as error:
        redshift.create_tags(ResourceName=warehouse_arn(BI), Tags=fifty)
    assert refusal(error) == ("TagLimitExceededFault", 400)
    redshift.create_tags(ResourceName=warehouse_arn(BI), Tags=fifty[:49])
    assert len(redshift.describe_clusters(ClusterIdentifier="bi")["Clusters"][0]["Tags"]) == 50


def test_tags_of_what_is_not_there(redshift: Any) -> None:
    for arn in (warehouse_arn(FOREIGN), warehouse_arn(ELSEWHERE)):
        with pytest.raises(ClientError) as error:
            redshift.delete_tags(ResourceName=arn, TagKeys=["a"])
        assert refusal(error) == ("ResourceNotFoundFault", 404)


def test_pause_and_resume(redshift: Any) -> None:
    assert redshift.pause_cluster(ClusterIdentifier="bi")["Cluster"]["ClusterStatus"] == "paused"
    with pytest.raises(ClientError) as error:
        redshift.pause_cluster(ClusterIdentifier="bi")
    assert refusal(error) == ("InvalidClusterState", 400)
    assert redshift.resume_cluster(ClusterIdentifier="bi")["Cluster"]["ClusterStatus"] == "available"
    with pytest.raises(ClientError) as error:
        redshift.resume_cluster(ClusterIdentifier="bi")
    assert refusal(error) == ("InvalidClusterState", 400)


def test_delete(redshift: Any) -> None:
    with pytest.raises(ClientError) as error:
        redshift.delete_cluster(ClusterIdentifier="bi")
    assert refusal(error) == ("InvalidParameterCombination", 400)
    deleted = redshift.delete_cluster(ClusterIdentifier="bi", SkipFinalClusterSnapshot=True)["Cluster"]
    assert deleted["ClusterStatus"] == "deleting"
    for call in (redshift.describe_clusters, redshift.pause_cluster):
        with pytest.raises(ClientError) as error:
            call(ClusterIdentifier="bi")
        assert refusal(error) == ("ClusterNotFound", 404)


def test_any_status_can_be_given(aws: SimulatedAws, redshift: Any) -> None:
    aws.set_status(warehouse_arn(BI), "resuming")
    cluster = redshift.describe_clusters(ClusterIdentifier="bi")["Clusters"][0]
    assert (cluster["ClusterStatus"], cluster["ClusterAvailabilityStatus"]) == ("resuming", "Unavailable")
    with pytest.raises(KeyError):
        aws.set_status("arn:aws:redshift:eu-west-1:123456789012:cluster:nope", "paused")


def test_vpc_endpoints(redshift: Any) -> None:
    first, second = redshift.describe_endpoint_access(ClusterIdentifier="etl")["EndpointAccessList"]
    assert (first["EndpointName"], first["Address"], first["Port"]) == ("private", "localhost", 5440)
    assert (first["ClusterIdentifier"], first["EndpointStatus"]) == ("etl", "active")
    assert (second["EndpointName"], second["EndpointStatus"]) == ("shared", "creating")
    assert "Address" not in second
    assert len(redshift.describe_endpoint_access(EndpointName="private")["EndpointAccessList"]) == 1
    assert redshift.describe_endpoint_access(ClusterIdentifier="bi")["EndpointAccessList"] == []
    assert redshift.describe_endpoint_access(VpcId="vpc-1")["EndpointAccessList"] == []
    with pytest.raises(ClientError) as error:
        redshift.describe_endpoint_access(EndpointName="nope")
    assert refusal(error) == ("EndpointNotFound", 404)


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ((BI, BI), "cluster 'bi': there are two"),
        ((Cluster("a", tags={"airflow:conn-id": "a,b"}),), "cluster 'a': The tag 'airflow:conn-id'"),
        ((Cluster("a", tags={f"k{n}": "v" for n in range(51)}),), "cluster 'a': more than 50 tags"),
        ((Cluster("a", create_time="yesterday"),), "cluster 'a': create_time 'yesterday'"),
    ],
)
def test_clusters_that_aws_could_not_have(clusters: tuple[Cluster, ...], message: str, clock: Clock) -> None:
    with pytest.raises(ConfigError, match=message):
        SimulatedAws(Warehouses(clusters), TokenRegistry(clock), endpoints=Endpoints(), clock=clock)
