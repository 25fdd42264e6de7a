"""Load sales as one database user, read them back as another: two conn_ids on one cluster.

Three tags on the cluster define the connections `analytics` and `reporting`:

    airflow:conn-id           = analytics reporting
    airflow:db-user           = airflow_etl
    airflow:db-user/reporting = bi_readonly
"""

from __future__ import annotations

from datetime import datetime

from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import dag, task


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["redshift-secrets"])
def sales() -> None:
    create = SQLExecuteQueryOperator(
        task_id="create",
        conn_id="analytics",
        sql="CREATE TABLE IF NOT EXISTS sales (day date, region varchar(16), amount decimal(12, 2))",
    )
    load = SQLExecuteQueryOperator(
        task_id="load",
        conn_id="analytics",
        sql=[
            "DELETE FROM sales",
            "INSERT INTO sales VALUES ('2026-01-01', 'north', 100.50), ('2026-01-01', 'south', 80),"
            " ('2026-01-02', 'north', 19.50)",
        ],
    )

    @task
    def owner() -> str:
        """Return the user that created and filled the table."""
        hook = RedshiftSQLHook(redshift_conn_id="analytics")
        user, rows = hook.get_first("SELECT current_user, count(*) FROM sales")
        return f"{user} wrote {rows} rows"

    @task
    def read_back() -> str:
        """Read the totals through the other conn_id, as the other user."""
        hook = RedshiftSQLHook(redshift_conn_id="reporting")
        user = hook.get_first("SELECT current_user")[0]
        totals = hook.get_records("SELECT region, sum(amount) FROM sales GROUP BY region ORDER BY region")
        return f"{user} read {', '.join(f'{region} {amount}' for region, amount in totals)}"

    @task
    def may_not_write() -> str:
        """Check that the reader cannot write: the database decides on permissions."""
        hook = RedshiftSQLHook(redshift_conn_id="reporting")
        try:
            hook.run("DELETE FROM sales")
        except Exception as error:
            if "permission denied" in str(error):
                return "bi_readonly may read sales, but not delete from it"
            raise
        raise AssertionError("the reader could delete")

    create >> load >> owner() >> read_back() >> may_not_write()


sales()
