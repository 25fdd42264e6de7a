"""An event loop in which many lookups are made at once, as in Airflow's triggerer."""

from __future__ import annotations

import asyncio
import importlib
from time import perf_counter
from typing import Any

from bench.children import airflow_parts
from bench.children.reporting import answer

_TICK_SECONDS = 0.001
_IDLE_SECONDS = 1.0


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Look up `conn_ids` at once, after `before`, and return the loop's longest stall and the duration of all, in seconds.

    Without a `backend` nothing is looked up for a second.
    """
    importlib.import_module("airflow.configuration")
    return asyncio.run(_measure(request))


async def _measure(request: dict[str, Any]) -> dict[str, Any]:
    backend: Any = None
    if "backend" in request:
        connection_class = airflow_parts.task_connection_class()
        backend = airflow_parts.construct(request["backend"], request["kwargs"], connection_class)
        await _look_up(backend, request["before"])
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            due = perf_counter() + _TICK_SECONDS
            await asyncio.sleep(_TICK_SECONDS)
            longest = max(longest, perf_counter() - due)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.1)
    longest, began = 0.0, perf_counter()
    if backend is None:
        await asyncio.sleep(_IDLE_SECONDS)
    else:
        await asyncio.gather(*(_look_up(backend, conn_id) for conn_id in request["conn_ids"]))
        await asyncio.sleep(2 * _TICK_SECONDS)  # a stall at the end is noticed at the next tick
    seconds = perf_counter() - began
    ticking.cancel()
    return {"longest": longest, "seconds": seconds}


async def _look_up(backend: Any, conn_id: str) -> None:
    if hasattr(backend, "aget_connection"):
        connection = await backend.aget_connection(conn_id)
    else:
        connection = await asyncio.to_thread(backend.get_connection, conn_id)
    if connection is None or not connection.password:
        raise RuntimeError(f"the backend did not answer for {conn_id}")


if __name__ == "__main__":
    answer(measure)
