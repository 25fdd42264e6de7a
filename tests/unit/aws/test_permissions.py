"""Which IAM permissions the calls to AWS take."""

from __future__ import annotations

import re
from pathlib import Path

import boto3
import pytest

from redshift_secrets.aws import discovery, minting
from redshift_secrets.aws.permissions import (
    ANY,
    MINT,
    Permission,
    Place,
    partition,
    to_assume,
    to_describe,
    to_list,
    to_list_endpoints,
    to_mint,
    to_tag,
)
from redshift_secrets.lookup.spec import build_spec
from redshift_secrets.model import MintRequest
from redshift_secrets.settings import Settings
from tests.support.fakes import cluster, workgroup

HERE = Place("eu-west-1", "123456789012")
REDSHIFT = "arn:aws:redshift:eu-west-1:123456789012"
ROLE = "arn:aws:iam::123456789012:role/airflow"


def request(warehouse, **settings):
    return MintRequest.of(build_spec(warehouse, "analytics", Settings.from_kwargs(settings)))


def pairs(found):
    return [(each.action, each.resource) for each in found]


def everything():
    """Every permission that the table has."""
    secret = cluster(admin_secret_arn="arn:aws:secretsmanager:eu-west-1:123456789012:secret:s")
    requests = [
        request(cluster(), db_user="etl", db_groups="g", auto_create=True),
        request(cluster(), auth="iam"),
        request(workgroup()),
        request(secret, auth="secret", allow_admin_secret=True),
    ]
    return [
        *(each for kind in ("cluster", "workgroup") for each in to_list(kind, HERE) + to_list_endpoints(kind, HERE)),
        *(each for kind in ("cluster", "workgroup") for each in to_describe(kind, "arn")),
        *(each for one in requests for each in to_mint(one, "arn:aws:kms:eu-west-1:123456789012:key/1")),
        *to_assume(ROLE, ("SourceIdentity", "ProvidedContexts")),
        *to_tag(ROLE, {"RedshiftDbUser": ["etl"]}),
    ]


def test_every_call_of_lookups_is_in_the_table():
    folder = Path(discovery.__file__).parent
    # What operators call, with the commands `tag` and `policy`; the two below take no policy.
    files = [
        path for path in folder.glob("*.py") if path.name not in ("tagging.py", "secret_keys.py", "permissions.py")
    ]
    named = {
        action
        for path in files
        for action in re.findall(
            r'"((?:redshift|redshift-serverless|tag|secretsmanager|sts|kms):[A-Z]\w+)"', path.read_text()
        )
    }
    assert len(named) > 10
    assert named - {each.action for each in everything()} == {"sts:GetCallerIdentity", "sts:AssumeRoleWithWebIdentity"}


def test_every_way_that_mints_has_its_action():
    assert {way: action for way, (action, _) in minting.WAYS.items()} == MINT


def test_a_database_user_takes_user_and_database_and_what_else_was_asked_for():
    asked = request(cluster(), db_user="etl", database="dwh", db_groups="readers loaders", auto_create=True)
    user, database = f"{REDSHIFT}:dbuser:prod/etl", f"{REDSHIFT}:dbname:prod/dwh"
    assert pairs(to_mint(asked)) == [
        ("redshift:GetClusterCredentials", user),
        ("redshift:GetClusterCredentials", database),
        ("redshift:CreateClusterUser", user),
        ("redshift:JoinGroup", f"{REDSHIFT}:dbgroup:prod/readers"),
        ("redshift:JoinGroup", f"{REDSHIFT}:dbgroup:prod/loaders"),
    ]
    assert minting.resource_arn(asked, "redshift:GetClusterCredentials") == f"{user} and {database}"
    plain = request(cluster(), db_user="etl")
    assert {each.action for each in to_mint(plain)} == {"redshift:GetClusterCredentials"}


def test_an_iam_identity_takes_the_database_or_the_workgroup():
    found = to_mint(request(cluster(), auth="iam"))
    assert pairs(found) == [("redshift:GetClusterCredentialsWithIAM", f"{REDSHIFT}:dbname:prod/dev")]
    found = to_mint(request(workgroup()))
    assert pairs(found) == [("redshift-serverless:GetCredentials", workgroup().arn)]


@pytest.mark.parametrize(
    ("region", "service"),
    [
        ("eu-west-1", "secretsmanager.eu-west-1.amazonaws.com"),
        ("cn-north-1", "secretsmanager.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_a_secret_takes_its_key_only_through_secrets_manager_and_only_for_itself(region, service):
    arn = f"arn:{partition(region)}:secretsmanager:{region}:123456789012:secret:redshift!prod-awsuser-AbCdEf"
    asked = request(cluster(admin_secret_arn=arn, region=region), auth="secret", allow_admin_secret=True)
    assert pairs(to_mint(asked)) == [("secretsmanager:GetSecretValue", arn)]
    _, decrypt = to_mint(asked, "arn:aws:kms:eu-west-1:123456789012:key/1")
    conditions = (
        ("StringEquals", "kms:ViaService", (service,)),
        ("StringEquals", "kms:EncryptionContext:SecretARN", (arn,)),
    )
    assert decrypt == Permission(
        "DecryptAdminSecrets", "kms:Decrypt", "arn:aws:kms:eu-west-1:123456789012:key/1", conditions
    )


def test_listings_are_of_one_region():
    assert pairs(to_list("cluster", HERE)) == [("redshift:DescribeClusters", f"{REDSHIFT}:cluster:*")]
    here = (("StringEquals", "aws:RequestedRegion", ("eu-west-1",)),)
    found = [*to_list("workgroup", HERE), *to_list_endpoints("cluster", HERE), *to_list_endpoints("workgroup", HERE)]
    assert {each.conditions for each in found if each.resource == ANY} == {here}
    anywhere = to_list("workgroup", Place())
    assert {each.conditions for each in anywhere} == {()}
    assert anywhere[-1].resource == "arn:aws:redshift-serverless:*:*:workgroup/*"


def test_a_role_with_session_tags():
    assert pairs(to_assume(ROLE, ["Tags", "DurationSeconds"])) == [("sts:AssumeRole", ROLE)]
    assert to_tag(ROLE, {}) == []
    (found,) = to_tag(ROLE, {"RedshiftDbUser": ["etl", "bi"], "cost-center": None})
    assert found.conditions == (
        ("StringLikeIfExists", "aws:RequestTag/RedshiftDbUser", ("bi", "etl")),
        ("ForAllValues:StringEquals", "aws:TagKeys", ("RedshiftDbUser", "cost-center")),
    )


@pytest.mark.parametrize(
    ("region", "name"),
    [
        (region, name)
        for name in boto3.session.Session().get_available_partitions()
        for region in boto3.session.Session().get_available_regions("sts", name)
    ],
)
def test_partitions(region, name):
    assert partition(region) == name
