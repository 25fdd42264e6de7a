"""A field of another kind on the wire than botocore's model says hurts only its resource; an object is not an empty list."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from redshift_secrets.aws.client import AwsClient
from redshift_secrets.aws.odd_members import read_timestamp
from redshift_secrets.aws.paging import ask_aws
from redshift_secrets.errors import AwsError
from redshift_secrets.model import Scope, Warehouse
from redshift_secrets.settings import Settings
from tests.support.helpers import BOUND
from tests.unit.aws.failing import set_keys

REGION = "eu-west-1"
SERVICES = ("redshift", "redshift-serverless", "resourcegroupstaggingapi")
CLUSTER = (
    "<Cluster><ClusterIdentifier>{0}</ClusterIdentifier><ClusterStatus>available</ClusterStatus>"
    "<ClusterNamespaceArn>arn:aws:redshift:eu-west-1:123456789012:namespace:n</ClusterNamespaceArn>"
    "<Tags><Tag><Key>airflow:conn-id</Key><Value>{0}</Value></Tag></Tags>{1}</Cluster>"
)
CLUSTERS = "<DescribeClustersResponse><DescribeClustersResult><Clusters>{}</Clusters></DescribeClustersResult></DescribeClustersResponse>"


def arn(number: int) -> str:
    return f"arn:aws:redshift-serverless:{REGION}:123456789012:workgroup/id-{number}"


def workgroup(number: int, **odd: Any) -> dict[str, Any]:
    fields = {
        "workgroupName": f"w{number}",
        "workgroupArn": arn(number),
        "namespaceName": f"n{number}",
        "status": "AVAILABLE",
        "creationDate": "2026-01-01T00:00:00Z",
        "endpoint": {"address": f"w{number}.example", "port": 5439},
    }
    return {**fields, **odd}


class Site:
    """AWS on the wire: a body by operation."""

    def __init__(self) -> None:
        tags = [{"Key": "airflow:conn-id", "Value": "x"}]
        self.bodies: dict[str, Any] = {
            "GetResources": {"ResourceTagMappingList": [{"ResourceARN": arn(each), "Tags": tags} for each in (1, 2)]},
            "ListWorkgroups": {"workgroups": [workgroup(1), workgroup(2)]},
            "ListNamespaces": {"namespaces": [{"namespaceName": f"n{each}", "dbName": "dwh"} for each in (1, 2)]},
        }
        settings = {"regions": [REGION], "config": {"retries": {"total_max_attempts": 1}}}
        self.aws = AwsClient(Settings.from_kwargs(settings), tagging_patience_seconds=BOUND)
        for service in SERVICES:
            client = self.aws._sessions.client(service, region=REGION, role_arn=None)
            client.meta.events.register("before-send", self._answer)

    def _answer(self, request: Any, event_name: str, **_: Any) -> AWSResponse:
        body = self.bodies[event_name.rpartition(".")[2]]
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        raw = io.BytesIO(content)
        raw.stream = lambda *_arguments, **_names: iter([content])  # type: ignore[attr-defined]
        return AWSResponse(request.url, 200, {}, raw)

    def list(self, kind: Any = "workgroup") -> list[Warehouse]:
        return list(self.aws.list(Scope(kind, REGION, None), ask_aws))


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    set_keys(monkeypatch)
    return Site()


@pytest.mark.parametrize(
    "odd",
    [
        *({"creationDate": each} for each in ("yesterday", "", [], {}, 10**20, -(10**15))),
        *({"endpoint": each} for each in ([], "w2.example", 5, True)),
        {"subnetIds": 5},
        {"configParameters": ["x"]},
        {"pricePerformanceTarget": []},
        {"endpoint": {"address": "w2.example", "port": 5439, "vpcEndpoints": {}}},
    ],
    ids=str,
)
def test_in_json_it_is_as_if_it_were_missing(site: Site, odd: dict[str, Any]) -> None:
    first, whole = site.list()
    site.bodies["ListWorkgroups"]["workgroups"][1] = workgroup(2, **odd)
    (name,) = odd
    found, now = site.list()
    assert found == first
    assert (now.arn, now.status, dict(now.tags)) == (whole.arn, whole.status, dict(whole.tags))
    assert (now.created_at == whole.created_at) == (name != "creationDate")
    assert (now.host == whole.host) == (name != "endpoint" or isinstance(odd[name], dict))


def test_a_resource_that_is_no_object_hurts_no_other(site: Site) -> None:
    first, _ = site.list()
    site.bodies["ListWorkgroups"]["workgroups"].insert(0, "w0")
    site.bodies["ListNamespaces"]["namespaces"].insert(0, ["n0"])
    site.bodies["GetResources"]["ResourceTagMappingList"].insert(0, 7)
    assert first in site.list()


@pytest.mark.parametrize("odd", [{}, "text", {"a": 1}, 5])
def test_what_is_no_list_is_no_answer(site: Site, odd: Any) -> None:
    site.bodies["ListWorkgroups"] = {"workgroups": odd}
    with pytest.raises(AwsError, match=r"ListWorkgroups and gave no answer of that kind \(it has no workgroups\)"):
        site.list()


@pytest.mark.parametrize("body", [b"[" * 100_000, b"[]", b"7"])
def test_nor_is_what_is_no_object(site: Site, body: bytes) -> None:
    site.bodies["ListWorkgroups"] = body
    with pytest.raises(AwsError) as caught:
        site.list()
    assert caught.value.code == "UnreadableResponse"


@pytest.mark.parametrize("odd", ["yesterday", "", "99999999999999999999"])
def test_in_xml_a_time_that_is_none_is_missing(site: Site, odd: str) -> None:
    def body(time: str) -> bytes:
        return CLUSTERS.format(CLUSTER.format("c1", "") + CLUSTER.format("c2", time)).encode()

    site.bodies["DescribeClusters"] = body("<ClusterCreateTime>2026-01-01T00:00:00Z</ClusterCreateTime>")
    first, whole = site.list("cluster")
    site.bodies["DescribeClusters"] = body(f"<ClusterCreateTime>{odd}</ClusterCreateTime>")
    found, now = site.list("cluster")
    assert (found, now.arn) == (first, whole.arn)
    assert now.created_at == float("inf")


@pytest.mark.parametrize("odd", ["<{0}>None</{0}>", "<{0}/>", "<{0}>  </{0}>", "<{0}>1e400</{0}>", "<{0} />"])
def test_so_is_a_number(site: Site, odd: str) -> None:
    def body(port: str, more: str = "") -> bytes:
        endpoint = f"<Endpoint><Address>x</Address>{port}</Endpoint>{more}"
        return CLUSTERS.format(CLUSTER.format("c1", body_of_the_first) + CLUSTER.format("c2", endpoint)).encode()

    body_of_the_first = "<Endpoint><Address>x</Address><Port>5439</Port></Endpoint>"
    site.bodies["DescribeClusters"] = body("<Port>5439</Port>")
    first, whole = site.list("cluster")
    assert (whole.host, whole.port) == ("x", 5439)
    site.bodies["DescribeClusters"] = body("<Port>5439</Port>", odd.format("NumberOfNodes"))
    assert site.list("cluster") == [first, whole]
    site.bodies["DescribeClusters"] = body(odd.format("Port"))
    found, now = site.list("cluster")
    assert (found, now.host) == (first, None)


def test_a_time_without_a_zone_is_in_utc() -> None:
    for written in ("2026-01-01T00:00:00", "2026-01-01T00:00:00Z", "2026-01-01T02:00:00+02:00", 1_767_225_600):
        found = read_timestamp(written)
        assert found is not None
        assert found.timestamp() == 1_767_225_600
