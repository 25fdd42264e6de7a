"""The warehouse whose tags are read and written, also where the answer leaves out what it usually has."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from redshift_secrets.aws.tagging import Tagging
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
