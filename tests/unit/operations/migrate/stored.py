"""Stored connections, and the plan of a site that has them, for tests."""

from __future__ import annotations

from typing import Any

from redshift_secrets.airflow.stored import Place, StoredConnection
from redshift_secrets.lookup.catalog import Unseen
from redshift_secrets.model import Warehouse
from redshift_secrets.operations.migrate.plan import Move, Plan, Seen, make_plan
from redshift_secrets.operations.migrate.reading import Stored, StoredUnder
from redshift_secrets.settings import Settings
from tests.support.fakes import cluster

PROD = cluster("prod", {})


def stored(conn_id: str = "analytics", **fields: Any) -> StoredConnection:
    """Return a connection with a password, to the cluster `prod` unless `fields` say otherwise."""
    usual = {
        "place": Place("database", conn_id),
        "conn_type": "redshift",
        "host": PROD.host,
        "port": 5439,
        "schema": "dev",
        "login": "etl",
        "has_password": True,
    }
    return StoredConnection(conn_id, **{**usual, **fields})


def plan(
    *connections: StoredConnection,
    warehouses: tuple[Warehouse, ...] = (PROD,),
    unseen: tuple[Unseen, ...] = (),
    **settings: Any,
) -> Plan:
    """Return the plan for connections of one place each."""
    made = Settings.from_kwargs({"regions": ["eu-west-1"], **settings})
    under = tuple(StoredUnder(each.conn_id, (each,)) for each in connections)
    return make_plan(made, Stored(under, {}, ()), Seen(warehouses, unseen, "me"))


def move(connection: StoredConnection, **site: Any) -> Move:
    """Return the row of the only connection."""
    return plan(connection, **site).moves[0]
