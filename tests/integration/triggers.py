"""A trigger that looks up a connection, in a module that the triggerer can import."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

from airflow.providers.common.compat.sdk import BaseHook
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from redshift_secrets import RedshiftSecretsBackend

_AT_LEAST_SECONDS = 2.0

LOOKED_UP_IN_THE_LOOP: list[bool] = []
"""For each attempt of a lookup of `RecordingBackend` in this process, whether it ran in the main thread, which is the event
loop's. A lookup that has to wait is tried again."""


class RecordingBackend(RedshiftSecretsBackend):
    """This package's backend, which records where lookups run."""

    def _get_connection(self, *arguments: Any) -> Any:
        LOOKED_UP_IN_THE_LOOP.append(threading.current_thread() is threading.main_thread())
        return super()._get_connection(*arguments)


class LookUp(BaseTrigger):
    """Looks up `conn_id` `times` times; returns the logins, where the lookups ran, and how often the event loop turned during
    the first one."""

    def __init__(self, conn_id: str, times: int) -> None:
        super().__init__()
        self.conn_id = conn_id
        self.times = times

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "tests.integration.triggers.LookUp", {"conn_id": self.conn_id, "times": self.times}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        LOOKED_UP_IN_THE_LOOP.clear()
        first = asyncio.create_task(_connection(self.conn_id))
        rounds = 0
        while not first.done():
            rounds += 1
            await asyncio.sleep(0.01)
        logins = [first.result().login, *[(await _connection(self.conn_id)).login for _ in range(1, self.times)]]
        # Up to Airflow 3.2, a task fails if its trigger fires before the executor knows that the task has deferred itself.
        await asyncio.sleep(_AT_LEAST_SECONDS)
        yield TriggerEvent({"logins": logins, "in_the_loop": list(LOOKED_UP_IN_THE_LOOP), "rounds": rounds})


async def _connection(conn_id: str) -> Any:
    if hasattr(BaseHook, "aget_connection"):
        return await BaseHook.aget_connection(conn_id)
    return await sync_to_async(BaseHook.get_connection)(conn_id)  # as the hooks of older versions do
