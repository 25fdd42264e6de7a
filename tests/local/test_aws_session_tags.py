"""Session tags in the simulated AWS: who may pass them, their limits, and the database user and groups that come of them."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from redshift_secrets.local.aws import SimulatedAws
from redshift_secrets.local.aws.arns import warehouse_arn
from redshift_secrets.local.config import Cluster, Role, Warehouses, Workgroup
from redshift_secrets.local.tokens import TokenRegistry
from tests.local.aws_harness import ACCOUNT, client, client_with, error_code

TAGGED = Role(f"arn:aws:iam::{ACCOUNT}:role/Tagged", tag_session=True)
PLAIN = Role(f"arn:aws:iam::{ACCOUNT}:role/Plain")
CLUSTER, WORKGROUP = Cluster("etl"), Workgroup("adhoc")


@pytest.fixture
def warehouses() -> Warehouses:
    return Warehouses(clusters=(CLUSTER,), workgroups=(WORKGROUP,), roles=(TAGGED, PLAIN))


def assume(aws: SimulatedAws, role: Role = TAGGED, *, arn: str | None = None, more: Any = None, **tags: str) -> Any:
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    sts = client(aws, "sts", arn=arn)
    found = sts.assume_role(RoleArn=role.arn, RoleSessionName="airflow", Tags=pairs, **(more or {}))["Credentials"]
    key = found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]
    return lambda service: client_with(aws, service, "eu-west-1", *key)


@pytest.mark.parametrize(
    ("tags", "user", "of_cluster", "of_workgroup"),
    [
        ({}, "IAMR:Tagged", (), ()),
        ({"RedshiftDbUser": "etl"}, "IAMR:etl", (), ()),
        ({"RedshiftDbGroups": "a:b"}, "IAMR:Tagged", ("a", "b"), ()),
        ({"RedshiftDbUser": "etl", "RedshiftDbRoles": "a::b:"}, "IAMR:etl", (), ("a", "b")),
        ({"redshiftdbuser": "etl"}, "IAMR:etl", (), ()),
        ({"DbUser": "etl"}, "IAMR:Tagged", (), ()),
    ],
)
def test_the_tags_name_user_groups_and_roles(
    aws: SimulatedAws, tokens: TokenRegistry, tags: Any, user: str, of_cluster: Any, of_workgroup: Any
) -> None:
    session = assume(aws, **tags)
    on_cluster = session("redshift").get_cluster_credentials_with_iam(ClusterIdentifier="etl", DbName="dev")
    on_workgroup = session("redshift-serverless").get_credentials(workgroupName="adhoc", dbName="dev")
    for config, found, password, groups in (
        (CLUSTER, on_cluster["DbUser"], on_cluster["DbPassword"], of_cluster),
        (WORKGROUP, on_workgroup["dbUser"], on_workgroup["dbPassword"], of_workgroup),
    ):
        token = tokens.check(warehouse=warehouse_arn(config), user=found, password=password, database="dev")
        assert (found, token.role, token.tagged_groups, token.db_groups) == (user, user, groups, ())


def test_a_role_whose_trust_does_not_allow_tags_cannot_be_assumed_with_them(aws: SimulatedAws) -> None:
    assert assume(aws, PLAIN)
    with pytest.raises(ClientError) as error:
        assume(aws, PLAIN, RedshiftDbUser="etl")
    assert error_code(error) == ("AccessDenied", 403)
    assert f"is not authorized to perform: sts:TagSession on resource: {PLAIN.arn}" in str(error.value)


@pytest.mark.parametrize(
    ("tags", "arn", "more", "code"),
    [
        ({"Team": "a", "team": "b"}, None, {}, "InvalidParameterValue"),
        ({f"tag{number}": "x" * 200 for number in range(6)}, None, {}, "PackedPolicyTooLarge"),
        ({}, None, {"Policy": "{}" + " " * 1500}, "PackedPolicyTooLarge"),
        ({}, f"arn:aws:sts::{ACCOUNT}:assumed-role/Plain/me", {"DurationSeconds": 3601}, "ValidationError"),
        ({"a": "*"}, None, {}, "ValidationError"),
    ],
)
def test_limits(aws: SimulatedAws, tags: Any, arn: str | None, more: Any, code: str) -> None:
    with pytest.raises(ClientError) as error:
        assume(aws, arn=arn, more=more, **tags)
    assert error_code(error) == (code, 400)


def test_a_role_that_is_not_chained_may_be_longer_than_an_hour(aws: SimulatedAws) -> None:
    assert assume(aws, more={"DurationSeconds": 43_200})
