"""Credentials for clusters of the simulated AWS, through real boto3 clients."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from redshift_secrets.local.aws import SimulatedAws, warehouse_arn
from redshift_secrets.local.config import Cluster, Database, Warehouses
from redshift_secrets.local.tokens import TokenRefusedError, TokenRegistry
from tests.local.aws_harness import ACCOUNT, NOW, OTHER_ACCOUNT, client, error_code
from tests.support.fakes import Clock

ETL = Cluster(
    "etl",
    database=Database("warehouse"),
    custom_domain="dw.example.com",
    manage_master_password=True,
)
BI = Cluster("bi")
NEW = Cluster("new", status="creating")


@pytest.fixture
def warehouses() -> Warehouses:
    return Warehouses(clusters=(ETL, BI, NEW))


def test_credentials_for_a_database_user(redshift: Any, tokens: TokenRegistry, clock: Clock) -> None:
    minted = redshift.get_cluster_credentials(
        ClusterIdentifier="etl", DbUser="New.User", DbName="warehouse", DbGroups=["bi", "ops"]
    )
    assert minted["DbUser"] == "IAM:new.user"
    assert minted["Expiration"].timestamp() == NOW + 900

    def check(database: str = "warehouse", warehouse: str = warehouse_arn(ETL)) -> Any:
        return tokens.check(
            warehouse=warehouse, user=minted["DbUser"], password=minted["DbPassword"], database=database
        )

    token = check()
    assert (token.role, token.db_groups, token.auto_create) == ("new.user", ("bi", "ops"), False)
    for wrong in ({"database": "dev"}, {"warehouse": warehouse_arn(BI)}):
        with pytest.raises(TokenRefusedError):
            check(**wrong)
    clock.now += 900
    with pytest.raises(TokenRefusedError):
        check()


def test_auto_create_for_any_database_with_a_duration(redshift: Any, tokens: TokenRegistry) -> None:
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
def test_credentials_that_aws_rejects(redshift: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as error:
        redshift.get_cluster_credentials(ClusterIdentifier="etl", **wrong)
    assert error_code(error) == ("ValidationError", 400)


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
    assert error_code(error) == ("CustomDomainAssociationNotFoundFault", 404)


def test_credentials_for_a_missing_cluster(aws: SimulatedAws, redshift: Any) -> None:
    with pytest.raises(ClientError) as error:
        redshift.get_cluster_credentials(DbUser="etl")
    assert error_code(error) == ("ValidationError", 400)
    for which in ({"ClusterIdentifier": "nope"}, {"CustomDomainName": "no.example.com"}):
        for call in (redshift.get_cluster_credentials_with_iam, redshift.get_cluster_credentials):
            needed = {"DbUser": "etl"} if call == redshift.get_cluster_credentials else {}
            with pytest.raises(ClientError) as error:
                call(**which, **needed)
            assert error_code(error) == ("ClusterNotFound", 404)
    with pytest.raises(ClientError) as error:
        redshift.get_cluster_credentials_with_iam(ClusterIdentifier="new")
    assert error_code(error) == ("UnsupportedOperation", 400)


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
    for other in ({"region": "us-east-1"}, {"arn": f"arn:aws:iam::{OTHER_ACCOUNT}:user/bob"}):
        with pytest.raises(ClientError) as error:
            client(aws, "secretsmanager", **other).get_secret_value(SecretId="redshift!etl-awsuser")
        assert error_code(error)[0] == "ResourceNotFoundException"
