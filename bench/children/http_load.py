"""Many requests sent to a server at once, and others that are sent at regular moments meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from time import perf_counter
from typing import Any

from bench.children.reporting import answer

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Get the paths `at_once` at once, and meanwhile `path` as often as `times`, every `interval` seconds.

    Returns the seconds that each of the latter took, and how many of the former got which status until the last of the
    latter was answered.
    """
    return asyncio.run(_measure(request))


async def _measure(request: dict[str, Any]) -> dict[str, Any]:
    async def connect() -> _Connection:
        return await asyncio.open_connection("127.0.0.1", request["port"])

    # Connecting is no part of the measurement.
    crowd = [await connect() for _ in request["at_once"]]
    others = [await connect() for _ in range(request["times"])]
    for connection in others:
        await _get(connection, request["path"])
    began = perf_counter()

    async def other(number: int) -> float:
        due: float = began + number * request["interval"]
        await asyncio.sleep(max(0.0, due - perf_counter()))
        await _get(others[number], request["path"])
        return perf_counter() - due

    tasks = [asyncio.create_task(_get(*each)) for each in zip(crowd, request["at_once"], strict=True)]
    seconds = await asyncio.gather(*map(other, range(request["times"])))
    statuses = Counter(task.result() for task in tasks if task.done())
    for task in tasks:
        task.cancel()
    return {"seconds": seconds, "statuses": statuses}


async def _get(connection: _Connection, path: str) -> int:
    """Request a path, read the answer and return its status."""
    reader, writer = connection
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = next(line.partition(":")[2] for line in head.splitlines() if line.startswith("content-length:"))
    await reader.readexactly(int(length))
    return int(head.split()[1])


if __name__ == "__main__":
    answer(measure)
