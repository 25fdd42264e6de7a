"""Discovery: the tagged clusters and Serverless workgroups of one account and region, in few calls.

Clusters are returned with their tags, a hundred a call. AWS could filter them by a tag's key, but only by its exact spelling, and
a misspelled tag would pass in silence.
https://docs.aws.amazon.com/redshift/latest/APIReference/API_DescribeClusters.html
Workgroups are listed without tags: the tagging API returns the tagged ones, a page at a time; where it is denied or does not
answer soon (many private networks have no endpoint for it), the tags of each workgroup are listed one by one.
https://docs.aws.amazon.com/redshift-serverless/latest/APIReference/API_ListWorkgroups.html

A listing may take longer than the process that began it. So each page, and each resource's tags, is an answer of its own, as
plain data: the next process continues from the answers that there are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from botocore import xform_name
from msgspec.structs import replace

from redshift_secrets.aws.errors import NOT_REACHED, translate_errors
from redshift_secrets.aws.paging import Page, Recall, read_pages
from redshift_secrets.cache.workers import Deadline, Run, Workers
from redshift_secrets.errors import AwsError, join_messages
from redshift_secrets.model import VpcEndpoint, Warehouse

Client = Callable[[str], Any]
"""Returns the boto3 client of a service, bound to one account and region; may raise what botocore raises."""

Fields = dict[str, Any]
"""Fields of a `Warehouse`, as plain data."""

_DEFAULTS: Fields = {"database": "dev"}
"""The first database of a namespace is called "dev" unless another name was given."""

_PAGE_SIZE = 100
_SERVICES = {
    "redshift": ("redshift", "Marker", "MaxRecords"),
    "redshift-serverless": ("redshift-serverless", "nextToken", "maxResults"),
    "tag": ("resourcegroupstaggingapi", "PaginationToken", "ResourcesPerPage"),
}
"""By the prefix of the IAM action: boto3's name of the service, and its parameters for the page token and the page size."""


