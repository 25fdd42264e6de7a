"""Access keys and AssumeRole of the simulated AWS, through real boto3 clients."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.exceptions import ClientError

from redshift_secrets.local.aws import SimulatedAws
from redshift_secrets.local.config import Cluster, ConfigError, Role, Warehouses
from tests.local.aws_harness import ACCOUNT, NOW, OTHER_ACCOUNT, client, client_with, error_code, make_aws
from tests.support.fakes import Clock

OPEN = Role(f"arn:aws:iam::{OTHER_ACCOUNT}:role/data/Reader")
GUARDED = Role(f"arn:aws:iam::{OTHER_ACCOUNT}:role/Guarded", external_id="airflow-42")
SERVICES = [("redshift", "describe_clusters"), ("redshift-serverless", "list_workgroups")]


@pytest.fixture
def warehouses() -> Warehouses:
    clusters = (Cluster("etl"), Cluster("other", account=OTHER_ACCOUNT))
    return Warehouses(clusters=clusters, roles=(OPEN, GUARDED))


def client_of_role(aws: SimulatedAws, service: str, credentials: dict[str, Any]) -> Any:
    key = credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"]
    return client_with(aws, service, "eu-west-1", *key)


def test_boto3_needs_only_the_environment(aws: SimulatedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    session = boto3.Session()
    identity = session.client("sts").get_caller_identity()
    assert identity["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/airflow"
    assert identity["Account"] == ACCOUNT
    clusters = session.client("redshift").describe_clusters()["Clusters"]
    assert [cluster["ClusterIdentifier"] for cluster in clusters] == ["etl"]
    assert set(aws.environment()) == {
        "AWS_ENDPOINT_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_DEFAULT_REGION",
        "AWS_EC2_METADATA_DISABLED",
    }


def test_a_role_acts_in_its_own_account(aws: SimulatedAws) -> None:
    response = client(aws, "sts").assume_role(RoleArn=OPEN.arn, RoleSessionName="airflow")
    arn = f"arn:aws:sts::{OTHER_ACCOUNT}:assumed-role/Reader/airflow"
    assert response["AssumedRoleUser"]["Arn"] == arn
    assert response["Credentials"]["Expiration"].timestamp() == NOW + 3600
    identity = client_of_role(aws, "sts", response["Credentials"]).get_caller_identity()
    assert (identity["Arn"], identity["Account"]) == (arn, OTHER_ACCOUNT)
    assert identity["UserId"] == response["AssumedRoleUser"]["AssumedRoleId"]
    redshift = client_of_role(aws, "redshift", response["Credentials"])
    assert [item["ClusterIdentifier"] for item in redshift.describe_clusters()["Clusters"]] == ["other"]
    minted = redshift.get_cluster_credentials_with_iam(ClusterIdentifier="other")
    assert minted["DbUser"] == "IAMR:Reader"


def test_external_id(aws: SimulatedAws) -> None:
    sts = client(aws, "sts")
    response = sts.assume_role(RoleArn=GUARDED.arn, RoleSessionName="airflow", ExternalId="airflow-42")
    assert response["AssumedRoleUser"]["Arn"].endswith(":assumed-role/Guarded/airflow")
    # A role without an external id accepts any.
    assert sts.assume_role(RoleArn=OPEN.arn, RoleSessionName="airflow", ExternalId="any")["Credentials"]


@pytest.mark.parametrize(
    ("arn", "more"),
    [
        (GUARDED.arn, {}),
        (GUARDED.arn, {"ExternalId": "wrong"}),
        (f"arn:aws:iam::{OTHER_ACCOUNT}:role/Nobody", {}),
    ],
)
def test_roles_that_cannot_be_assumed(aws: SimulatedAws, arn: str, more: dict[str, str]) -> None:
    with pytest.raises(ClientError) as error:
        client(aws, "sts").assume_role(RoleArn=arn, RoleSessionName="airflow", **more)
    assert error_code(error) == ("AccessDenied", 403)
    assert error.value.response["Error"]["Message"] == (
        f"User: arn:aws:iam::{ACCOUNT}:user/team/etl-bot is not authorized "
        f"to perform: sts:AssumeRole on resource: {arn}"
    )


@pytest.mark.parametrize(("service", "operation"), SERVICES)
def test_keys_of_an_assumed_role_expire(aws: SimulatedAws, clock: Clock, service: str, operation: str) -> None:
    response = client(aws, "sts").assume_role(RoleArn=OPEN.arn, RoleSessionName="airflow", DurationSeconds=900)
    role = client_of_role(aws, service, response["Credentials"])
    clock.now += 899
    assert getattr(role, operation)()["ResponseMetadata"]["HTTPStatusCode"] == 200
    clock.now += 1
    with pytest.raises(ClientError) as error:
        getattr(role, operation)()
    expected = ("ExpiredToken", 403) if service == "redshift" else ("ExpiredTokenException", 400)
    assert error_code(error) == expected


@pytest.mark.parametrize(
    ("service", "operation"), [*SERVICES, ("secretsmanager", "list_secrets"), ("iam", "list_users")]
)
def test_invalid_keys(aws: SimulatedAws, service: str, operation: str) -> None:
    key_id, secret, _ = aws.add_access_key(f"arn:aws:iam::{ACCOUNT}:user/x")
    query = service in ("redshift", "iam")
    # Keys are checked for services of moto, too. A user's key with a session token is invalid.
    for key in (("AKIAIOSFODNN7EXAMPLE", "x", None), (key_id, secret, "stray")):
        with pytest.raises(ClientError) as error:
            getattr(client_with(aws, service, "eu-west-1", *key), operation)()
        assert error_code(error) == (("InvalidClientTokenId", 403) if query else ("UnrecognizedClientException", 400))


def test_an_assumed_role_needs_its_session_token(aws: SimulatedAws) -> None:
    key_id, secret, token = aws.add_access_key(f"arn:aws:sts::{ACCOUNT}:assumed-role/Worker/s")
    assert token
    with pytest.raises(ClientError) as error:
        client_with(aws, "redshift", "eu-west-1", key_id, secret, None).describe_clusters()
    assert error_code(error) == ("InvalidClientTokenId", 403)


def test_an_unsigned_request_is_rejected_with_its_operation(aws: SimulatedAws) -> None:
    key = "x", "x", None
    sts = client_with(aws, "sts", "eu-west-1", *key, signature_version=UNSIGNED)
    with pytest.raises(ClientError, match="AssumeRoleWithWebIdentity") as error:
        sts.assume_role_with_web_identity(RoleArn=OPEN.arn, RoleSessionName="airflow", WebIdentityToken="token")
    assert error_code(error) == ("NotSimulated", 501)


def test_moto_sees_the_account_of_the_caller(aws: SimulatedAws) -> None:
    arn = client(aws, "iam", arn=f"arn:aws:iam::{OTHER_ACCOUNT}:user/bob").create_role(
        RoleName="x", AssumeRolePolicyDocument="{}"
    )["Role"]["Arn"]
    assert arn == f"arn:aws:iam::{OTHER_ACCOUNT}:role/x"
    assert client(aws, "iam").list_roles()["Roles"] == []


@pytest.mark.parametrize(
    "arn", ["bob", f"arn:aws:iam::{ACCOUNT}:root", f"arn:aws:iam::{ACCOUNT}:role/x", "arn:aws:s3:::b"]
)
def test_keys_are_only_for_users_and_sessions(aws: SimulatedAws, arn: str) -> None:
    with pytest.raises(ValueError, match="is neither"):
        aws.add_access_key(arn)


def test_a_role_needs_an_arn() -> None:
    with pytest.raises(ConfigError, match="role 'Reader'"):
        make_aws(Warehouses(roles=(Role("Reader"),)))
