"""Mapped tasks, as many as the conf of the run says; each one logs in."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.providers.common.compat.sdk import dag, task


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def mapped() -> None:
    @task
    def numbers(**context: Any) -> list[int]:
        return list(range(context["dag_run"].conf["tasks"]))

    @task
    def log_in(number: int) -> str:
        return RedshiftSQLHook(redshift_conn_id="analytics").get_first("SELECT current_user")[0]

    log_in.expand(number=numbers())


mapped()
