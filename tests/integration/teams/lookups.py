"""A DAG for each team, whose task looks up every conn_id in the conf of the run."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, Connection, get_current_context, task


def create_dag(team: str) -> DAG:
    """Return the DAG of a team."""
    with DAG(f"lookups_of_{team}", schedule=None, start_date=datetime(2026, 1, 1), catchup=False) as dag:

        @task(multiple_outputs=False)
        def look_up() -> dict[str, str | None]:
            found: dict[str, str | None] = {}
            for conn_id in get_current_context()["dag_run"].conf["conn_ids"]:
                try:
                    found[conn_id] = Connection.get(conn_id).login
                except Exception as error:
                    found[conn_id] = type(error).__name__
            return found

        look_up()
    return dag
