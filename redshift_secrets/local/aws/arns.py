"""Names that AWS makes up, made up the same way on every start."""

from __future__ import annotations

import uuid

from redshift_secrets.local.config import Cluster, Workgroup


def warehouse_arn(warehouse: Cluster | Workgroup) -> str:
    """The ARN of a warehouse, the key of everything about it in the stand-in.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonredshift.html
    """
    if isinstance(warehouse, Cluster):
        return f"arn:aws:redshift:{warehouse.region}:{warehouse.account}:cluster:{warehouse.identifier}"
    identity = stable_uuid(warehouse.account, warehouse.region, warehouse.name)
    return f"arn:aws:redshift-serverless:{warehouse.region}:{warehouse.account}:workgroup/{identity}"


def namespace_name(workgroup: Workgroup) -> str:
    """The namespace a workgroup belongs to; its own name when the configuration gives none."""
    return workgroup.namespace or workgroup.name


def namespace_arn(warehouse: Cluster | Workgroup) -> str:
    """The ARN of the namespace (the data behind a warehouse)."""
    if isinstance(warehouse, Cluster):
        identity = stable_uuid(warehouse.account, warehouse.region, "cluster namespace", warehouse.identifier)
        return f"arn:aws:redshift:{warehouse.region}:{warehouse.account}:namespace:{identity}"
    identity = stable_uuid(warehouse.account, warehouse.region, "namespace", namespace_name(warehouse))
    return f"arn:aws:redshift-serverless:{warehouse.region}:{warehouse.account}:namespace/{identity}"


def certificate_arn(warehouse: Cluster | Workgroup) -> str:
    """The ACM certificate of a warehouse's custom domain."""
    identity = stable_uuid(warehouse.account, warehouse.region, "certificate", str(warehouse.custom_domain))
    return f"arn:aws:acm:{warehouse.region}:{warehouse.account}:certificate/{identity}"


def stable_uuid(*parts: str) -> str:
    """A UUID that is the same for the same parts, on every machine."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(parts)))
