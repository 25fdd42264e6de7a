"""Credentials for clusters of the simulated AWS, through real boto3 clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from aws_harness import ACCOUNT, NOW, OTHER_ACCOUNT, Clock, Endpoints, client, refusal
from botocore.exceptions import ClientError

from redshift_secrets.local.aws import SimulatedAws, warehouse_arn
from redshift_secrets.local.config import Cluster, Database, Warehouses
from redshift_secrets.local.tokens import TokenRefusedError, TokenRegistry

ETL = Cluster(
    "etl",
    database=Database("warehouse"),
    custom_domain="dw.example.com",
    manage_master_password=True,
)
BI = Cluster("bi")
NEW = Cluster("new", status="creating")


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
        }
    )


@pytest.fixture
def aws(clock: Clock, tokens: TokenRegistry, endpoints: Endpoints) -> Iterator[SimulatedAws]:
    warehouses = Warehouses(clusters=(ETL, BI, NEW))
    with SimulatedAws(warehouses, tokens, endpoints=endpoints, clock=clock) as running:
        yield running


@pytest.fixture
def redshift(aws: SimulatedAws) -> Any:
    return client(aws)


def test_credentials_for_a_database_user(redshift: Any, tokens: TokenRegistry, clock: Clock) -> None:
    minted = redshift.get_cluster_credentials(
        ClusterIdentifier="etl", DbUser="Nobody.Knows", DbName="warehouse", DbGroups=["bi", "ops"]
    )
    assert minted["DbUser"] == "IAM:nobody.knows"
    assert minted["Expiration"].timestamp() == NOW + 900

    def check(database: str = "warehouse", warehouse: str = warehouse_arn(ETL)) -> Any:
        return tokens.check(
            warehouse=warehouse, user=minted["DbUser"], password=minted["DbPassword"], database=database
        )

    token = check()
    assert (token.role, token.db_groups, token.auto_create) == ("nobody.knows", ("bi", "ops"), False)
    for wrong in ({"database": "dev"}, {"warehouse": warehouse_arn(BI)}):
        with pytest.raises(TokenRefusedError):
            check(**wrong)
    clock.now += 900
    with pytest.raises(TokenRefusedError):
        check()


def test_auto_create_any_database_and_duration(redshift: Any, tokens: TokenRegistry) -> None:
    minted = redshift.get_cluster_credentials(
        ClusterIdentifier="etl", DbUser="etl", AutoCreate=True, DurationSeconds=3600, DbGroups=[]
    )
    assert minted["DbUser"] == "IAMA:etl"
    assert minted["Expiration"].timestamp() == NOW + 3600
    token = tokens.check(
        warehouse=warehouse_arn(ETL), user="IAMA:etl", password=minted["DbPassword"], database="whatever"
    )
    assert (token.role, token.auto_create) == ("etl", True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"DbUser": ""},
        {"DbUser": "1etl"},
        {"DbUser": "IAM:etl"},
        {"DbUser": "a/b"},
        {"DbUser": "a b"},
        {"DbUser": "etl\n"},
        {"DbUser": "u" * 65},
        {"DbUser": "Public"},
        {"DbUser": "etl", "DurationSeconds": 899},
        {"DbUser": "etl", "DurationSeconds": 3601},
        {"DbUser": "etl", "DbGroups": ["Upper"]},
        {"DbUser": "etl", "DbName": "a:b"},
    ],
)
def test_credentials_that_aws_refuses(redshift: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as error:
        redshift.get_cluster_credentials(ClusterIdentifier="etl", **wrong)
    assert refusal(error) == ("ValidationError", 400)


def test_credentials_by_custom_domain(redshift: Any, tokens: TokenRegistry) -> None:
    associations = redshift.describe_custom_domain_associations(CustomDomainName="dw.example.com")["Associations"]
    assert associations[0]["CertificateAssociations"] == [
        {"CustomDomainName": "dw.example.com", "ClusterIdentifier": "etl"}
    ]
    minted = redshift.get_cluster_credentials(CustomDomainName="dw.example.com", DbUser="etl")
    token = tokens.check(
        warehouse=warehouse_arn(ETL), user=minted["DbUser"], password=minted["DbPassword"], database="dev"
    )
    assert token.warehouse == warehouse_arn(ETL)
    with pytest.raises(ClientError) as error:
        redshift.describe_custom_domain_associations(CustomDomainName="no.example.com")
    assert refusal(error) == ("CustomDomainAssociationNotFoundFault", 404)


def test_credentials_for_no_cluster(aws: SimulatedAws, redshift: Any) -> None:
    with pytest.raises(ClientError) as error:
        redshift.get_cluster_credentials(DbUser="etl")
    assert refusal(error) == ("ValidationError", 400)
    for which in ({"ClusterIdentifier": "nope"}, {"CustomDomainName": "no.example.com"}):
        for call in (redshift.get_cluster_credentials_with_iam, redshift.get_cluster_credentials):
            needed = {"DbUser": "etl"} if call == redshift.get_cluster_credentials else {}
            with pytest.raises(ClientError) as error:
                call(**which, **needed)
            assert refusal(error) == ("ClusterNotFound", 404)
    with pytest.raises(ClientError) as error:
        redshift.get_cluster_credentials_with_iam(ClusterIdentifier="new")
    assert refusal(error) == ("UnsupportedOperation", 400)


@pytest.mark.parametrize(
    ("arn", "user"),
    [
        (f"arn:aws:iam::{ACCOUNT}:user/team/etl-bot", "IAM:etl-bot"),
        (f"arn:aws:sts::{ACCOUNT}:assumed-role/AirflowWorker/session-1", "IAMR:AirflowWorker"),
    ],
)
def test_credentials_for_an_iam_identity(aws: SimulatedAws, tokens: TokenRegistry, arn: str, user: str) -> None:
    minted = client(aws, arn=arn).get_cluster_credentials_with_iam(ClusterIdentifier="etl", DurationSeconds=1800)
    assert minted["DbUser"] == user
    assert minted["Expiration"].timestamp() == NOW + 1800
    token = tokens.check(warehouse=warehouse_arn(ETL), user=user, password=minted["DbPassword"], database="dev")
    assert (token.role, token.auto_create) == (user, True)


def test_managed_admin_secret(aws: SimulatedAws, redshift: Any, tokens: TokenRegistry) -> None:
    arn = redshift.describe_clusters(ClusterIdentifier="etl")["Clusters"][0]["MasterPasswordSecretArn"]
    secret = json.loads(client(aws, "secretsmanager").get_secret_value(SecretId=arn)["SecretString"])
    token = tokens.check(
        warehouse=warehouse_arn(ETL), user="awsuser", password=secret["password"], database="warehouse"
    )
    assert (secret["username"], token.role, token.expires_at) == ("awsuser", "awsuser", None)
    for elsewhere in ({"region": "us-east-1"}, {"arn": f"arn:aws:iam::{OTHER_ACCOUNT}:user/bob"}):
        with pytest.raises(ClientError) as error:
            client(aws, "secretsmanager", **elsewhere).get_secret_value(SecretId="redshift!etl-awsuser")
        assert refusal(error)[0] == "ResourceNotFoundException"
