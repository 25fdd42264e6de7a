"""Identifiers that AWS generates; the stand-in derives them, so they are the same on every start."""

from __future__ import annotations

import uuid

from redshift_secrets.local.config import Cluster, Workgroup


def warehouse_arn(warehouse: Cluster | Workgroup) -> str:
    """Return the ARN of a warehouse, its key throughout the stand-in.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonredshift.html
    """
    if isinstance(warehouse, Cluster):
        return f"arn:aws:redshift:{warehouse.region}:{warehouse.account}:cluster:{warehouse.identifier}"
    identifier = stable_uuid(warehouse.account, warehouse.region, warehouse.name)
    return f"arn:aws:redshift-serverless:{warehouse.region}:{warehouse.account}:workgroup/{identifier}"


def namespace_name(workgroup: Workgroup) -> str:
    """Return the name of a workgroup's namespace, by default the workgroup's own name."""
    return workgroup.namespace or workgroup.name


def namespace_arn(warehouse: Cluster | Workgroup) -> str:
    """Return the ARN of the namespace, which holds a warehouse's data."""
    if isinstance(warehouse, Cluster):
        identifier = stable_uuid(warehouse.account, warehouse.region, "cluster namespace", warehouse.identifier)
        return f"arn:aws:redshift:{warehouse.region}:{warehouse.account}:namespace:{identifier}"
    identifier = stable_uuid(warehouse.account, warehouse.region, "namespace", namespace_name(warehouse))
    return f"arn:aws:redshift-serverless:{warehouse.region}:{warehouse.account}:namespace/{identifier}"


def certificate_arn(warehouse: Cluster | Workgroup) -> str:
    """Return the ARN of the ACM certificate for a warehouse's custom domain."""
    identifier = stable_uuid(warehouse.account, warehouse.region, "certificate", str(warehouse.custom_domain))
    return f"arn:aws:acm:{warehouse.region}:{warehouse.account}:certificate/{identifier}"


def stable_uuid(*parts: str) -> str:
    """Return a UUID that depends on `parts` alone, not on the machine."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(parts)))
