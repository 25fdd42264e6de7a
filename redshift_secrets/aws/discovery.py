"""Discovery: the tagged clusters and Serverless workgroups of one account and region, in few calls.

Clusters are returned with their tags, a hundred a call. AWS could filter them by a tag's key, but only by its exact spelling, and
a misspelled tag would pass in silence.
https://docs.aws.amazon.com/redshift/latest/APIReference/API_DescribeClusters.html
Workgroups are listed without tags: the tagging API returns the tagged ones, a page at a time; where it refuses or does not
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

from redshift_secrets.aws import described
from redshift_secrets.aws.described import Account, Fields
from redshift_secrets.aws.errors import member, translate_errors
from redshift_secrets.aws.network_errors import NOT_REACHED, UNREADABLE
from redshift_secrets.aws.paging import TOKEN_REFUSED, Page, Recall, read_pages
from redshift_secrets.cache.workers import Deadline, Run, Workers
from redshift_secrets.errors import (
    ENDLESS_PAGING,
    AwsError,
    RedshiftSecretsError,
    error_from_json,
    error_to_json,
    join_messages,
)
from redshift_secrets.model import VpcEndpoint, Warehouse

Client = Callable[[str], Any]
"""Returns the boto3 client of a service, bound to one account and region; may raise what botocore raises."""

_ENDPOINTS = "vpc_endpoints"
_DELETED = "It was deleted or renamed after the last listing; the next listing corrects this."
_NO_ARN = "redshift-serverless:ListWorkgroups gave no workgroupArn"
_NO_NAME = "there are tags of it, and redshift-serverless:ListWorkgroups did not give its ARN with any name"
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
    account, `of_caller` is what the caller itself can see. `account` returns the account that is asked about where an answer does
    not name it, `None` where it is not known.
    """

    def __init__(
        self,
        client: Client,
        *,
        region: str,
        role_arn: str | None,
        prefix: str,
        identity: str,
        account: Callable[[], Account | None],
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
        self._account = account
        self._recall = recall

    def clusters(self) -> tuple[Warehouse, ...]:
        """Return the clusters that carry a tag under the prefix, in whatever case, be it the marker or not."""
        pages = self._pages("redshift:DescribeClusters", "cluster", self._tagged_clusters_of)
        found = [self._warehouse("cluster", fields) for page in pages for fields in page]
        return self._with_vpc_endpoints(found, Discovery._cluster_endpoints)

    def all_clusters(self) -> tuple[Warehouse, ...]:
        """Return every cluster, tagged or not, with its VPC endpoints."""
        read = functools.partial(described.clusters, region=self._region, caller_account=self._account)
        pages = self._pages("redshift:DescribeClusters", "cluster", read)
        found = [self._warehouse("cluster", fields) for page in pages for fields in page]
        return self._with_vpc_endpoints(found, Discovery._cluster_endpoints, needed=True)

    def cluster(self, known: Warehouse) -> Warehouse:
        """Return the cluster with its current state; the error's code is `ClusterNotFound` when it was deleted."""
        action = "redshift:DescribeClusters"
        with translate_errors(action, str(known), self._identity):
            response = self._client("redshift").describe_clusters(ClusterIdentifier=known.identifier)
            found = described.clusters(response, self._region, self._account)
        now = next((each for each in found if each["identifier"] == known.identifier), None)
        if now is None and len(found) == 1 and found[0]["unknown"]:
            now = found[0]  # the answer does not say which one it is about
        if now is None:
            reason = "the answer has no cluster of this name."
            raise AwsError(action, str(known), self._identity, "ClusterNotFound", reason, _DELETED)
        # What says which one it is stays: an answer may leave it out.
        changes = {key: now[key] for key in now.keys() - {"identifier", "arn", "account", "unknown"}}
        if changes["created_at"] == float("inf"):
            del changes["created_at"]
        return self._with_vpc_endpoints([replace(known, **changes)], Discovery._cluster_endpoints)[0]

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
        workgroups = self._list_workgroups()
        if not workgroups:
            return ()
        tags = tagging.result() if tagging.done else None
        unread: dict[str, str] = {}
        if not isinstance(tags, dict):
            every, unread = self._tags_one_by_one(workgroups, tags)
            tags = {arn: own for arn, own in every.items() if self._has_tag_under_prefix(own)}
        found = self._with_databases(
            [{**each, "tags": tags[each["arn"]]} for each in workgroups if each["arn"] in tags]
        )
        found += self._incomplete(workgroups, tags, unread)
        warehouses = [self._warehouse("workgroup", fields) for fields in found]
        return self._with_vpc_endpoints(warehouses, Discovery._workgroup_endpoints)

    def all_workgroups(self) -> tuple[Warehouse, ...]:
        """Return every Serverless workgroup, tagged or not, with its VPC endpoints."""
        workgroups = self._list_workgroups()
        tags = self._tags_from_tagging_api(marked_only=False) if workgroups else {}
        unread: dict[str, str] = {}
        if not isinstance(tags, dict):
            tags, unread = self._tags_one_by_one(workgroups, tags)
        known = [each for each in workgroups if each["arn"] is not None and each["arn"] not in unread]
        found = self._with_databases([{**each, "tags": tags.get(each["arn"], {})} for each in known])
        found += self._incomplete(workgroups, {}, unread)
        warehouses = [self._warehouse("workgroup", fields) for fields in found]
        return self._with_vpc_endpoints(warehouses, Discovery._workgroup_endpoints, needed=True)

    def workgroup(self, known: Warehouse) -> Warehouse:
        """Return the workgroup with its current state and the tags it was listed with."""
        with translate_errors("redshift-serverless:GetWorkgroup", str(known), self._identity):
            response = self._client("redshift-serverless").get_workgroup(workgroupName=known.identifier)
            now = replace(known, **described.state_of_workgroup(member(response, "workgroup", dict)))
        return self._with_vpc_endpoints([now], Discovery._workgroup_endpoints)[0]

    def _warehouse(self, kind: Any, fields: Fields) -> Warehouse:
        return Warehouse(kind=kind, region=self._region, role_arn=self._role_arn, **fields)

    def _tagged_clusters_of(self, response: Mapping[str, Any]) -> list[Fields]:
        found = described.clusters(response, self._region, self._account)
        return [fields for fields in found if self._has_tag_under_prefix(fields["tags"])]

    def _has_tag_under_prefix(self, tags: Mapping[str, str]) -> bool:
        return any(key.lower().startswith(self._prefix.lower()) for key in tags)

    def _list_workgroups(self) -> list[Fields]:
        """Return each workgroup, with the name of its namespace."""
        read = functools.partial(described.workgroups, region=self._region, caller_account=self._account)
        pages = self._pages("redshift-serverless:ListWorkgroups", "workgroup", read)
        return [fields for page in pages for fields in page]

    def _with_databases(self, workgroups: list[Fields]) -> list[Fields]:
        """Add what the namespaces say, and where they do not, that it is unknown: a tag may name the database."""
        if not workgroups:
            return []
        known: dict[str, Fields] = {}
        why = "redshift-serverless:ListNamespaces did not list the namespace of the workgroup"
        try:
            pages = self._pages("redshift-serverless:ListNamespaces", "namespace", described.namespaces)
            known = {name: fields for page in pages for name, fields in page.items()}
        except AwsError as error:
            if not error.is_denied and error.code != UNREADABLE:
                raise  # what was known before is better
            why = str(error)
        found = []
        for workgroup in workgroups:
            fields = {key: value for key, value in workgroup.items() if key != "namespace"}
            more = known.get(str(workgroup["namespace"]))
            unknown = {"database": why, "admin_secret_arn": why, **fields["unknown"]}
            found.append({**fields, **(more or {"database": "", "unknown": unknown})})
        return found

    @staticmethod
    def _incomplete(
        workgroups: Iterable[Fields], tags: Mapping[str, Mapping[str, str]], unread: Mapping[str, str]
    ) -> list[Fields]:
        """Return those whose tags or whose names are not known, so that this is reported, and what the tags claim is refused."""
        found = []
        for each in workgroups:
            why = unread.get(each["arn"], _NO_ARN if each["arn"] is None else None)
            if why is not None:
                fields = {key: value for key, value in each.items() if key != "namespace"}
                unknown = {**each["unknown"], "tags": f"its tags are not known: {why}"}
                found.append({**fields, "arn": each["arn"] or "", "database": "", "tags": {}, "unknown": unknown})
        arns = {each["arn"] for each in workgroups}
        return found + [
            described.tagged_without_a_name(arn, own, _NO_NAME)
            for arn, own in tags.items()
            if arn not in arns and (None in arns or not arn.startswith("arn:"))
        ]

    def _tags_from_tagging_api(
        self, marked_only: bool = True
    ) -> dict[str, dict[str, str]] | RedshiftSecretsError | None:
        """Return tags by workgroup ARN, or why there are none where the API refuses (it is denied or throttled, for one) or cannot be
        reached.

        https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html
        """
        try:
            pages = self._pages(
                "tag:GetResources",
                "workgroup",
                described.tag_mappings,
                optional=True,
                ResourceTypeFilters=["redshift-serverless:workgroup"],
                **({"TagFilters": [{"Key": self._marker}]} if marked_only else {}),
            )
        except AwsError as error:
            if error.code != ENDLESS_PAGING:
                raise
            return error
        refused = next((page for page in pages if isinstance(page, str)), None)
        if refused is not None:
            return error_from_json(refused)
        return {
            arn if arn.startswith("arn:") else f"{arn}-of-{number}": tags
            for number, page in enumerate(pages, 1)
            for arn, tags in page.items()
        }

    def _tags_one_by_one(
        self, workgroups: Iterable[Fields], instead_of: RedshiftSecretsError | None
    ) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
        """Return tags by ARN, and by ARN why they could not be read; raises `AwsError` where that holds for all.

        `instead_of` is what the tagging API said: where this may not be asked at all, that may pass by itself, and is the error.
        """
        action = "redshift-serverless:ListTagsForResource"

        def ask(arn: str) -> list[Any]:
            try:
                with translate_errors(action, f"every workgroup in {self._region}", self._identity):
                    response = self._client("redshift-serverless").list_tags_for_resource(resourceArn=arn)
                    return [described.tags_of_resource(response), None]
            except AwsError as error:
                if error.is_gone:  # deleted since it was listed
                    return [{}, None]
                if error.operation == action and (error.is_denied or error.code in (UNREADABLE, "ValidationException")):
                    return [{}, error_to_json(error)]
                raise

        arns = [each["arn"] for each in workgroups if each["arn"] is not None]
        answers = {arn: self._recall(f"{action} {arn}", functools.partial(ask, arn)) for arn in arns}
        errors = {arn: error for arn, (_, text) in answers.items() if text and (error := error_from_json(text))}
        if errors and len(errors) == len(answers):
            first = next(iter(errors.values()))
            raise first if instead_of is None or getattr(instead_of, "is_denied", False) else instead_of
        return {arn: own for arn, (own, _) in answers.items()}, {arn: str(error) for arn, error in errors.items()}

    def _with_vpc_endpoints(
        self,
        found: list[Warehouse],
        list_endpoints: Callable[[Discovery, str], list[list[Any]]],
        *,
        needed: bool = False,
    ) -> tuple[Warehouse, ...]:
        """Add the VPC endpoints, listed only when they are needed, or a tag selects one: those in the warehouses' account, and those that the
        caller's account has to them. A failed listing affects those connections alone."""
        field = f"{self._prefix}endpoint"
        if not needed and not any(
            key.split("/")[0] == field and value.strip().startswith("vpc:")
            for each in found
            if self._marker in each.tags
            for key, value in each.tags.items()
        ):
            return tuple(found)
        by_warehouse: dict[str, list[VpcEndpoint]] = {}
        owner = next((each.account for each in found if each.account), None)
        if owner is None:
            return tuple(found)  # none of them can be served
        errors: list[str] = []
        for discovery in (self, self._of_caller):
            if discovery is None:
                continue
            try:
                # An account also lists its endpoints of other accounts' warehouses, which may have the same names.
                for identifier, *endpoint in list_endpoints(discovery, owner):
                    by_warehouse.setdefault(identifier, []).append(VpcEndpoint(*endpoint))
            except AwsError as error:
                errors.append(str(error))
        unread = {_ENDPOINTS: join_messages(errors)} if errors else {}
        return tuple(
            replace(
                each,
                vpc_endpoints=tuple(dict.fromkeys(by_warehouse.get(each.identifier, ()))),
                unknown={**{key: why for key, why in each.unknown.items() if key != _ENDPOINTS}, **unread},
            )
            for each in found
        )

    def _cluster_endpoints(self, owner: str) -> list[list[Any]]:
        """https://docs.aws.amazon.com/redshift/latest/APIReference/API_DescribeEndpointAccess.html"""
        read = functools.partial(described.cluster_endpoints, owner=owner)
        pages = self._pages("redshift:DescribeEndpointAccess", "VPC endpoint", read, ResourceOwner=owner)
        return [endpoint for page in pages for endpoint in page]

    def _workgroup_endpoints(self, owner: str) -> list[list[Any]]:
        """https://docs.aws.amazon.com/redshift-serverless/latest/APIReference/API_ListEndpointAccess.html; the answer does not
        say whose the workgroups are."""
        pages = self._pages(
            "redshift-serverless:ListEndpointAccess", "VPC endpoint", described.workgroup_endpoints, ownerAccount=owner
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
        """Return every page of a listing, as `read` makes it plain data; with `optional`, a page is the error as JSON where the
        service refuses it or does not answer.

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
                    following = member(response, token_name, str) if response.get(token_name) else None
                    return [read(response), following]
            except AwsError as error:
                # The clock and the credentials of this host would be wrong for whatever is asked instead, too.
                of_service = not error.host_only or error.is_denied or error.code in {*NOT_REACHED, UNREADABLE}
                too_old = token is not None and error.code in TOKEN_REFUSED
                if optional and error.operation == action and of_service and not too_old:
                    return [error_to_json(error), None]
                raise

        return read_pages(action, resource, self._identity, ask, self._recall)
