"""What a listing of everything returns: warehouses without tags, and all their endpoints, also where no tag asks for one."""

from __future__ import annotations

import pytest

from redshift_secrets.aws.client import AwsClient
from redshift_secrets.model import VpcEndpoint
from tests.unit.aws.services import FakeAws, cluster, workgroup_arn
from tests.unit.aws.test_discovery import CLUSTERS, WORKGROUPS, aws, client

__all__ = ["aws", "client"]  # fixtures


def test_clusters_without_tags_are_there_with_their_vpc_endpoints(aws: FakeAws, client: AwsClient) -> None:
    bare = {name: value for name, value in cluster("c1").items() if name != "Tags"}
    aws.answers["describe_clusters"] = [{"Clusters": [bare, cluster("c2")]}]
    first, second = client.list_all(CLUSTERS)
    assert (first.tags, first.custom_domain) == ({}, "c1.corp")
    assert first.vpc_endpoints == (VpcEndpoint("private", "c1-private", 5),)
    assert second.tags == {"airflow:conn-id": "c2"}


@pytest.mark.parametrize("denied", [False, True])
def test_workgroups_without_tags_are_there_with_their_databases(aws: FakeAws, client: AwsClient, denied: bool) -> None:
    if denied:
        aws.deny("get_resources")
        aws.answers["list_tags_for_resource"][workgroup_arn("w2")] = {"tags": []}
    found = client.list_all(WORKGROUPS)
    assert [(each.identifier, each.database) for each in found] == [("w1", "sales"), ("w2", ""), ("w3", "dev")]
    assert "database" in found[1].unknown  # its namespace was not listed
    assert [each.tags.get("airflow:conn-id") for each in found] == ["w1", None, "w3"]
    assert found[0].vpc_endpoints == (VpcEndpoint("private", "w1-private", 5),)
    if not denied:
        assert "TagFilters" not in aws.requests["get_resources"]


def test_a_workgroup_whose_tags_cannot_be_read_is_there_and_says_so(aws: FakeAws, client: AwsClient) -> None:
    aws.deny("get_resources")
    aws.deny("list_tags_for_resource")
    one = aws.answers["list_tags_for_resource"]
    aws.answers["list_tags_for_resource"] = {
        workgroup_arn("w1"): {"tags": []},
        workgroup_arn("w2"): one,
        workgroup_arn("w3"): {"tags": []},
    }
    found = {each.identifier: each for each in client.list_all(WORKGROUPS)}
    assert sorted(found) == ["w1", "w2", "w3"]
    assert "its tags are not known" in found["w2"].unknown["tags"]
    assert found["w1"].unknown == {}


def test_vpc_endpoints_that_may_not_be_listed_leave_the_rest(aws: FakeAws, client: AwsClient) -> None:
    aws.deny("describe_endpoint_access")
    found = client.list_all(CLUSTERS)
    assert len(found) == 4
    assert all("vpc_endpoints" in each.unknown for each in found)
