"""The Resource Groups Tagging API for the simulated warehouses.

https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from redshift_secrets.local.aws.errors import AwsError
from redshift_secrets.local.aws.inventory import Inventory, WarehouseState
from redshift_secrets.local.aws.paging import BadMarkerError, page
from redshift_secrets.local.aws.requests import Call
from redshift_secrets.local.config import Cluster, Workgroup

Result = dict[str, Any]

_EXCLUDED_BY_ARNS = ("TagFilters", "ResourceTypeFilters", "ResourcesPerPage", "TagsPerPage", "PaginationToken")
_NOT_SIMULATED = ("TagsPerPage", "IncludeComplianceDetails", "ExcludeCompliantResources")


class Tagging:
    """GetResources, for warehouses that have tags now (AWS also returns resources that had tags before)."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self.operations: dict[str, Callable[[Call], Result]] = {"GetResources": self._get_resources}

    def _get_resources(self, call: Call) -> Result:
        params = call.params
        for name in _NOT_SIMULATED:
            if params.get(name):
                raise AwsError("InvalidParameterException", f"The simulated AWS does not support {name}.")
        if params.get("ResourceARNList") and any(params.get(name) for name in _EXCLUDED_BY_ARNS):
            raise AwsError(
                "InvalidParameterException",
                f"ResourceARNList cannot be used together with {', '.join(_EXCLUDED_BY_ARNS)}.",
            )
        size = params.get("ResourcesPerPage", 100)
        if not 1 <= size <= 100:
            raise AwsError("InvalidParameterException", f"ResourcesPerPage must be between 1 and 100, is {size}.")
        arns, kinds = params.get("ResourceARNList"), params.get("ResourceTypeFilters")
        filters = params.get("TagFilters", [])
        found = [
            state
            for state in self._inventory.all(call.scope)
            if state.tags
            and (not arns or state.arn in arns)
            and (not kinds or any(kind in _kinds(state) for kind in kinds))
            and all(_passes(state.tags, tag_filter) for tag_filter in filters)
        ]
        try:
            chosen, token = page(found, _arn, size, params.get("PaginationToken"))
        except BadMarkerError as error:
            raise AwsError("InvalidParameterException", "The PaginationToken is not valid.") from error
        # On the last page AWS returns an empty token, not none.
        return {"PaginationToken": token or "", "ResourceTagMappingList": [_mapping(state) for state in chosen]}


def _passes(tags: Mapping[str, str], tag_filter: Result) -> bool:
    key, values = tag_filter.get("Key", ""), tag_filter.get("Values")
    return key in tags and (not values or tags[key] in values)


def _kinds(state: WarehouseState[Cluster] | WarehouseState[Workgroup]) -> tuple[str, str]:
    if isinstance(state.config, Cluster):
        return "redshift", "redshift:cluster"
    return "redshift-serverless", "redshift-serverless:workgroup"


def _arn(state: WarehouseState[Cluster] | WarehouseState[Workgroup]) -> str:
    return state.arn


def _mapping(state: WarehouseState[Cluster] | WarehouseState[Workgroup]) -> Result:
    tags = [{"Key": key, "Value": value} for key, value in sorted(state.tags.items())]
    return {"ResourceARN": state.arn, "Tags": tags}
