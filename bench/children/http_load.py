"""Many requests sent to a server, and others that are sent at regular moments meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from time import perf_counter
from typing import Any

from bench.children.reporting import answer

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Make the requests of the `crowd`, one every `crowd_interval` seconds, and meanwhile get `path` as often as `times`, every
    `interval` seconds. A request is a method, a path, headers and a body.

    Returns the seconds that each of the latter took, and how many of the former got which status until the last of the
    latter was answered.
    """
    return asyncio.run(_measure(request))


async def _measure(request: dict[str, Any]) -> dict[str, Any]:
    async def connect() -> _Connection:
        return await asyncio.open_connection("127.0.0.1", request["port"])

    # Connecting is no part of the measurement.
    crowd = [await connect() for _ in request["crowd"]]
    others = [await connect() for _ in range(request["times"])]
    for connection in others:
        await _send(connection, *_get(request["path"]))
    began = perf_counter()

    async def other(number: int) -> float:
        due: float = began + number * request["interval"]
        await asyncio.sleep(max(0.0, due - perf_counter()))
        await _send(others[number], *_get(request["path"]))
        return perf_counter() - due

    async def one_of_crowd(number: int) -> int:
        await asyncio.sleep(number * request["crowd_interval"])
        return await _send(crowd[number], *request["crowd"][number])

    tasks = [asyncio.create_task(one_of_crowd(number)) for number in range(len(crowd))]
    seconds = await asyncio.gather(*map(other, range(request["times"])))
    statuses = Counter(task.result() for task in tasks if task.done())
    for task in tasks:
        task.cancel()
    return {"seconds": seconds, "statuses": statuses}


def _get(path: str) -> tuple[str, str, dict[str, str], str]:
    return "GET", path, {}, ""


async def _send(connection: _Connection, method: str, path: str, headers: dict[str, str], body: str) -> int:
    """Make a request, read the answer and return its status."""
    reader, writer = connection
    fields = {"Host": "localhost", "Content-Length": str(len(body)), **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", body]
    writer.write("\r\n".join(lines).encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = next((line.partition(":")[2] for line in head.splitlines() if line.startswith("content-length:")), None)
    if length is None:
        await reader.readuntil(b"\r\n0\r\n\r\n")  # sent in parts
    else:
        await reader.readexactly(int(length))
    return int(head.split()[1])


if __name__ == "__main__":
    answer(measure)
