"""IAM policies that the simulated AWS enforces, through real boto3 clients, and the rules by which a statement matches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from redshift_secrets.local import config
from redshift_secrets.local.aws import SimulatedAws
from redshift_secrets.local.aws.iam_policies import Document, Request, allowed
from redshift_secrets.local.config import Cluster, ConfigError, Warehouses, Workgroup
from tests.local.aws_harness import ACCOUNT, OTHER_ACCOUNT, client, client_with, error_code, make_aws

USER = f"arn:aws:iam::{ACCOUNT}:user/team/etl-bot"
ROLE = f"arn:aws:iam::{OTHER_ACCOUNT}:role/data/Reader"
NEAR = f"arn:aws:iam::{ACCOUNT}:role/Near"
ETL = f"arn:aws:redshift:eu-west-1:{ACCOUNT}"


@pytest.fixture
def warehouses() -> Warehouses:
    return Warehouses(
        clusters=(Cluster("etl"), Cluster("bi")),
        workgroups=(Workgroup("adhoc", tags={"airflow:conn-id": "x"}),),
        policies=config.parse({"policies": [{"identity": USER}, trusting(ROLE), trusting(NEAR)]}).policies,
    )


def trusting(role: str, *more: dict[str, Any], principal: str = USER, **condition: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"}
    if condition:
        statement["Condition"] = condition
    return {"identity": role, "trust_policy": {"Version": "2012-10-17", "Statement": [statement, *more]}}


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def enforce(aws: SimulatedAws, *statements: dict[str, Any], others: tuple[dict[str, Any], ...] = ()) -> None:
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    entry = {"identity": USER, "account": ACCOUNT, "policies": [{"name": "p", "document": document}]}
    aws.set_policies(config.parse({"policies": [entry, *others]}).policies)


def denied(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    assert error_code(error)[0] in ("AccessDenied", "AccessDeniedException")
    return str(error.value.response["Error"]["Message"])


def test_who_has_no_policy_may_do_nothing_and_is_told_as_by_aws(aws: SimulatedAws) -> None:
    assert denied(client(aws).describe_clusters) == (
        f"User: {USER} is not authorized to perform: redshift:DescribeClusters on resource: {ETL}:cluster:*"
        " because no identity-based policy allows the redshift:DescribeClusters action"
    )
    message = denied(client(aws, "redshift-serverless").list_workgroups)
    assert "redshift-serverless:ListWorkgroups on resource: * because" in message
    assert "tag:GetResources on resource: *" in denied(client(aws, "resourcegroupstaggingapi").get_resources)
    assert client(aws, "sts").get_caller_identity()["Arn"] == USER
    stranger = client(aws, arn=f"arn:aws:iam::{ACCOUNT}:user/stranger")
    assert "stranger is not authorized" in denied(stranger.describe_clusters)
    assert "iam:ListRoles" in denied(client(aws, "iam").list_roles)


def test_without_policies_everybody_may_do_everything(aws: SimulatedAws) -> None:
    aws.set_policies(())
    assert len(client(aws).describe_clusters()["Clusters"]) == 2


def test_an_explicit_deny_wins(aws: SimulatedAws) -> None:
    deny = {"Effect": "Deny", "Action": "redshift:Describe*", "Resource": "*"}
    enforce(aws, allow("redshift:*"), deny)
    assert denied(client(aws).describe_clusters).endswith("with an explicit deny in an identity-based policy")


MINT = {"ClusterIdentifier": "etl", "DbUser": "airflow", "DbName": "dwh", "DurationSeconds": 900}
USERS, DATABASES = f"{ETL}:dbuser:etl/airflow", f"{ETL}:dbname:etl/dwh"


@pytest.mark.parametrize(
    ("statements", "more", "missing"),
    [
        ([allow("redshift:GetClusterCredentials", [USERS, DATABASES])], {}, None),
        ([allow("redshift:GetClusterCredentials", USERS)], {}, f"on resource: {DATABASES}"),
        ([allow("redshift:GetClusterCredentials", DATABASES)], {}, f"on resource: {USERS}"),
        ([allow("redshift:GetClusterCredentials")], {"AutoCreate": True}, f"redshift:CreateClusterUser on resource: {USERS}"),
        ([allow("redshift:GetClusterCredentials")], {"DbGroups": ["g"]}, f"redshift:JoinGroup on resource: {ETL}:dbgroup:etl/g"),
        ([allow(["redshift:GetClusterCredentials", "redshift:JoinGroup"])], {"DbGroups": ["g"]}, None),
        ([allow("redshift:GetClusterCredentials", f"{ETL}:db????:etl/${{redshift:DbUser}}"), allow("redshift:*", DATABASES)], {}, None),
        ([allow("*", Condition={"StringEquals": {"redshift:DbName": ["dwh"]}})], {}, None),
        ([allow("*", Condition={"StringEquals": {"redshift:DbName": "dev"}})], {}, "redshift:GetClusterCredentials on"),
        ([allow("*", Condition={"NumericLessThan": {"redshift:DurationSeconds": 901}})], {}, None),
        ([allow("*", Condition={"NumericLessThan": {"redshift:DurationSeconds": "900"}})], {}, "redshift:GetClusterCredentials on"),
    ],
)  # fmt: skip
def test_a_database_user(aws: SimulatedAws, statements: list[Any], more: dict[str, Any], missing: str | None) -> None:
    enforce(aws, *statements)
    if missing is None:
        assert client(aws).get_cluster_credentials(**MINT, **more)["DbUser"].endswith(":airflow")
    else:
        assert missing in denied(client(aws).get_cluster_credentials, **MINT, **more)


def test_an_iam_identity_takes_a_database(aws: SimulatedAws) -> None:
    enforce(aws, allow("redshift:GetClusterCredentialsWithIAM", DATABASES))
    redshift = client(aws)
    assert redshift.get_cluster_credentials_with_iam(ClusterIdentifier="etl", DbName="dwh")["DbUser"] == "IAM:etl-bot"
    message = denied(redshift.get_cluster_credentials_with_iam, ClusterIdentifier="etl", DbName="dev")
    assert f"on resource: {ETL}:dbname:etl/dev" in message


def test_workgroups_are_named_by_their_arns_and_known_by_their_tags(aws: SimulatedAws) -> None:
    serverless = client(aws, "redshift-serverless")
    enforce(aws, allow("redshift-serverless:ListWorkgroups"))
    (group,) = serverless.list_workgroups()["workgroups"]
    for statement in (
        allow("redshift-serverless:GetCredentials", group["workgroupArn"]),
        allow("redshift-serverless:Get*", Condition={"Null": {"aws:ResourceTag/airflow:conn-id": "false"}}),
        allow("redshift-serverless:Get*", Condition={"StringEquals": {"aws:ResourceTag/airflow:conn-id": "x"}}),
    ):
        enforce(aws, statement)
        assert serverless.get_credentials(workgroupName="adhoc")["dbUser"] == "IAM:etl-bot"
    enforce(aws, allow("redshift-serverless:Get*", Condition={"Null": {"aws:ResourceTag/airflow:conn-id": True}}))
    assert group["workgroupArn"] in denied(serverless.get_credentials, workgroupName="adhoc")


def test_listings_know_their_region(aws: SimulatedAws) -> None:
    enforce(aws, allow("redshift-serverless:List*", Condition={"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}))
    assert client(aws, "redshift-serverless").list_namespaces()["namespaces"]
    assert denied(client(aws, "redshift-serverless", region="us-east-1").list_namespaces)


def test_tags_are_written_under_conditions(aws: SimulatedAws) -> None:
    only = {"ForAllValues:StringLike": {"aws:TagKeys": "airflow:*"}}
    enforce(aws, allow("redshift:CreateTags", f"{ETL}:cluster:etl", Condition=only))
    redshift, arn = client(aws), f"{ETL}:cluster:etl"
    redshift.create_tags(ResourceName=arn, Tags=[{"Key": "airflow:conn-id", "Value": "x"}])
    assert denied(redshift.create_tags, ResourceName=arn, Tags=[{"Key": "owner", "Value": "x"}])


def test_a_secret_takes_its_key_only_through_secrets_manager() -> None:
    key = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/1"
    one = Cluster("etl", manage_master_password=True, master_password_secret_kms_key_id=key)
    two = Workgroup("adhoc", manage_admin_password=True)
    with make_aws(Warehouses(clusters=(one,), workgroups=(two,))) as aws:
        (described,) = client(aws).describe_clusters()["Clusters"]
        (namespace,) = client(aws, "redshift-serverless").list_namespaces()["namespaces"]
        secret = described["MasterPasswordSecretArn"]
        assert described["MasterPasswordSecretKmsKeyId"] == key
        secrets = client(aws, "secretsmanager")
        assert secrets.describe_secret(SecretId=secret)["KmsKeyId"] == key
        read = allow("secretsmanager:GetSecretValue")
        enforce(aws, read)
        assert secrets.get_secret_value(SecretId=namespace["adminPasswordSecretArn"])
        assert denied(secrets.get_secret_value, SecretId=secret) == "Access to KMS is not allowed"
        through = {"StringEquals": {"kms:ViaService": "secretsmanager.eu-west-1.amazonaws.com"}}
        enforce(aws, read, allow("kms:Decrypt", key, Condition=through))
        assert secrets.get_secret_value(SecretId=secret)
        enforce(
            aws, read, allow("kms:Decrypt", key, Condition={"StringEquals": {"kms:EncryptionContext:SecretARN": "x"}})
        )
        assert denied(secrets.get_secret_value, SecretId=secret)


# Roles.


def assume(aws: SimulatedAws, role: str = ROLE, arn: str | None = None, **more: Any) -> Any:
    return client(aws, "sts", arn=arn).assume_role(RoleArn=role, RoleSessionName="airflow", **more)


def test_a_role_of_another_account_takes_both_policies(aws: SimulatedAws) -> None:
    enforce(aws, allow("sts:AssumeRole", ROLE), others=(trusting(ROLE),))
    assert assume(aws)["AssumedRoleUser"]["Arn"].endswith(":assumed-role/Reader/airflow")
    enforce(aws, others=(trusting(ROLE),))
    assert denied(assume, aws=aws).endswith(f"is not authorized to perform: sts:AssumeRole on resource: {ROLE}")
    enforce(aws, allow("sts:AssumeRole", ROLE), others=(trusting(ROLE, principal=f"{USER}-2"),))
    assert denied(assume, aws=aws)
    enforce(aws, allow("sts:AssumeRole", ROLE), others=(trusting(ROLE, principal=f"arn:aws:iam::{ACCOUNT}:root"),))
    assert assume(aws)


def test_in_one_account_a_trust_policy_that_names_the_identity_is_enough(aws: SimulatedAws) -> None:
    enforce(aws, others=(trusting(NEAR),))
    assert assume(aws, NEAR)
    enforce(aws, others=(trusting(NEAR, principal=f"arn:aws:iam::{ACCOUNT}:root"),))
    assert denied(assume, aws=aws, role=NEAR)
    deny = {"Effect": "Deny", "Principal": "*", "Action": "sts:*"}
    enforce(aws, allow("sts:*"), others=(trusting(NEAR, deny),))
    assert denied(assume, aws=aws, role=NEAR)


def test_a_session_is_its_role_also_where_that_has_a_path(aws: SimulatedAws) -> None:
    path = f"arn:aws:iam::{ACCOUNT}:role/service/airflow"
    aws.set_policies(config.parse({"policies": [trusting(NEAR, principal=path)]}).policies)
    assert assume(aws, NEAR, arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/airflow/worker-1")
    assert denied(assume, aws=aws, role=NEAR, arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/other/worker-1")


def test_an_external_id_is_a_condition(aws: SimulatedAws) -> None:
    trust = trusting(ROLE, StringEquals={"sts:ExternalId": "agreed"})
    enforce(aws, allow("sts:AssumeRole"), others=(trust,))
    assert assume(aws, ExternalId="agreed")
    assert denied(assume, aws=aws, ExternalId="other")
    assert denied(assume, aws=aws)


def test_session_tags_take_an_action_of_their_own_in_both_policies(aws: SimulatedAws) -> None:
    tags = {"Tags": [{"Key": "RedshiftDbUser", "Value": "etl_sales"}]}
    condition = {
        "StringLikeIfExists": {"aws:RequestTag/RedshiftDbUser": "etl_*"},
        "ForAllValues:StringEquals": {"aws:TagKeys": ["RedshiftDbUser"]},
    }
    tag = {"Effect": "Allow", "Principal": {"AWS": USER}, "Action": "sts:TagSession", "Condition": condition}
    enforce(aws, allow("sts:AssumeRole"), others=(trusting(ROLE, tag),))
    assert "sts:TagSession" in denied(assume, aws=aws, **tags)
    enforce(aws, allow("sts:*"), others=(trusting(ROLE),))
    assert "sts:TagSession" in denied(assume, aws=aws, **tags)
    enforce(aws, allow("sts:*"), others=(trusting(ROLE, tag),))
    assert assume(aws, **tags)
    assert denied(assume, aws=aws, Tags=[{"Key": "RedshiftDbUser", "Value": "admin"}])
    assert denied(assume, aws=aws, Tags=[*tags["Tags"], {"Key": "other", "Value": "x"}])


def test_a_source_identity_stays_and_takes_its_action_each_time(aws: SimulatedAws) -> None:
    near_session = {"identity": NEAR, "policies": [{"document": {"Statement": [allow("sts:AssumeRole")]}}]}
    source = {"Effect": "Allow", "Principal": {"AWS": USER}, "Action": "sts:SetSourceIdentity"}
    near = {**near_session, **trusting(NEAR, source)}
    enforce(aws, others=(near, trusting(ROLE, principal=NEAR)))
    keys = assume(aws, NEAR, SourceIdentity="ops")["Credentials"]
    sts = client_with(aws, "sts", "eu-west-1", keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    assert "sts:SetSourceIdentity" in denied(sts.assume_role, RoleArn=ROLE, RoleSessionName="airflow")


# Statements.


def matches(
    statement: dict[str, Any], action: str = "s3:Get", resource: str = "arn:aws:s3:::b/x", **context: list[str]
) -> bool:
    values = {key.replace("_", ":"): value for key, value in context.items()}
    document = Document({"Statement": statement}, "here")
    return allowed([document], Request(action, resource, values))[0]


@pytest.mark.parametrize(
    ("pattern", "resource", "does"),
    [
        ("*", "arn:aws:s3:::b/x", True),
        ("arn:aws:s3:::b/*", "arn:aws:s3:::b/x/y", True),
        ("arn:aws:s3:::b/?", "arn:aws:s3:::b/x", True),
        ("arn:aws:s3:::b/?", "arn:aws:s3:::b/xy", False),
        ("arn:aws:redshift:*:1:cluster:*", "arn:aws:redshift:eu-west-1:1:cluster:etl", True),
        ("arn:aws:redshift:*:cluster:etl", "arn:aws:redshift:eu-west-1:1:cluster:etl", False),
        ("arn:aws:s3:::B/x", "arn:aws:s3:::b/x", False),
        ("arn:aws:s3:::b/${aws:username}", "arn:aws:s3:::b/x", False),
    ],
)
def test_resources(pattern: str, resource: str, does: bool) -> None:
    assert matches(allow("s3:*", pattern), resource=resource) is does


@pytest.mark.parametrize(
    ("pattern", "does"), [("s3:Get", True), ("S3:get", True), ("s3:G?t", True), ("s3:Put", False), ("*", True)]
)
def test_actions(pattern: str, does: bool) -> None:
    assert matches(allow(pattern)) is does
    assert matches({"Effect": "Allow", "NotAction": pattern, "Resource": "*"}) is not does


def test_all_resources_but_one() -> None:
    statement = {"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::b/x"}
    assert not matches(statement)
    assert matches(statement, resource="arn:aws:s3:::b/y")


@pytest.mark.parametrize(
    ("operator", "wanted", "found", "does"),
    [
        ("StringEquals", ["a", "b"], ["b"], True),
        ("StringEquals", "a", ["b"], False),
        ("StringEquals", "a", None, False),
        ("StringEqualsIfExists", "a", None, True),
        ("StringEqualsIgnoreCase", "A", ["a"], True),
        ("StringNotEquals", ["a", "b"], ["a"], False),
        ("StringNotEquals", ["a", "b"], ["c"], True),
        ("StringNotEquals", "a", None, True),
        ("StringNotEqualsIgnoreCase", "A", ["a"], False),
        ("StringLike", "et?_*", ["etl_x"], True),
        ("StringNotLike", "et?_*", ["etl_x"], False),
        ("ArnLike", "arn:aws:iam::*:role/x", ["arn:aws:iam::1:role/x"], True),
        ("ArnNotLike", "arn:aws:iam::*:role/x", ["arn:aws:iam::1:role/x"], False),
        ("ArnEquals", "arn:aws:iam::1:role/*", ["arn:aws:iam::1:role/x"], True),
        ("ArnNotEquals", "arn:aws:iam::1:role/*", ["arn:aws:iam::2:role/x"], True),
        ("Bool", "true", ["True"], True),
        ("Bool", True, ["false"], False),
        ("NumericEquals", 5, ["5"], True),
        ("NumericNotEquals", 5, ["5"], False),
        ("NumericLessThan", 5, ["5"], False),
        ("NumericLessThanEquals", 5, ["5"], True),
        ("NumericGreaterThan", 5, ["6"], True),
        ("NumericGreaterThanEquals", 5, ["4"], False),
        ("NumericEquals", 5, ["five"], False),
        ("Null", "true", None, True),
        ("Null", "false", None, False),
        ("Null", "false", ["x"], True),
        ("ForAllValues:StringEquals", ["a", "b"], ["a", "b"], True),
        ("ForAllValues:StringEquals", ["a"], ["a", "b"], False),
        ("ForAllValues:StringEquals", ["a"], None, True),
        ("ForAnyValue:StringEquals", ["a"], ["a", "b"], True),
        ("ForAnyValue:StringEquals", ["a"], None, False),
        ("ForAnyValue:StringNotEquals", ["a"], None, False),
        ("StringEquals", "${s3:owner}", ["me"], True),
        ("StringEquals", "${s3:nobody}", ["me"], False),
    ],
)
def test_conditions(operator: str, wanted: Any, found: list[str] | None, does: bool) -> None:
    statement = allow("*", Condition={operator: {"S3:Key": wanted}})
    context = {"s3_owner": ["me"]} if found is None else {"s3_owner": ["me"], "s3_key": found}
    assert matches(statement, **context) is does


def test_each_key_and_operator_of_a_condition_must_hold() -> None:
    both = {"StringEquals": {"s3:a": "1", "s3:b": "1"}, "StringLike": {"s3:c": "*"}}
    assert matches(allow("*", Condition=both), s3_a=["1"], s3_b=["1"], s3_c=["x"])
    assert not matches(allow("*", Condition=both), s3_a=["1"], s3_b=["2"], s3_c=["x"])
    assert not matches(allow("*", Condition=both), s3_a=["1"], s3_b=["1"])


# The file.


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"identity": "airflow"}, "policies[0]: identity must be the ARN"),
        ({"identity": USER, "statement": []}, "unknown key 'statement'"),
        ({"identity": USER, "policies": [{"document": []}]}, "policies[0].document: must be a mapping"),
        ({"identity": USER, "policies": [{"document": {}}]}, "must be a policy with a Statement"),
        ({"identity": USER, "policies": [{"document": {"Statement": {"Action": "*"}}}]}, "Effect must be Allow or Deny"),
        ({"identity": USER, "policies": [{"document": {"Statement": allow("*", Actions="x")}}]}, "unknown element 'Actions'"),
        ({"identity": USER, "policies": [{"document": {"Statement": {"Effect": "Allow"}}}]}, "either Action or NotAction"),
        (
            {"identity": USER, "policies": [{"document": {"Statement": {"Effect": "Allow", "Action": "*"}}}]},
            "needs a Resource",
        ),
        (
            {"identity": USER, "policies": [{"document": {"Statement": allow("*", Condition={"StringIs": {}})}}]},
            "does not know the condition operator 'StringIs'",
        ),
        (
            {"identity": NEAR, "trust_policy": {"Statement": {"Effect": "Allow", "Action": "*", "NotPrincipal": "*", "Principal": "*"}}},
            "does not know NotPrincipal",
        ),
    ],
)  # fmt: skip
def test_what_is_no_policy_is_named(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make_aws(config.parse({"policies": [entry]}))
    assert message in str(error.value)


def test_policies_may_be_in_a_file_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "policies.json").write_text(json.dumps([trusting(ROLE)]), encoding="utf-8")
    file = tmp_path / "warehouses.yaml"
    file.write_text("policies: policies.json\n", encoding="utf-8")
    assert [each.identity for each in config.load(file).policies] == [ROLE]
    file.write_text("policies: missing.json\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        config.load(file)
