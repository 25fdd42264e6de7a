"""One first lookup, in a process that has loaded Airflow and nothing of a secrets backend."""

from __future__ import annotations

import importlib
import sys
from time import perf_counter
from typing import Any

from bench.children import airflow_parts
from bench.children.reporting import answer


def look_up(request: dict[str, Any]) -> dict[str, Any]:
    """Return the seconds of importing and constructing the backend, and of its first lookup."""
    importlib.import_module("airflow.configuration")
    connection_class = airflow_parts.task_connection_class()
    before = "boto3" in sys.modules
    started = perf_counter()
    backend = airflow_parts.construct(request["backend"], request["kwargs"], connection_class)
    constructed = perf_counter()
    connection = backend.get_connection(request["conn_id"])
    answered = perf_counter()
    return {
        "import_seconds": constructed - started,
        "lookup_seconds": answered - constructed,
        "answered": connection is not None and bool(connection.password),
        "boto3": "boto3" in sys.modules,
        "boto3_before": before,
        "resident_kib": airflow_parts.resident_kib(),
    }


if __name__ == "__main__":
    answer(look_up)
