"""A file that reads a connection each time it is parsed, as one should not and many do."""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, BaseHook

connection = BaseHook.get_connection("analytics")

dag = DAG("reads_a_connection", schedule=None, start_date=datetime(2026, 1, 1), description=connection.login)
