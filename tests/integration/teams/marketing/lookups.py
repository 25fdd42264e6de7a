"""A task of the team marketing, which asks for every conn_id that the run is started with."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import Connection, dag, get_current_context, task


@dag(dag_id="of_marketing", schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def lookups() -> None:
    @task(multiple_outputs=False)
    def ask() -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for conn_id in get_current_context()["dag_run"].conf["conn_ids"]:
            try:
                found[conn_id] = Connection.get(conn_id).login
            except Exception as error:
                found[conn_id] = type(error).__name__
        return found

    ask()


lookups()
