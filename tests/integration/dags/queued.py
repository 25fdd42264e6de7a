"""One DAG for each queue of a Celery worker."""

from __future__ import annotations

from datetime import datetime

from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.providers.common.compat.sdk import DAG, task

for name in ("with_rights", "without_rights", "with_backend_and_no_rights"):
    with DAG(f"queued_{name}", schedule=None, start_date=datetime(2026, 1, 1), catchup=False):

        @task(queue=name)
        def log_in() -> str:
            return RedshiftSQLHook(redshift_conn_id="by-iam").get_first("SELECT current_user")[0]

        log_in.override(task_id="first")() >> log_in.override(task_id="second")()
