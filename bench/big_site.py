"""A site of the size that people move over: 200 stored connections to 30 clusters and 4 workgroups, in 4 accounts and 3 regions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from redshift_secrets.local.aws.arns import warehouse_arn
from redshift_secrets.local.config import DEFAULT_ACCOUNT, Cluster, Database, Role, Warehouses, Workgroup

REGIONS = ("eu-west-1", "us-east-1", "ap-southeast-2")
ROLES = tuple(
    f"arn:aws:iam::{account}:role/airflow-reader" for account in ("222222222222", "333333333333", "444444444444")
)
_ACCOUNTS = (DEFAULT_ACCOUNT, *(role.split(":")[4] for role in ROLES))
_CLUSTERS, _WORKGROUPS, _CONNECTIONS = 30, 4, 200

AddressOf = Callable[[str, str], "tuple[str, int] | None"]
"""Host and port of an endpoint (`default`) of the warehouse with an ARN, as the gateway of a stand-in has them."""


@dataclass(frozen=True)
class BigSite:
    """The warehouses and roles for a stand-in, the `backend_kwargs` that find them, and which conn_id belongs to which warehouse."""

    warehouses: Warehouses
    settings: dict[str, Any]
    owners: dict[str, Cluster | Workgroup]

    def stored(self, address_of: AddressOf) -> dict[str, dict[str, Any]]:
        """Return the stored connections in the form of `airflow connections export`: with a password, of type `postgres`, and with
        `iam` in `extra`, in turn."""
        found = {}
        for number, (conn_id, owner) in enumerate(self.owners.items()):
            host, port = address_of(warehouse_arn(owner), "default") or ("", 0)
            connection: dict[str, Any] = {
                "host": host,
                "port": port,
                "schema": "dwh",
                "login": "etl",
                "password": "typed/in+" + "p" * 20,
            }
            if number % 3 == 2:
                extra = {"iam": True, "region": owner.region, **_named(owner)}
                connection |= {"password": "", "extra": json.dumps(extra)}
            found[conn_id] = {"conn_type": "postgres" if number % 3 == 1 else "redshift", **connection}
        return found


def big_site(tagged: int) -> BigSite:
    """Return the site. The first `tagged` of its conn_ids are in tags already."""
    warehouses = list(_untagged())
    conn_ids = [f"dw_{number:03}" for number in range(_CONNECTIONS)]
    owners = {conn_id: warehouses[number % len(warehouses)] for number, conn_id in enumerate(conn_ids)}
    claims: dict[str, list[str]] = {}
    for conn_id in conn_ids[:tagged]:
        claims.setdefault(warehouse_arn(owners[conn_id]), []).append(conn_id)
    complete = [replace(each, tags=_tags(each, claims.get(warehouse_arn(each), []))) for each in warehouses]
    return BigSite(
        Warehouses(
            tuple(each for each in complete if isinstance(each, Cluster)),
            tuple(each for each in complete if isinstance(each, Workgroup)),
            tuple(Role(arn) for arn in ROLES),
        ),
        {
            "regions": list(REGIONS),
            "accounts": [{"role_arn": role} for role in ROLES],
            "managed_conn_ids": "^dw_",
            "auth": "auto",
        },
        owners,
    )


def _named(warehouse: Cluster | Workgroup) -> dict[str, Any]:
    if isinstance(warehouse, Cluster):
        return {"cluster_identifier": warehouse.identifier}
    return {"is_serverless": True, "serverless_work_group": warehouse.name}


def _untagged() -> Iterator[Cluster | Workgroup]:
    database = Database(name="dwh", users=("etl",))
    for number in range(_CLUSTERS + _WORKGROUPS):
        account, region = _ACCOUNTS[number % len(_ACCOUNTS)], REGIONS[number % len(REGIONS)]
        if number < _CLUSTERS:
            yield Cluster(f"warehouse-{number:02}", region=region, account=account, database=database)
        else:
            yield Workgroup(f"workgroup-{number:02}", region=region, account=account, database=database)


def _tags(warehouse: Cluster | Workgroup, conn_ids: list[str]) -> dict[str, str]:
    if not conn_ids:
        return {"owner": "data"}
    user = {"airflow:db-user": "etl"} if isinstance(warehouse, Cluster) else {}
    return {"airflow:conn-id": " ".join(conn_ids), **user}
