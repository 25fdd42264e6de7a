"""Serverless workgroups and the tagging API of the simulated AWS, through real boto3 clients."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from redshift_secrets.local.aws import SimulatedAws, warehouse_arn
from redshift_secrets.local.config import Cluster, ConfigError, Database, Warehouses, Workgroup
from redshift_secrets.local.tokens import TokenRegistry
from tests.local.aws_harness import ACCOUNT, NOW, OTHER_ACCOUNT, Endpoints, client, client_with, error_code, make_aws

ADHOC = Workgroup(
    "adhoc",
    namespace="lake",
    database=Database("lakehouse"),
    tags={"airflow:conn-id": "adhoc", "owner": "bi"},
    manage_admin_password=True,
    custom_domain="adhoc.example.com",
    vpc_endpoints=("private", "shared"),
)
PLAIN = Workgroup("plain")
NEW = Workgroup("starting", status="CREATING")
OTHER_REGION = Workgroup("adhoc", region="us-east-1", tags={"owner": "virginia"})
FOREIGN = Workgroup("foreign", account=OTHER_ACCOUNT)
CLUSTER = Cluster("etl", tags={"airflow:conn-id": "etl", "owner": "admin"})
TAGGING = "resourcegroupstaggingapi"


@pytest.fixture
def warehouses() -> Warehouses:
    return Warehouses(clusters=(CLUSTER,), workgroups=(ADHOC, PLAIN, NEW, OTHER_REGION, FOREIGN))


@pytest.fixture
def endpoints() -> Endpoints:
    return Endpoints(
        {
            (warehouse_arn(ADHOC), "default"): ("localhost", 5439),
            (warehouse_arn(ADHOC), "vpc:private"): ("localhost", 5440),
            (warehouse_arn(NEW), "default"): ("localhost", 5441),
        }
    )


@pytest.fixture
def serverless(aws: SimulatedAws) -> Any:
    return client(aws, "redshift-serverless")


def names(response: dict[str, Any]) -> list[str]:
    return [group["workgroupName"] for group in response["workgroups"]]


def test_arn_of_a_workgroup_is_stable() -> None:
    assert warehouse_arn(ADHOC).startswith("arn:aws:redshift-serverless:eu-west-1:123456789012:workgroup/")
    assert warehouse_arn(ADHOC) == warehouse_arn(Workgroup("adhoc"))
    assert warehouse_arn(ADHOC).rpartition("/")[2] != warehouse_arn(OTHER_REGION).rpartition("/")[2]


def test_workgroup(serverless: Any) -> None:
    group = serverless.get_workgroup(workgroupName="adhoc")["workgroup"]
    assert group["endpoint"] == {"address": "localhost", "port": 5439}
    assert group["workgroupArn"] == warehouse_arn(ADHOC)
    assert (group["namespaceName"], group["status"]) == ("lake", "AVAILABLE")
    assert group["customDomainName"] == "adhoc.example.com"
    assert group["creationDate"].timestamp() == NOW
    assert "endpoint" not in serverless.get_workgroup(workgroupName="starting")["workgroup"]


def test_namespace(serverless: Any) -> None:
    namespace = serverless.get_namespace(namespaceName="lake")["namespace"]
    assert (namespace["dbName"], namespace["adminUsername"]) == ("lakehouse", "admin")
    assert namespace["adminPasswordSecretArn"].startswith("arn:aws:secretsmanager:eu-west-1:123456789012:secret:")
    assert "adminPasswordSecretArn" not in serverless.get_namespace(namespaceName="plain")["namespace"]
    listed = [item["namespaceName"] for item in serverless.list_namespaces()["namespaces"]]
    assert listed == ["lake", "plain", "starting"]


def test_managed_admin_secret(aws: SimulatedAws, serverless: Any, tokens: TokenRegistry) -> None:
    arn = serverless.get_namespace(namespaceName="lake")["namespace"]["adminPasswordSecretArn"]
    secret = json.loads(client(aws, "secretsmanager").get_secret_value(SecretId=arn)["SecretString"])
    token = tokens.check(warehouse=warehouse_arn(ADHOC), user="admin", password=secret["password"], database="dev")
    assert (secret["username"], token.role) == ("admin", "admin")


def test_missing_resources(serverless: Any) -> None:
    for call, wrong in (
        (serverless.get_workgroup, {"workgroupName": "nope"}),
        (serverless.get_namespace, {"namespaceName": "nope"}),
        (serverless.get_endpoint_access, {"endpointName": "nope"}),
        (serverless.list_tags_for_resource, {"resourceArn": warehouse_arn(OTHER_REGION)}),
        (serverless.get_credentials, {"workgroupName": "nope"}),
        (serverless.get_credentials, {"customDomainName": "no.example.com"}),
    ):
        with pytest.raises(ClientError) as error:
            call(**wrong)
        assert error_code(error) == ("ResourceNotFoundException", 400)
        assert error.value.response["resourceName"] == next(iter(wrong.values()))


def test_only_workgroups_of_the_account_and_region_are_listed(aws: SimulatedAws, serverless: Any) -> None:
    assert names(serverless.list_workgroups()) == ["adhoc", "plain", "starting"]
    assert names(serverless.list_workgroups(ownerAccount=OTHER_ACCOUNT)) == []
    assert names(client(aws, "redshift-serverless", "us-east-1").list_workgroups()) == ["adhoc"]
    foreign = client(aws, "redshift-serverless", arn=f"arn:aws:iam::{OTHER_ACCOUNT}:user/bob")
    assert names(foreign.list_workgroups()) == ["foreign"]


def test_pages(aws: SimulatedAws, serverless: Any) -> None:
    for operation, member in (("list_workgroups", "workgroups"), ("list_namespaces", "namespaces")):
        pages = list(serverless.get_paginator(operation).paginate(PaginationConfig={"PageSize": 2}))
        assert [len(page[member]) for page in pages] == [2, 1]
    pages = list(serverless.get_paginator("list_endpoint_access").paginate(PaginationConfig={"PageSize": 1}))
    assert [page["endpoints"][0]["endpointName"] for page in pages] == ["private", "shared"]
    for wrong in ({"nextToken": "?"}, {"maxResults": 101}, {"maxResults": 0}):
        with pytest.raises(ClientError) as error:
            unchecked(aws).list_workgroups(**wrong)
        assert error_code(error) == ("ValidationException", 400)


def unchecked(aws: SimulatedAws) -> Any:
    """Return a client that does not validate parameters."""
    key = aws.add_access_key(f"arn:aws:iam::{ACCOUNT}:user/x")
    return client_with(aws, "redshift-serverless", "eu-west-1", *key, parameter_validation=False)


def test_input_is_checked_against_the_model(aws: SimulatedAws) -> None:
    with pytest.raises(ClientError, match=r"GetWorkgroup\.workgroupName: required, but missing") as error:
        unchecked(aws).get_workgroup()
    assert error_code(error) == ("ValidationException", 400)
    with pytest.raises(ClientError, match=r"must match the pattern"):
        unchecked(aws).get_workgroup(workgroupName="Not_A_Name")


def test_tag_and_untag(serverless: Any) -> None:
    arn = warehouse_arn(PLAIN)
    assert serverless.list_tags_for_resource(resourceArn=arn)["tags"] == []
    serverless.tag_resource(resourceArn=arn, tags=[{"key": "airflow:conn-id", "value": "x"}, {"key": "b", "value": ""}])
    serverless.untag_resource(resourceArn=arn, tagKeys=["b"])
    assert serverless.list_tags_for_resource(resourceArn=arn)["tags"] == [{"key": "airflow:conn-id", "value": "x"}]
    with pytest.raises(ClientError) as error:
        serverless.tag_resource(resourceArn=arn, tags=[{"key": "a,b", "value": "x"}])
    assert error_code(error) == ("ValidationException", 400)
    with pytest.raises(ClientError) as error:
        serverless.tag_resource(resourceArn=arn, tags=[{"key": f"k{n}", "value": "x"} for n in range(50)])
    assert error_code(error) == ("TooManyTagsException", 400)


@pytest.mark.parametrize("which", [{"workgroupName": "adhoc"}, {"customDomainName": "adhoc.example.com"}])
def test_credentials(serverless: Any, tokens: TokenRegistry, which: dict[str, str]) -> None:
    minted = serverless.get_credentials(**which, dbName="lakehouse", durationSeconds=1200)
    assert minted["dbUser"] == "IAM:etl-bot"
    assert minted["expiration"].timestamp() == NOW + 1200
    token = tokens.check(
        warehouse=warehouse_arn(ADHOC), user="IAM:etl-bot", password=minted["dbPassword"], database="lakehouse"
    )
    assert (token.role, token.auto_create) == ("IAM:etl-bot", True)


def test_credentials_of_a_role(aws: SimulatedAws, serverless: Any) -> None:
    role = client(aws, "redshift-serverless", arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/Worker/s")
    minted = role.get_credentials(workgroupName="adhoc")
    assert (minted["dbUser"], minted["expiration"].timestamp()) == ("IAMR:Worker", NOW + 900)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"workgroupName": "adhoc", "durationSeconds": 899},
        {"workgroupName": "adhoc", "durationSeconds": 3601},
        {"workgroupName": "adhoc", "dbName": "1x"},
        {"workgroupName": "starting"},
    ],
)
def test_credentials_that_aws_rejects(serverless: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as error:
        serverless.get_credentials(**wrong)
    assert error_code(error) == ("ValidationException", 400)


def test_vpc_endpoints(serverless: Any) -> None:
    first, second = serverless.list_endpoint_access(workgroupName="adhoc")["endpoints"]
    assert (first["endpointName"], first["address"], first["port"]) == ("private", "localhost", 5440)
    assert (first["workgroupName"], first["endpointStatus"]) == ("adhoc", "ACTIVE")
    assert (second["endpointStatus"], "address" in second) == ("CREATING", False)
    assert serverless.get_endpoint_access(endpointName="private")["endpoint"] == first
    assert serverless.list_endpoint_access(vpcId="vpc-1")["endpoints"] == []


def test_status(aws: SimulatedAws, serverless: Any) -> None:
    aws.set_status(warehouse_arn(ADHOC), "MODIFYING")
    assert serverless.get_workgroup(workgroupName="adhoc")["workgroup"]["status"] == "MODIFYING"
    with pytest.raises(ValueError, match="must be one of CREATING, AVAILABLE"):
        aws.set_status(warehouse_arn(ADHOC), "paused")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ((Workgroup("UPPER"),), "workgroup 'UPPER': Workgroup.workgroupName: must match the pattern"),
        ((Workgroup("one", status="available"),), "Workgroup.status: must be one of CREATING, AVAILABLE"),
        ((Workgroup("one", namespace="n"), Workgroup("two", namespace="n")), "workgroup 'two': the namespace 'n'"),
    ],
)
def test_workgroups_that_aws_could_not_have(groups: tuple[Workgroup, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_aws(Warehouses(workgroups=groups))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [CLUSTER, ADHOC]),
        ({"ResourceTypeFilters": ["redshift-serverless:workgroup"]}, [ADHOC]),
        ({"ResourceTypeFilters": ["redshift-serverless"]}, [ADHOC]),
        ({"ResourceTypeFilters": ["redshift:cluster"]}, [CLUSTER]),
        ({"ResourceTypeFilters": ["redshift", "redshift-serverless:workgroup"]}, [CLUSTER, ADHOC]),
        ({"ResourceTypeFilters": ["s3"]}, []),
        ({"TagFilters": [{"Key": "airflow:conn-id"}]}, [CLUSTER, ADHOC]),
        ({"TagFilters": [{"Key": "airflow:conn-id"}, {"Key": "owner", "Values": ["bi", "x"]}]}, [ADHOC]),
        ({"TagFilters": [{"Key": "owner", "Values": ["virginia"]}]}, []),
        ({"ResourceARNList": [warehouse_arn(CLUSTER), warehouse_arn(FOREIGN)]}, [CLUSTER]),
    ],
)
def test_tagged_resources(aws: SimulatedAws, filters: dict[str, Any], expected: list[Cluster | Workgroup]) -> None:
    response = client(aws, TAGGING).get_resources(**filters)
    found = {
        item["ResourceARN"]: {tag["Key"]: tag["Value"] for tag in item["Tags"]}
        for item in response["ResourceTagMappingList"]
    }
    assert found == {warehouse_arn(warehouse): warehouse.tags for warehouse in expected}
    assert response["PaginationToken"] == ""


def test_tagged_resources_in_pages(aws: SimulatedAws) -> None:
    tagging = client(aws, TAGGING)
    pages = list(tagging.get_paginator("get_resources").paginate(ResourcesPerPage=1))
    assert [len(page["ResourceTagMappingList"]) for page in pages] == [1, 1]
    assert aws.calls.by_operation() == {"resourcegroupstaggingapi:GetResources": 2}
    for wrong in (
        {"ResourcesPerPage": 101},
        {"PaginationToken": "?"},
        {"ResourceARNList": [warehouse_arn(CLUSTER)], "TagFilters": [{"Key": "owner"}]},
        {"TagsPerPage": 100},
    ):
        with pytest.raises(ClientError) as error:
            tagging.get_resources(**wrong)
        assert error_code(error) == ("InvalidParameterException", 400)
