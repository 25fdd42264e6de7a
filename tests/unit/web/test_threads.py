"""The page's work is done in threads of its own, so that Airflow's other routes go on while AWS does not answer."""

from __future__ import annotations

import asyncio
import threading

import anyio

from tests.support.fakes import cluster
from tests.support.helpers import BOUND
from tests.unit.web.conftest import SAME_ORIGIN

REQUESTS = 48  # more than the 40 threads that the routes of an API server share
SCOPE = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/table", "query_string": b"", "headers": []}
REFRESH = {
    **SCOPE,
    "method": "POST",
    "path": "/refresh",
    "headers": [(name.lower().encode(), value.encode()) for name, value in SAME_ORIGIN.items()],
}


class Requests:
    """Requests to an application, in this event loop. `statuses` are those of the answers that have begun."""

    def __init__(self, app) -> None:
        self._app = app
        self.statuses: list[int] = []

    def begin(self, scope: dict) -> asyncio.Task:
        return asyncio.create_task(self._app(dict(scope), self._receive, self._send))

    async def _send(self, message) -> None:
        if message["type"] == "http.response.start":
            self.statuses.append(message["status"])

    async def _receive(self):
        return {"type": "http.request", "body": b"", "more_body": False}


def test_while_aws_does_not_answer_the_threads_of_airflow_are_free(make_page) -> None:
    page = make_page(cluster())
    page.aws.hold = threading.Event()
    requests = Requests(page.app)

    async def look_meanwhile() -> tuple[float, int]:
        looks = [requests.begin(SCOPE) for _ in range(REQUESTS)]
        while not page.aws.entered.is_set():
            await asyncio.sleep(0)
        used = anyio.to_thread.current_default_thread_limiter().borrowed_tokens
        answered = await anyio.to_thread.run_sync(lambda: "at once")
        threads = sum(each.name.startswith("AnyIO") for each in threading.enumerate())
        assert answered == "at once"
        page.aws.hold.set()
        await asyncio.wait_for(asyncio.gather(*looks), BOUND)
        return used, threads

    used, threads = asyncio.run(look_meanwhile())
    assert used == 0
    assert threads <= 5  # four, and the one above
    assert requests.statuses == [200] * REQUESTS


def test_whoever_looks_does_not_wait_for_those_who_refresh(make_page) -> None:
    page = make_page(cluster())
    page.get("/table")
    page.aws.entered.clear()
    page.aws.hold = threading.Event()
    requests = Requests(page.app)

    async def look_meanwhile() -> None:
        refreshes = [requests.begin(REFRESH) for _ in range(REQUESTS)]
        while not page.aws.entered.is_set():
            await asyncio.sleep(0)
        await asyncio.wait_for(requests.begin(SCOPE), BOUND)
        assert requests.statuses == [200]
        page.aws.hold.set()
        await asyncio.wait_for(asyncio.gather(*refreshes), BOUND)

    asyncio.run(look_meanwhile())
    assert requests.statuses == [200] * (REQUESTS + 1)
