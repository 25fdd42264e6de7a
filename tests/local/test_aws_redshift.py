"""Provisioned clusters of the simulated AWS, through real boto3 clients."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from botocore.exceptions import ClientError

from redshift_secrets.local.aws import SimulatedAws, warehouse_arn
from redshift_secrets.local.config import Cluster, ConfigError, Database, Warehouses
from tests.local.aws_harness import NOW, OTHER_ACCOUNT, Endpoints, client, error_code, make_aws

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
OTHER_REGION = Cluster("etl", region="us-east-1", tags={"owner": "virginia"})
FOREIGN = Cluster("foreign", account=OTHER_ACCOUNT)


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
def warehouses() -> Warehouses:
    return Warehouses(clusters=(ETL, BI, NEW, OTHER_REGION, FOREIGN))


def names(response: dict[str, Any]) -> list[str]:
    return [cluster["ClusterIdentifier"] for cluster in response["Clusters"]]


def test_arn_of_a_cluster() -> None:
    assert warehouse_arn(OTHER_REGION) == "arn:aws:redshift:us-east-1:123456789012:cluster:etl"


def test_describe_clusters_returns_what_discovery_needs(redshift: Any) -> None:
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


def test_the_default_create_time_is_the_start(redshift: Any) -> None:
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


def test_only_clusters_of_the_account_and_region_are_listed(aws: SimulatedAws, redshift: Any) -> None:
    assert names(redshift.describe_clusters()) == ["bi", "etl", "new"]
    assert names(client(aws, region="us-east-1").describe_clusters()) == ["etl"]
    assert names(client(aws, arn=f"arn:aws:iam::{OTHER_ACCOUNT}:user/bob").describe_clusters()) == ["foreign"]
    assert names(client(aws, region="ap-south-1").describe_clusters()) == []


def test_unknown_cluster(redshift: Any) -> None:
    with pytest.raises(ClientError, match=r"Cluster nope not found\.") as error:
        redshift.describe_clusters(ClusterIdentifier="nope")
    assert error_code(error) == ("ClusterNotFound", 404)


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


def test_250_tagged_clusters_are_three_pages() -> None:
    clusters = tuple(Cluster(f"c{n:03}", tags={"airflow:conn-id": f"id{n}"}) for n in range(250))
    warehouses = Warehouses(clusters=(*clusters, Cluster("untagged")))
    with make_aws(warehouses) as aws:
        pages = list(client(aws).get_paginator("describe_clusters").paginate(TagKeys=["airflow:conn-id"]))
        assert [len(page["Clusters"]) for page in pages] == [100, 100, 50]
        assert [name for page in pages for name in names(page)] == [cluster.identifier for cluster in clusters]
        assert aws.calls.by_operation() == {"redshift:DescribeClusters": 3}


def test_invalid_paging(redshift: Any) -> None:
    for wrong in ({"MaxRecords": 19}, {"MaxRecords": 101}, {"Marker": "?"}, {"Marker": "b", "ClusterIdentifier": "bi"}):
        with pytest.raises(ClientError) as error:
            redshift.describe_clusters(**wrong)
        assert error_code(error) == ("InvalidParameterValue", 400)


def test_create_and_delete_tags(redshift: Any) -> None:
    arn = warehouse_arn(BI)
    redshift.create_tags(ResourceName=arn, Tags=[{"Key": "airflow:conn-id", "Value": "a b"}, {"Key": "x", "Value": ""}])
    shown = redshift.describe_tags(ResourceName=arn)["TaggedResources"]
    assert [(item["Tag"]["Key"], item["Tag"]["Value"]) for item in shown] == [
        ("airflow:conn-id", "a b"),
        ("environment", "test"),
        ("x", ""),
    ]
    assert {(item["ResourceName"], item["ResourceType"]) for item in shown} == {(arn, "Cluster")}
    redshift.delete_tags(ResourceName=arn, TagKeys=["environment", "x"])
    assert redshift.describe_clusters(ClusterIdentifier="bi")["Clusters"][0]["Tags"] == [
        {"Key": "airflow:conn-id", "Value": "a b"}
    ]


def test_describe_tags_filters_and_pages(redshift: Any) -> None:
    def described(**filters: Any) -> list[tuple[str, str]]:
        response = redshift.describe_tags(**filters)
        return [(item["ResourceName"].rpartition(":")[2], item["Tag"]["Key"]) for item in response["TaggedResources"]]

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
    assert error_code(error) == ("InvalidParameterValue", 400)


@pytest.mark.parametrize(
    ("key", "value"), [("aws:mine", "x"), ("k" * 129, "x"), ("k", "v" * 257), ("k", "a;b"), ("", "x"), ("k*", "x")]
)
def test_tags_that_aws_rejects(redshift: Any, key: str, value: str) -> None:
    with pytest.raises(ClientError) as error:
        redshift.create_tags(ResourceName=warehouse_arn(BI), Tags=[{"Key": key, "Value": value}])
    assert error_code(error) == ("InvalidTagFault", 400)


def test_at_most_fifty_tags(redshift: Any) -> None:
    fifty = [{"Key": f"k{n}", "Value": "v"} for n in range(50)]
    with pytest.raises(ClientError) as error:
        redshift.create_tags(ResourceName=warehouse_arn(BI), Tags=fifty)
    assert error_code(error) == ("TagLimitExceededFault", 400)
    redshift.create_tags(ResourceName=warehouse_arn(BI), Tags=fifty[:49])
    assert len(redshift.describe_clusters(ClusterIdentifier="bi")["Clusters"][0]["Tags"]) == 50


def test_tags_of_resources_outside_the_account_and_region(redshift: Any) -> None:
    for arn in (warehouse_arn(FOREIGN), warehouse_arn(OTHER_REGION)):
        with pytest.raises(ClientError) as error:
            redshift.delete_tags(ResourceName=arn, TagKeys=["a"])
        assert error_code(error) == ("ResourceNotFoundFault", 404)


def test_pause_and_resume(redshift: Any) -> None:
    assert redshift.pause_cluster(ClusterIdentifier="bi")["Cluster"]["ClusterStatus"] == "paused"
    with pytest.raises(ClientError) as error:
        redshift.pause_cluster(ClusterIdentifier="bi")
    assert error_code(error) == ("InvalidClusterState", 400)
    assert redshift.resume_cluster(ClusterIdentifier="bi")["Cluster"]["ClusterStatus"] == "available"
    with pytest.raises(ClientError) as error:
        redshift.resume_cluster(ClusterIdentifier="bi")
    assert error_code(error) == ("InvalidClusterState", 400)


def test_delete(redshift: Any) -> None:
    with pytest.raises(ClientError) as error:
        redshift.delete_cluster(ClusterIdentifier="bi")
    assert error_code(error) == ("InvalidParameterCombination", 400)
    deleted = redshift.delete_cluster(ClusterIdentifier="bi", SkipFinalClusterSnapshot=True)["Cluster"]
    assert deleted["ClusterStatus"] == "deleting"
    for call in (redshift.describe_clusters, redshift.pause_cluster):
        with pytest.raises(ClientError) as error:
            call(ClusterIdentifier="bi")
        assert error_code(error) == ("ClusterNotFound", 404)


def test_set_any_status(aws: SimulatedAws, redshift: Any) -> None:
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
    assert error_code(error) == ("EndpointNotFound", 404)


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ((BI, BI), "cluster 'bi': duplicate name"),
        ((Cluster("a", tags={"airflow:conn-id": "a,b"}),), "cluster 'a': The tag 'airflow:conn-id'"),
        ((Cluster("a", tags={f"k{n}": "v" for n in range(51)}),), "cluster 'a': more than 50 tags"),
        ((Cluster("a", create_time="yesterday"),), "cluster 'a': create_time 'yesterday'"),
    ],
)
def test_clusters_that_aws_could_not_have(clusters: tuple[Cluster, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_aws(Warehouses(clusters))