class Discovery:
    """The warehouses that one identity can see in one region. Every method may raise `AwsError`.

    The tagging API is asked in a thread of `workers`, and waited for for `tagging_patience_seconds`. With a role in another
    account, `of_caller` is what the caller itself can see.
    """

    def __init__(
        self,
        client: Client,
        *,
        region: str,
        role_arn: str | None,
        prefix: str,
        identity: str,
        recall: Recall,
        workers: Workers,
        tagging_patience_seconds: float,
        of_caller: Discovery | None = None,
    ) -> None:
        self._client = client
        self._of_caller = of_caller
        self._workers = workers
        self._tagging_patience_seconds = tagging_patience_seconds
        self._region = region
        self._role_arn = role_arn
        self._prefix = prefix
        self._marker = f"{prefix}conn-id"
        self._identity = identity
        self._recall = recall

    def clusters(self) -> tuple[Warehouse, ...]:
        """Return the clusters that carry a tag under the prefix, in whatever case, be it the marker or not."""
        pages = self._pages("redshift:DescribeClusters", "cluster", self._tagged_clusters_of)
        found = [self._warehouse("cluster", fields) for page in pages for fields in page]
        return self._with_vpc_endpoints(found, Discovery._cluster_endpoints)

    def cluster(self, known: Warehouse) -> Warehouse:
        """Return the cluster with its current state; the error's code is `ClusterNotFound` when it was deleted."""
        with translate_errors("redshift:DescribeClusters", str(known), self._identity):
            response = self._client("redshift").describe_clusters(ClusterIdentifier=known.identifier)
            found = [self._warehouse("cluster", fields) for fields in self._clusters_of(response)]
        return self._with_vpc_endpoints(found, Discovery._cluster_endpoints)[0]

    def workgroups(self) -> tuple[Warehouse, ...]:
        """Return the Serverless workgroups that carry the marker tag; where tags are listed one by one, a tag under the
        prefix."""
        tagging = Run(self._tags_from_tagging_api)
        try:
            self._workers.submit(tagging)
        except RuntimeError:  # the system has no thread to give
            tagging()
        tagging.wait(Deadline(self._tagging_patience_seconds))
        if tagging.done and tagging.result() == {}:
            return ()
        described = self._list_workgroups()
        if not described:
            return ()
        tags = tagging.result() if tagging.done else None
        if tags is None:
            tags = self._tags_one_by_one([fields["arn"] for _, fields in described])
            if not tags:
                return ()
        namespaces = self._namespaces()
        found = [
            self._warehouse(
                "workgroup", {**fields, **namespaces.get(namespace, _DEFAULTS), "tags": tags[fields["arn"]]}
            )
            for namespace, fields in described
            if fields["arn"] in tags
        ]
        return self._with_vpc_endpoints(found, Discovery._workgroup_endpoints)

    def workgroup(self, known: Warehouse) -> Warehouse:
        """Return the workgroup with its current state and the tags it was listed with."""
        with translate_errors("redshift-serverless:GetWorkgroup", str(known), self._identity):
            raw = self._client("redshift-serverless").get_workgroup(workgroupName=known.identifier)["workgroup"]
            host, port = _address(raw.get("endpoint"))
            now = replace(known, status=raw["status"], host=host, port=port, custom_domain=raw.get("customDomainName"))
        return self._with_vpc_endpoints([now], Discovery._workgroup_endpoints)[0]

    def _warehouse(self, kind: Any, fields: Fields) -> Warehouse:
        return Warehouse(kind=kind, region=self._region, role_arn=self._role_arn, **fields)

    def _clusters_of(self, response: Mapping[str, Any]) -> list[Fields]:
        return [_cluster(raw, self._region) for raw in response["Clusters"]]

    def _tagged_clusters_of(self, response: Mapping[str, Any]) -> list[Fields]:
        return [fields for fields in self._clusters_of(response) if self._has_tag_under_prefix(fields["tags"])]

    def _has_tag_under_prefix(self, tags: Mapping[str, str]) -> bool:
        return any(key.lower().startswith(self._prefix.lower()) for key in tags)

    def _list_workgroups(self) -> list[tuple[str, Fields]]:
        """Return each workgroup with the name of its namespace."""
        pages = self._pages("redshift-serverless:ListWorkgroups", "workgroup", _workgroups)
        return [(namespace, fields) for page in pages for namespace, fields in page]

    def _namespaces(self) -> dict[str, Fields]:
        pages = self._pages("redshift-serverless:ListNamespaces", "namespace", _namespaces)
        return {name: fields for page in pages for name, fields in page.items()}

    def _tags_from_tagging_api(self) -> dict[str, dict[str, str]] | None:
        """Return tags by workgroup ARN, `None` where the API is denied or cannot be reached.

        https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html
        """
        pages = self._pages(
            "tag:GetResources",
            "workgroup",
            _tags,
            optional=True,
            ResourceTypeFilters=["redshift-serverless:workgroup"],
            TagFilters=[{"Key": self._marker}],
        )
        if None in pages:
            return None
        return {arn: tags for page in pages for arn, tags in page.items()}

    def _tags_one_by_one(self, arns: Iterable[str]) -> dict[str, dict[str, str]]:
        action = "redshift-serverless:ListTagsForResource"

        def ask(arn: str) -> dict[str, str]:
            try:
                with translate_errors(action, f"every workgroup in {self._region}", self._identity):
                    response = self._client("redshift-serverless").list_tags_for_resource(resourceArn=arn)
                    return {tag["key"]: tag["value"] for tag in response["tags"]}
            except AwsError as error:
                if not error.is_gone:  # deleted since it was listed
                    raise
                return {}

        tags = {arn: self._recall(f"{action} {arn}", functools.partial(ask, arn)) for arn in arns}
        return {arn: own for arn, own in tags.items() if self._has_tag_under_prefix(own)}

    def _with_vpc_endpoints(
        self, found: list[Warehouse], list_endpoints: Callable[[Discovery, str], list[list[Any]]]
    ) -> tuple[Warehouse, ...]:
        """Add the VPC endpoints, listed only when a tag selects one: those in the warehouses' account, and those that the
        caller's account has to them. A failed listing affects those connections alone."""
        field = f"{self._prefix}endpoint"
        if not any(
            key.split("/")[0] == field and value.strip().startswith("vpc:")
            for each in found
            if self._marker in each.tags
            for key, value in each.tags.items()
        ):
            return tuple(found)
        by_warehouse: dict[str, list[VpcEndpoint]] = {}
        errors: list[str] = []
        for discovery in (self, self._of_caller):
            if discovery is None:
                continue
            try:
                # An account also lists its endpoints of other accounts' warehouses, which may have the same names.
                for identifier, *endpoint in list_endpoints(discovery, found[0].account):
                    by_warehouse.setdefault(identifier, []).append(VpcEndpoint(*endpoint))
            except AwsError as error:
                errors.append(str(error))
        return tuple(
            replace(
                each,
                vpc_endpoints=tuple(dict.fromkeys(by_warehouse.get(each.identifier, ()))),
                vpc_endpoints_error=join_messages(errors) if errors else None,
            )
            for each in found
        )

    def _cluster_endpoints(self, owner: str) -> list[list[Any]]:
        """https://docs.aws.amazon.com/redshift/latest/APIReference/API_DescribeEndpointAccess.html"""
        read = functools.partial(_cluster_endpoints, owner=owner)
        pages = self._pages("redshift:DescribeEndpointAccess", "VPC endpoint", read, ResourceOwner=owner)
        return [endpoint for page in pages for endpoint in page]

    def _workgroup_endpoints(self, owner: str) -> list[list[Any]]:
        """https://docs.aws.amazon.com/redshift-serverless/latest/APIReference/API_ListEndpointAccess.html; the answer does not
        say whose the workgroups are."""
        pages = self._pages(
            "redshift-serverless:ListEndpointAccess", "VPC endpoint", _workgroup_endpoints, ownerAccount=owner
        )
        return [endpoint for page in pages for endpoint in page]

    def _pages(
        self,
        action: str,
        kind: str,
        read: Callable[[Mapping[str, Any]], Any],
        *,
        optional: bool = False,
        **request: Any,
    ) -> list[Any]:
        """Return every page of a listing, as `read` makes it plain data; with `optional`, a page is `None` where it is
        denied or does not come.

        `action` is the IAM action, `kind` says in error messages what is listed.
        """
        prefix, _, operation = action.partition(":")
        service, token_name, size_name = _SERVICES[prefix]
        resource = f"every {kind} in {self._region}"

        def ask(token: str | None) -> Page:
            position = {token_name: token} if token else {}
            try:
                with translate_errors(action, resource, self._identity):
                    call = getattr(self._client(service), xform_name(operation))
                    response = call(**request, **{size_name: _PAGE_SIZE}, **position)
                    return [read(response), response.get(token_name)]
            except AwsError as error:
                if optional and error.operation == action and (error.is_denied or error.code in NOT_REACHED):
                    return [None, None]
                raise

        return read_pages(action, resource, self._identity, ask, self._recall)


