"""Resource Groups Tagging API over our warehouses.

https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from redshift_secrets.local.aws.errors import AwsError
from redshift_secrets.local.aws.inventory import Inventory, Live
from redshift_secrets.local.aws.paging import BadMarkerError, page
from redshift_secrets.local.aws.requests import Call
from redshift_secrets.local.config import Cluster, Workgroup

Answer = dict[str, Any]

_ALONE = ("TagFilters", "ResourceTypeFilters", "ResourcesPerPage", "TagsPerPage", "PaginationToken")
_NOT_SIMULATED = ("TagsPerPage", "IncludeComplianceDetails", "ExcludeCompliantResources")


class Tagging:
    """GetResources, for warehouses that carry a tag now (AWS also lists what carried one before)."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self.operations: dict[str, Callable[[Call], Answer]] = {"GetResources": self._get_resources}

    def _get_resources(self, call: Call) -> Answer:
        params = call.params
        for name in _NOT_SIMULATED:
            if params.get(name):
                raise AwsError("InvalidParameterException", f"The simulated AWS does not know {name}.")
        if params.get("ResourceARNList") and any(params.get(name) for name in _ALONE):
            raise AwsError("InvalidParameterException", f"ResourceARNList excludes {', '.join(_ALONE)}.")
        size = params.get("ResourcesPerPage", 100)
        if not 1 <= size <= 100:
            raise AwsError("InvalidParameterException", f"ResourcesPerPage must be between 1 and 100, is {size}.")
        arns, kinds = params.get("ResourceARNList"), params.get("ResourceTypeFilters")
        filters = params.get("TagFilters", [])
        found = [
            live
            for live in self._inventory.all(call.scope)
            if live.tags
            and (not arns or live.arn in arns)
            and (not kinds or any(kind in _kinds(live) for kind in kinds))
            and all(_carries(live.tags, one) for one in filters)
        ]
        try:
            chosen, token = page(found, _arn, size, params.get("PaginationToken"))
        except BadMarkerError as error:
            raise AwsError("InvalidParameterException", "The PaginationToken is not valid.") from error
        # AWS ends with an empty token, not with none.
        return {"PaginationToken": token or "", "ResourceTagMappingList": [_mapping(live) for live in chosen]}


def _carries(tags: Mapping[str, str], wanted: Answer) -> bool:
    key, values = wanted.get("Key", ""), wanted.get("Values")
    return key in tags and (not values or tags[key] in values)


def _kinds(live: Live[Cluster] | Live[Workgroup]) -> tuple[str, str]:
    if isinstance(live.config, Cluster):
        return "redshift", "redshift:cluster"
    return "redshift-serverless", "redshift-serverless:workgroup"


def _arn(live: Live[Cluster] | Live[Workgroup]) -> str:
    return live.arn


def _mapping(live: Live[Cluster] | Live[Workgroup]) -> Answer:
    tags = [{"Key": key, "Value": value} for key, value in sorted(live.tags.items())]
    return {"ResourceARN": live.arn, "Tags": tags}
