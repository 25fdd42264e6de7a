"""A task that defers itself, and whose trigger looks a connection up in the triggerer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator, dag

from tests.integration.triggers import LookUp


class Defers(BaseOperator):
    """Returns what the trigger returned."""

    def __init__(self, conn_id: str, times: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.times = times

    def execute(self, context: Any) -> None:
        self.defer(trigger=LookUp(self.conn_id, self.times), method_name="came_back")

    def came_back(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        return event


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def deferrable() -> None:
    Defers(task_id="defers", conn_id="by-iam", times=3)


deferrable()
