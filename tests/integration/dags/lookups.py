"""Tasks that use a connection in every way in which tasks do; each returns the user that it logs in as."""

from __future__ import annotations

from datetime import datetime

from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.providers.common.compat.sdk import dag, task
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator


def current_user(conn_id: str) -> str:
    return RedshiftSQLHook(redshift_conn_id=conn_id).get_first("SELECT current_user")[0]


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def lookups() -> None:
    SQLExecuteQueryOperator(task_id="operator", conn_id="analytics", sql="SELECT current_user")
    task(task_id="hook")(current_user)("analytics")
    task(task_id="slash")(current_user)("data/analytics")
    task(task_id="by_iam")(current_user)("by-iam")
    # Rendered by Airflow before the task begins.
    fields = "{{ conn.analytics.login }} {{ conn.analytics.schema }} {{ conn.analytics.conn_type }} {{ conn.analytics.host }}"
    task(task_id="template")(lambda text: text)(fields)


lookups()
