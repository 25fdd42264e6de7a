"""Stores connections in a metadata database, as `airflow connections import` does."""

from __future__ import annotations

import importlib
from typing import Any

from bench.children.reporting import answer


def store(request: dict[str, Any]) -> dict[str, Any]:
    """Create Airflow's tables where the environment says, with what the request has of `connections`."""
    models = importlib.import_module("airflow.models")
    create_session = importlib.import_module("airflow.utils.session").create_session
    with create_session() as session:
        models.Connection.metadata.create_all(session.get_bind())
        for conn_id, fields in request["connections"].items():
            session.add(models.Connection(conn_id=conn_id, **fields))
    return {"stored": len(request["connections"])}


if __name__ == "__main__":
    answer(store)
