"""What AWS answers to a description or a listing, as the fields of `Warehouse`, its tags and its VPC endpoints.

Any field of a resource may be missing and any status may come. What a connection needs and is missing is said in `unknown`, which
makes the connections of that resource fail, and no other. A listing without its list is no answer at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from redshift_secrets.aws.errors import member

Fields = dict[str, Any]
"""Fields of a `Warehouse`, as plain data."""

Account = tuple[str, str]
"""Partition and number of an AWS account."""

_FIRST_DATABASE = "dev"
"""The first database of a cluster or a namespace is called like this unless another name was given."""
_NO_STATUS = "unknown"


def clusters(page: Any, region: str, caller_account: Callable[[], Account | None]) -> list[Fields]:
    """Return the clusters on a page. All are of one account, the caller's: asked for where no cluster of the page says it."""
    raws = _items(page, "Clusters")
    found = [_account_of(_text(raw, "ClusterNamespaceArn")) for raw in raws]
    account = next((each for each in found if each is not None), None)
    if account is None and raws:
        account = caller_account()
    return [_cluster(raw, region, account, number) for number, raw in enumerate(raws, 1)]


def _cluster(raw: Any, region: str, account: Account | None, number: int) -> Fields:
    # The answer has no cluster ARN, only the ARN of the cluster's namespace, which contains partition and account.
    name, endpoint = _text(raw, "ClusterIdentifier"), _inner(raw, "Endpoint")
    partition, owner = account or ("aws", "")
    identifier = name or f"unnamed-{number}"
    host, port = _address(endpoint, "Address", "Port")
    return {
        "identifier": identifier,
        "arn": f"arn:{partition}:redshift:{region}:{owner}:cluster:{identifier}",
        "account": owner,
        "status": _text(raw, "ClusterStatus") or _NO_STATUS,
        "created_at": _seconds(raw, "ClusterCreateTime"),
        "tags": _tags(raw.get("Tags"), "Key", "Value"),
        "database": _text(raw, "DBName") or _FIRST_DATABASE,
        "host": host,
        "port": port,
        "custom_domain": _text(raw, "CustomDomainName"),
        "admin_secret_arn": _text(raw, "MasterPasswordSecretArn"),
        "unknown": _unknown(
            "redshift:DescribeClusters", name, account, "ClusterIdentifier", "ClusterNamespaceArn, and STS no account"
        ),
    }


def cluster_endpoints(page: Any, owner: str) -> list[list[Any]]:
    """Return warehouse, name, host and port of the VPC endpoints on a page that are for the clusters of an account."""
    return [
        found
        for raw in _items(page, "EndpointAccessList")
        if raw.get("ResourceOwner", owner) == owner
        and (found := _endpoint(raw, "ClusterIdentifier", "EndpointName", "Address", "Port")) is not None
    ]


def workgroups(page: Any, region: str, caller_account: Callable[[], Account | None]) -> list[Fields]:
    """Return the workgroups on a page, `namespace` among their fields; `arn` is `None` where it is not known."""
    raws = _items(page, "workgroups")
    return [_workgroup(raw, region, caller_account, number) for number, raw in enumerate(raws, 1)]


def _workgroup(raw: Any, region: str, caller_account: Callable[[], Account | None], number: int) -> Fields:
    name, arn, identifier = (_text(raw, each) for each in ("workgroupName", "workgroupArn", "workgroupId"))
    account = _account_of(arn)
    if account is None:
        arn, account = None, caller_account()
        if identifier is not None and account is not None:
            arn = f"arn:{account[0]}:redshift-serverless:{region}:{account[1]}:workgroup/{identifier}"
    return {
        "identifier": name or f"unnamed-{number}",
        "arn": arn,
        "account": account[1] if account is not None else "",
        "namespace": _text(raw, "namespaceName"),
        "created_at": _seconds(raw, "creationDate"),
        "unknown": _unknown(
            "redshift-serverless:ListWorkgroups", name, account, "workgroupName", "workgroupArn, and STS no account"
        ),
        **state_of_workgroup(raw),
    }


def state_of_workgroup(raw: Any) -> Fields:
    """Return what can change of a workgroup."""
    host, port = _address(_inner(raw, "endpoint"), "address", "port")
    return {
        "status": _text(raw, "status") or _NO_STATUS,
        "host": host,
        "port": port,
        "custom_domain": _text(raw, "customDomainName"),
    }


