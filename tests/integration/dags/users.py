"""Two DAGs that log in with the same conn_id."""

from __future__ import annotations

from datetime import datetime

from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.providers.common.compat.sdk import DAG, task

for name in ("sales", "finance"):
    with DAG(name, schedule=None, start_date=datetime(2026, 1, 1), catchup=False):

        @task
        def log_in() -> str:
            return RedshiftSQLHook(redshift_conn_id="by-dag").get_first("SELECT current_user")[0]

        log_in()
