"""The warehouse whose tags are read and written, also where the answer leaves out what it usually has."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from redshift_secrets.aws.tagging import Tagging
from redshift_secrets.errors import AwsError
from redshift_secrets.model import Scope
from redshift_secrets.settings import Settings

CLUSTER = {"ClusterIdentifier": "prod", "ClusterStatus": "available", "Tags": [{"Key": "owner", "Value": "data"}]}
NAMESPACE = "arn:aws:redshift:eu-west-1:123456789012:namespace:x"
SCOPE = Scope("cluster", "eu-west-1", None)


def tagging(answer, account=("aws", "123456789012")):
    found = Tagging(Settings())
    found._sessions = SimpleNamespace(
        account=lambda region, role_arn: account,
        expected_identity=lambda role_arn: "me",
        client=lambda service, *, region, role_arn: SimpleNamespace(
            describe_clusters=lambda **_: {"Clusters": [answer]}
        ),
    )
    return found


@pytest.mark.parametrize("more", [{"ClusterNamespaceArn": NAMESPACE}, {}], ids=["account in the answer", "none there"])
def test_a_cluster_is_found_whether_or_not_the_answer_names_its_account(more):
    warehouse = tagging({**CLUSTER, **more}).find("prod", SCOPE)
    assert warehouse.arn == "arn:aws:redshift:eu-west-1:123456789012:cluster:prod"
    assert warehouse.tags == {"owner": "data"}


def test_a_cluster_whose_account_nobody_says_has_no_arn_to_tag():
    assert tagging(CLUSTER, account=None).find("prod", SCOPE) is None


def serverless(pages):
    found = tagging(None)
    client = SimpleNamespace(
        get_paginator=lambda _: SimpleNamespace(paginate=lambda: iter(pages)),
        get_workgroup=lambda workgroupName: pages[0],  # noqa: N803  # as boto3 has it
    )
    found._sessions.client = lambda service, *, region, role_arn: client
    return found


@pytest.mark.parametrize("page", [{}, {"workgroups": None}, {"workgroups": {}}])
def test_an_answer_that_is_no_listing_of_workgroups_is_told_as_that(page):
    arn = "arn:aws:redshift-serverless:eu-west-1:123456789012:workgroup/x"
    with pytest.raises(AwsError, match=r"it has no workgroups|its workgroups cannot be read") as caught:
        serverless([page]).find(arn, Scope("workgroup", "eu-west-1", None))
    assert (caught.value.operation, caught.value.code) == ("redshift-serverless:ListWorkgroups", "UnreadableResponse")


@pytest.mark.parametrize("name", ["w1", "w" * 65])
def test_a_name_that_no_workgroup_can_have_is_not_asked_for(name):
    assert serverless([]).find(name, Scope("workgroup", "eu-west-1", None)) is None
    assert tagging({**CLUSTER, "ClusterIdentifier": "w1"}).find("w1", SCOPE) is not None
