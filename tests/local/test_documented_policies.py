"""The policies that README and docs/security.md show, on an AWS that enforces them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from redshift_secrets.local import config
from redshift_secrets.local.aws import SimulatedAws
from redshift_secrets.local.config import Warehouses
from tests.local.aws_harness import ACCOUNT, client

ROOT = Path(__file__).parents[2]
AIRFLOW = f"arn:aws:iam::{ACCOUNT}:role/airflow"
TAGGING = f"arn:aws:iam::{ACCOUNT}:role/airflow-tagging"
READER = f"arn:aws:iam::{ACCOUNT}:role/reader"
EVERYTHING = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}


def shown(title: str) -> dict[str, Any]:
    """Return the policy under a heading of docs/security.md."""
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    (policy,) = re.findall(r"```json\n(\{\n.*?)```", page, re.DOTALL)
    return dict(json.loads(policy))


def session(aws: SimulatedAws, service: str, role: str = AIRFLOW, region: str = "eu-west-1") -> Any:
    arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/{role.rpartition('/')[2]}/worker-1"
    return client(aws, service, region, arn)


def denied(call: Any, **arguments: Any) -> bool:
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException")
    return False


@pytest.fixture
def warehouses() -> Warehouses:
    tagged = {"airflow:conn-id": "analytics"}
    return config.parse(
        {
            "clusters": [{"identifier": "etl", "tags": tagged}],
            "workgroups": [{"name": "adhoc", "tags": tagged}, {"name": "others"}],
            "roles": [{"arn": READER, "tag_session": True}],
        }
    )


@pytest.fixture
def enforce(aws: SimulatedAws) -> Iterator[Any]:
    def those(*entries: dict[str, Any]) -> None:
        aws.set_policies(config.parse({"policies": list(entries)}).policies)

    yield those
    aws.set_policies(())


def entry(identity: str, *documents: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"identity": identity, "policies": [{"document": each} for each in documents], **more}


def test_the_minimal_policy_lists_and_logs_in_and_does_nothing_else(aws: SimulatedAws, enforce: Any) -> None:
    policy = json.loads((ROOT / "examples" / "policy.json").read_text(encoding="utf-8"))
    enforce(entry(AIRFLOW, policy))
    redshift, serverless = session(aws, "redshift"), session(aws, "redshift-serverless")
    assert redshift.describe_clusters()["Clusters"]
    assert session(aws, "resourcegroupstaggingapi").get_resources()["ResourceTagMappingList"]
    assert serverless.list_workgroups()["workgroups"]
    assert serverless.list_namespaces()["namespaces"]
    assert serverless.get_workgroup(workgroupName="adhoc")["workgroup"]
    minted = {"ClusterIdentifier": "etl", "DbName": "dev"}
    assert redshift.get_cluster_credentials(**minted, DbUser="airflow_etl")["DbUser"] == "IAM:airflow_etl"
    assert serverless.get_credentials(workgroupName="adhoc")["dbUser"] == "IAMR:airflow"
    assert denied(redshift.get_cluster_credentials, **minted, DbUser="awsuser")
    assert denied(redshift.get_cluster_credentials, **minted, DbUser="airflow_etl", AutoCreate=True)
    assert denied(redshift.get_cluster_credentials_with_iam, **minted)
    assert denied(serverless.get_credentials, workgroupName="others")
    assert denied(redshift.create_tags, ResourceName=f"arn:aws:redshift:eu-west-1:{ACCOUNT}:cluster:etl", Tags=[])


def test_the_trust_policy_lets_airflow_choose_among_these_users_and_roles_only(aws: SimulatedAws, enforce: Any) -> None:
    trust = json.loads(json.dumps(shown("Users, groups and roles by session tags")))
    enforce(entry(READER, trust_policy=trust))
    sts = session(aws, "sts")
    call = {"RoleArn": READER, "RoleSessionName": "worker"}

    def tags(**names: str) -> dict[str, Any]:
        return {**call, "Tags": [{"Key": f"RedshiftDb{key}", "Value": value} for key, value in names.items()]}

    assert sts.assume_role(**call)
    assert sts.assume_role(**tags(User="etl_sales", Roles="readers:loaders"))
    assert sts.assume_role(**tags(User="airflow_etl"))
    assert denied(sts.assume_role, **tags(User="admin"))
    assert denied(sts.assume_role, **tags(User="etl_sales", Roles="loaders:readers"))
    assert denied(sts.assume_role, **tags(Other="x"))
    assert denied(session(aws, "sts", TAGGING).assume_role, **call)


def test_the_policy_for_tagging_leaves_tags_under_the_prefix_to_one_role(aws: SimulatedAws, enforce: Any) -> None:
    policy = shown("Who may tag")
    enforce(entry(AIRFLOW, EVERYTHING, policy), entry(TAGGING, EVERYTHING, policy))
    (group, _) = session(aws, "redshift-serverless", TAGGING).list_workgroups()["workgroups"]
    arn = f"arn:aws:redshift:eu-west-1:{ACCOUNT}:cluster:etl"
    ours, others = {"Key": "airflow:team", "Value": "x"}, {"Key": "owner", "Value": "x"}
    redshift, serverless = session(aws, "redshift"), session(aws, "redshift-serverless")
    assert denied(redshift.create_tags, ResourceName=arn, Tags=[others, ours])
    assert denied(redshift.delete_tags, ResourceName=arn, TagKeys=["airflow:conn-id"])
    assert denied(serverless.tag_resource, resourceArn=group["workgroupArn"], tags=[{"key": "airflow:x", "value": "x"}])
    assert denied(serverless.untag_resource, resourceArn=group["workgroupArn"], tagKeys=["airflow:conn-id"])
    redshift.create_tags(ResourceName=arn, Tags=[others])
    session(aws, "redshift", TAGGING).create_tags(ResourceName=arn, Tags=[ours])