def tagged_without_a_name(arn: str, tags: Mapping[str, str], why: str) -> Fields:
    """Return the fields of a workgroup of which there are only tags. `arn` may be none, and is a name for it then."""
    account = _account_of(arn)
    return {
        "identifier": arn.rpartition("/")[2],
        "arn": arn,
        "account": account[1] if account is not None else "",
        "status": _NO_STATUS,
        "created_at": float("inf"),
        "tags": tags,
        "database": "",
        "unknown": {"identity": why},
    }


def namespaces(page: Any) -> dict[str, Fields]:
    """Return by name what the namespaces on a page say of their workgroups."""
    return {
        name: {
            "database": _text(raw, "dbName") or _FIRST_DATABASE,
            "admin_secret_arn": _text(raw, "adminPasswordSecretArn"),
        }
        for raw in _items(page, "namespaces")
        if (name := _text(raw, "namespaceName")) is not None
    }


def workgroup_endpoints(page: Any) -> list[list[Any]]:
    """Return warehouse, name, host and port of the VPC endpoints on a page."""
    found = [_endpoint(raw, "workgroupName", "endpointName", "address", "port") for raw in _items(page, "endpoints")]
    return [each for each in found if each is not None]


def tag_mappings(page: Any) -> dict[str, dict[str, str]]:
    """Return tags by ARN; where a page of the tagging API leaves one out, by a name that is none."""
    return {
        _text(raw, "ResourceARN") or f"unnamed-{number}": _tags(raw.get("Tags"), "Key", "Value")
        for number, raw in enumerate(_items(page, "ResourceTagMappingList"), 1)
    }


def tags_of_resource(answer: Any) -> dict[str, str]:
    """Return the tags in an answer of ListTagsForResource."""
    return _tags(_items(answer, "tags"), "key", "value")


def _items(page: Any, name: str) -> list[Mapping[str, Any]]:
    return _mappings(member(page, name, list))


def _mappings(raws: list[Any]) -> list[Mapping[str, Any]]:
    """An item that is nothing (`null`) is one without any field, so that the others keep their places and are known."""
    return [raw if isinstance(raw, Mapping) else {} for raw in raws]


def seconds(moment: datetime) -> float:
    """Return a time of AWS in seconds since the epoch. One that does not say its zone is in UTC, not in that of this host."""
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)).timestamp()


def _unknown(action: str, name: str | None, account: Account | None, name_of: str, account_of: str) -> dict[str, str]:
    missing = [*([name_of] if name is None else []), *([account_of] if account is None else [])]
    return {"identity": f"{action} gave no {' and no '.join(missing)}"} if missing else {}


def _tags(raws: Any, key: str, value: str) -> dict[str, str]:
    found = _mappings(raws) if isinstance(raws, list) else []
    return {name: _text(raw, value) or "" for raw in found if (name := _text(raw, key)) is not None}


def _endpoint(raw: Any, warehouse: str, name: str, host: str, port: str) -> list[Any] | None:
    found = [_text(raw, warehouse), _text(raw, name), *_address(raw, host, port)]
    return None if None in found else found


def _account_of(arn: str | None) -> Account | None:
    parts = arn.split(":", 5) if arn is not None else []
    return (parts[1], parts[4]) if len(parts) > 5 and parts[0] == "arn" and parts[4] else None


def _text(raw: Any, name: str) -> str | None:
    found = raw.get(name)
    if not isinstance(found, str) or not found:
        return None
    # Half of a surrogate pair, which JSON can carry and no store or driver takes.
    return found if found.isascii() else found.encode(errors="replace").decode()


def _inner(raw: Any, name: str) -> Mapping[str, Any]:
    found = raw.get(name)
    return found if isinstance(found, Mapping) else {}


def _address(raw: Any, host: str, port: str) -> tuple[str | None, int | None]:
    """Return both or neither: one alone is no address."""
    address, number = _text(raw, host), raw.get(port)
    return (address, number) if address is not None and type(number) is int and 0 < number < 65_536 else (None, None)


def _seconds(raw: Any, name: str) -> float:
    # No creation time yet: the resource is still being created, so it is younger than all others.
    moment = raw.get(name)
    return seconds(moment) if isinstance(moment, datetime) else float("inf")
