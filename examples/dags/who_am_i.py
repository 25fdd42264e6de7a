"""Log in to every warehouse: a cluster, a cluster in another region that creates its user, a Serverless workgroup."""

from __future__ import annotations

from datetime import datetime

from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.sdk import dag, task


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["redshift-secrets"])
def who_am_i() -> None:
    @task
    def log_in(conn_id: str) -> str:
        user, database = RedshiftSQLHook(redshift_conn_id=conn_id).get_first("SELECT current_user, current_database()")
        return f"{conn_id}: {user} in {database}"

    log_in.expand(conn_id=["analytics", "reporting", "finance", "sandbox"])


who_am_i()
