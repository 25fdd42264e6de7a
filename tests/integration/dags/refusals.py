"""One task for each way in which a connection cannot be served; with a connection, each would succeed."""

from __future__ import annotations

from datetime import datetime

from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.providers.common.compat.sdk import dag, task

TASKS = {
    "refused": "twice mistyped paused resuming deleting creating gone denied throttled broken silent expired skewed",
    "nowhere": "nowhere",
    "unlisted": "unlisted",
    "nobody": "nobody",
    "no_role": "no-role",
    "one": "paused",
}


def one_row(conn_id: str) -> str:
    return str(RedshiftSQLHook(redshift_conn_id=conn_id).get_first("SELECT 1"))


def add_dag(dag_id: str, names: list[str]) -> None:
    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
    def refusals() -> None:
        for name in names:
            task(task_id=name)(one_row)(f"dw-{name}")

    refusals()


for each, tasks in TASKS.items():
    add_dag(each, tasks.split())
