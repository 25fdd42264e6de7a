"""Discovery: the tagged clusters and Serverless workgroups of one account and region, in few calls.

AWS filters clusters by tag and returns their tags: one call per hundred tagged clusters.
https://docs.aws.amazon.com/redshift/latest/APIReference/API_DescribeClusters.html
Workgroups are listed without tags: the tagging API returns the tagged ones, a page at a time; where it is denied, the tags
of each workgroup are listed one by one. https://docs.aws.amazon.com/redshift-serverless/latest/APIReference/API_ListWorkgroups.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from redshift_secrets.aws.errors import DENIED, translate_errors
from redshift_secrets.errors import AwsError
from redshift_secrets.model import VpcEndpoint, Warehouse

Client = Callable[[str], Any]
"""Returns the boto3 client of a service, bound to one account and region; may raise what botocore raises."""


def clusters(client: Client, *, region: str, role_arn: str | None, prefix: str, identity: str) -> tuple[Warehouse, ...]:
    """Return the clusters that carry the marker tag; raises `AwsError`."""
    with translate_errors("redshift:DescribeClusters", f"every cluster in {region}", identity):
        pages = (
            client("redshift")
            .get_paginator("describe_clusters")
            .paginate(TagKeys=[f"{prefix}conn-id"], PaginationConfig={"PageSize": 100})
        )
        found = [_cluster(raw, region, role_arn) for page in pages for raw in page["Clusters"]]
    return _with_vpc_endpoints(found, prefix, lambda: _cluster_endpoints(client, region, identity))


def cluster(client: Client, known: Warehouse, *, prefix: str, identity: str) -> Warehouse:
    """Return the cluster with its current state; raises `AwsError`, with code `ClusterNotFound` when it was deleted."""
    with translate_errors("redshift:DescribeClusters", str(known), identity):
        response = client("redshift").describe_clusters(ClusterIdentifier=known.identifier)
        found = [_cluster(raw, known.region, known.role_arn) for raw in response["Clusters"]]
    return _with_vpc_endpoints(found, prefix, lambda: _cluster_endpoints(client, known.region, identity))[0]


def workgroups(
    client: Client, *, region: str, role_arn: str | None, prefix: str, identity: str
) -> tuple[Warehouse, ...]:
    """Return the Serverless workgroups that carry the marker tag; raises `AwsError`."""
    described: list[dict[str, Any]] | None = None
    try:
        tags = _tags_from_tagging_api(client, f"{prefix}conn-id", region, identity)
    except AwsError as error:
        if error.code not in DENIED:
            raise
        described = _list_workgroups(client, region, identity)
        tags = _tags_one_by_one(client, described, f"{prefix}conn-id", region, identity)
    if not tags:
        return ()
    if described is None:
        described = _list_workgroups(client, region, identity)
    namespaces = _namespaces(client, region, identity)
    found = [
        _workgroup(raw, tags[raw["workgroupArn"]], namespaces, region, role_arn)
        for raw in described
        if raw["workgroupArn"] in tags
    ]
    return _with_vpc_endpoints(found, prefix, lambda: _workgroup_endpoints(client, region, identity))


def workgroup(client: Client, known: Warehouse, *, prefix: str, identity: str) -> Warehouse:
    """Return the workgroup with its current state and the tags it was listed with; raises `AwsError`."""
    with translate_errors("redshift-serverless:GetWorkgroup", str(known), identity):
        raw = client("redshift-serverless").get_workgroup(workgroupName=known.identifier)["workgroup"]
    host, port = _address(raw.get("endpoint"))
    now = replace(known, status=raw["status"], host=host, port=port, custom_domain=raw.get("customDomainName"))
    return _with_vpc_endpoints([now], prefix, lambda: _workgroup_endpoints(client, known.region, identity))[0]


def _cluster(raw: Mapping[str, Any], region: str, role_arn: str | None) -> Warehouse:
    # The response has no cluster ARN, only the ARN of the cluster's namespace, which contains partition and account.
    _, partition, _, _, account, _ = raw["ClusterNamespaceArn"].split(":", 5)
    endpoint = raw.get("Endpoint") or {}
    return Warehouse(
        kind="cluster",
        identifier=raw["ClusterIdentifier"],
        arn=f"arn:{partition}:redshift:{region}:{account}:cluster:{raw['ClusterIdentifier']}",
        account=account,
        region=region,
        status=raw["ClusterStatus"],
        created_at=_seconds(raw.get("ClusterCreateTime")),
        tags={tag["Key"]: tag.get("Value", "") for tag in raw.get("Tags", ())},
        database=raw.get("DBName") or "dev",
        host=endpoint.get("Address"),
        port=endpoint.get("Port"),
        custom_domain=raw.get("CustomDomainName"),
        admin_secret_arn=raw.get("MasterPasswordSecretArn"),
        role_arn=role_arn,
    )


def _workgroup(
    raw: Mapping[str, Any],
    tags: Mapping[str, str],
    namespaces: Mapping[str, Mapping[str, Any]],
    region: str,
    role_arn: str | None,
) -> Warehouse:
    namespace = namespaces.get(raw.get("namespaceName", ""), {})
    host, port = _address(raw.get("endpoint"))
    return Warehouse(
        kind="workgroup",
        identifier=raw["workgroupName"],
        arn=raw["workgroupArn"],
        account=raw["workgroupArn"].split(":")[4],
        region=region,
        status=raw["status"],
        created_at=_seconds(raw.get("creationDate")),
        tags=tags,
        # The first database of a namespace is "dev" unless another name was given.
        database=namespace.get("dbName") or "dev",
        host=host,
        port=port,
        custom_domain=raw.get("customDomainName"),
        admin_secret_arn=namespace.get("adminPasswordSecretArn"),
        role_arn=role_arn,
    )


def _list_workgroups(client: Client, region: str, identity: str) -> list[dict[str, Any]]:
    with translate_errors("redshift-serverless:ListWorkgroups", f"every workgroup in {region}", identity):
        pages = (
            client("redshift-serverless").get_paginator("list_workgroups").paginate(PaginationConfig={"PageSize": 100})
        )
        return [raw for page in pages for raw in page["workgroups"]]


def _namespaces(client: Client, region: str, identity: str) -> dict[str, Mapping[str, Any]]:
    with translate_errors("redshift-serverless:ListNamespaces", f"every namespace in {region}", identity):
        pages = (
            client("redshift-serverless").get_paginator("list_namespaces").paginate(PaginationConfig={"PageSize": 100})
        )
        return {raw["namespaceName"]: raw for page in pages for raw in page["namespaces"]}


def _tags_from_tagging_api(client: Client, marker: str, region: str, identity: str) -> dict[str, dict[str, str]]:
    """Return tags by workgroup ARN. https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html"""
    with translate_errors("tag:GetResources", f"every workgroup in {region}", identity):
        pages = (
            client("resourcegroupstaggingapi")
            .get_paginator("get_resources")
            .paginate(
                ResourceTypeFilters=["redshift-serverless:workgroup"],
                TagFilters=[{"Key": marker}],
                PaginationConfig={"PageSize": 100},
            )
        )
        return {
            raw["ResourceARN"]: {tag["Key"]: tag["Value"] for tag in raw["Tags"]}
            for page in pages
            for raw in page["ResourceTagMappingList"]
        }


def _tags_one_by_one(
    client: Client, described: list[dict[str, Any]], marker: str, region: str, identity: str
) -> dict[str, dict[str, str]]:
    with translate_errors("redshift-serverless:ListTagsForResource", f"every workgroup in {region}", identity):
        serverless = client("redshift-serverless")
        tags = {
            raw["workgroupArn"]: {
                tag["key"]: tag["value"]
                for tag in serverless.list_tags_for_resource(resourceArn=raw["workgroupArn"])["tags"]
            }
            for raw in described
        }
    return {arn: own for arn, own in tags.items() if marker in own}


def _with_vpc_endpoints(
    found: list[Warehouse], prefix: str, list_endpoints: Callable[[], Iterator[tuple[str, VpcEndpoint]]]
) -> tuple[Warehouse, ...]:
    """Add the VPC endpoints, listed only when a tag selects one. A failed listing affects those connections alone."""
    field = f"{prefix}endpoint"
    if not any(
        key.split("/")[0] == field and value.strip().startswith("vpc:")
        for each in found
        for key, value in each.tags.items()
    ):
        return tuple(found)
    by_warehouse: dict[str, list[VpcEndpoint]] = {}
    try:
        for identifier, endpoint in list_endpoints():
            by_warehouse.setdefault(identifier, []).append(endpoint)
    except AwsError as error:
        return tuple(replace(each, vpc_endpoints_error=str(error)) for each in found)
    return tuple(
        replace(each, vpc_endpoints=tuple(by_warehouse.get(each.identifier, ())), vpc_endpoints_error=None)
        for each in found
    )


def _cluster_endpoints(client: Client, region: str, identity: str) -> Iterator[tuple[str, VpcEndpoint]]:
    """https://docs.aws.amazon.com/redshift/latest/APIReference/API_DescribeEndpointAccess.html"""
    with translate_errors("redshift:DescribeEndpointAccess", f"every VPC endpoint in {region}", identity):
        for page in client("redshift").get_paginator("describe_endpoint_access").paginate():
            for raw in page["EndpointAccessList"]:
                if raw.get("Address") and raw.get("Port"):
                    yield raw["ClusterIdentifier"], VpcEndpoint(raw["EndpointName"], raw["Address"], raw["Port"])


def _workgroup_endpoints(client: Client, region: str, identity: str) -> Iterator[tuple[str, VpcEndpoint]]:
    """https://docs.aws.amazon.com/redshift-serverless/latest/APIReference/API_ListEndpointAccess.html"""
    with translate_errors("redshift-serverless:ListEndpointAccess", f"every VPC endpoint in {region}", identity):
        for page in client("redshift-serverless").get_paginator("list_endpoint_access").paginate():
            for raw in page["endpoints"]:
                if raw.get("address") and raw.get("port"):
                    yield raw["workgroupName"], VpcEndpoint(raw["endpointName"], raw["address"], raw["port"])


def _address(endpoint: Mapping[str, Any] | None) -> tuple[str | None, int | None]:
    return (endpoint.get("address"), endpoint.get("port")) if endpoint else (None, None)


def _seconds(moment: Any) -> float:
    # No creation time yet: the resource is still being created, so it is younger than all others.
    return moment.timestamp() if moment is not None else float("inf")
