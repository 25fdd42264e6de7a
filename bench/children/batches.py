"""Lookups that are answered from memory, in batches that alternate between this backend and the peer."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from bench.children import airflow_parts
from bench.children.reporting import answer

_BATCH_NANOSECONDS = 20_000_000


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Return the nanoseconds per lookup of each batch, for this backend and for the peer."""
    importlib.import_module("airflow.configuration")
    on_server = request["connection"] == "server"
    connection_class = airflow_parts.server_connection_class() if on_server else airflow_parts.task_connection_class()
    own = _lookup(request["own"], request["conn_id"], request["found"], connection_class)
    peer = _lookup(request["peer"], request["conn_id"], request["found"], connection_class)
    sizes = _size(own), _size(peer)
    report: dict[str, list[float]] = {"own": [], "peer": []}
    for _ in range(request["rounds"]):
        report["own"].append(_batch(own, sizes[0]))
        report["peer"].append(_batch(peer, sizes[1]))
    return report


def _lookup(backend: dict[str, Any], conn_id: str, found: bool, connection_class: Any) -> Callable[[], object]:
    made = airflow_parts.construct(backend["path"], backend["kwargs"], connection_class)
    # The first lookup fills the memory of the process. Its answer is checked here, not in the batches.
    connection = made.get_connection(conn_id)
    if (connection is not None) != found or (found and not connection.password):
        raise RuntimeError(f"{backend['path']} returns a wrong answer for {conn_id}")
    return lambda: made.get_connection(conn_id)


def _size(lookup: Callable[[], object]) -> int:
    each = _batch(lookup, 200)
    return max(200, int(_BATCH_NANOSECONDS / each))


def _batch(lookup: Callable[[], object], size: int) -> float:
    started = perf_counter_ns()
    for _ in range(size):
        lookup()
    return (perf_counter_ns() - started) / size


if __name__ == "__main__":
    answer(measure)