def _cluster(raw: Mapping[str, Any], region: str) -> Fields:
    # The response has no cluster ARN, only the ARN of the cluster's namespace, which contains partition and account.
    _, partition, _, _, account, _ = raw["ClusterNamespaceArn"].split(":", 5)
    endpoint = raw.get("Endpoint") or {}
    return {
        "identifier": raw["ClusterIdentifier"],
        "arn": f"arn:{partition}:redshift:{region}:{account}:cluster:{raw['ClusterIdentifier']}",
        "account": account,
        "status": raw["ClusterStatus"],
        "created_at": _seconds(raw.get("ClusterCreateTime")),
        "tags": {tag["Key"]: tag.get("Value", "") for tag in raw.get("Tags", ())},
        "database": raw.get("DBName") or "dev",
        "host": endpoint.get("Address"),
        "port": endpoint.get("Port"),
        "custom_domain": raw.get("CustomDomainName"),
        "admin_secret_arn": raw.get("MasterPasswordSecretArn"),
    }


def _cluster_endpoints(page: Mapping[str, Any], owner: str) -> list[list[Any]]:
    return [
        [raw["ClusterIdentifier"], raw["EndpointName"], raw["Address"], raw["Port"]]
        for raw in page["EndpointAccessList"]
        if raw.get("Address") and raw.get("Port") and raw.get("ResourceOwner", owner) == owner
    ]


def _workgroups(page: Mapping[str, Any]) -> list[list[Any]]:
    return [[raw.get("namespaceName", ""), _workgroup(raw)] for raw in page["workgroups"]]


def _workgroup(raw: Mapping[str, Any]) -> Fields:
    host, port = _address(raw.get("endpoint"))
    return {
        "identifier": raw["workgroupName"],
        "arn": raw["workgroupArn"],
        "account": raw["workgroupArn"].split(":")[4],
        "status": raw["status"],
        "created_at": _seconds(raw.get("creationDate")),
        "host": host,
        "port": port,
        "custom_domain": raw.get("customDomainName"),
    }


def _namespaces(page: Mapping[str, Any]) -> dict[str, Fields]:
    return {
        raw["namespaceName"]: {
            "database": raw.get("dbName") or _DEFAULTS["database"],
            "admin_secret_arn": raw.get("adminPasswordSecretArn"),
        }
        for raw in page["namespaces"]
    }


def _workgroup_endpoints(page: Mapping[str, Any]) -> list[list[Any]]:
    return [
        [raw["workgroupName"], raw["endpointName"], raw["address"], raw["port"]]
        for raw in page["endpoints"]
        if raw.get("address") and raw.get("port")
    ]


def _tags(page: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    return {
        raw["ResourceARN"]: {tag["Key"]: tag["Value"] for tag in raw["Tags"]} for raw in page["ResourceTagMappingList"]
    }


def _address(endpoint: Mapping[str, Any] | None) -> tuple[str | None, int | None]:
    return (endpoint.get("address"), endpoint.get("port")) if endpoint else (None, None)


def _seconds(moment: Any) -> float:
    # No creation time yet: the resource is still being created, so it is younger than all others.
    return moment.timestamp() if moment is not None else float("inf")
