"""The page's work is done in threads of its own, so that Airflow's other routes go on while AWS does not answer."""

from __future__ import annotations

import asyncio
import threading

import anyio

from tests.support.fakes import cluster
from tests.support.helpers import BOUND

REQUESTS = 48  # more than the 40 threads that the routes of an API server share
SCOPE = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/table", "query_string": b"", "headers": []}


def test_while_aws_does_not_answer_the_threads_of_airflow_are_free(make_page) -> None:
    page = make_page(cluster())
    page.aws.hold = threading.Event()
    statuses: list[int] = []

    async def send(message):
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def look_meanwhile() -> tuple[float, int]:
        requests = [asyncio.create_task(page.app(dict(SCOPE), receive, send)) for _ in range(REQUESTS)]
        while not page.aws.entered.is_set():
            await asyncio.sleep(0)
        used = anyio.to_thread.current_default_thread_limiter().borrowed_tokens
        answered = await anyio.to_thread.run_sync(lambda: "at once")
        threads = sum(each.name.startswith("AnyIO") for each in threading.enumerate())
        assert answered == "at once"
        page.aws.hold.set()
        await asyncio.wait_for(asyncio.gather(*requests), BOUND)
        return used, threads

    used, threads = asyncio.run(look_meanwhile())
    assert used == 0
    assert threads <= 5  # four, and the one above
    assert statuses == [200] * REQUESTS
