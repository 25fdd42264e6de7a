"""A file that reads a connection whenever it is parsed, which is bad practice and common."""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, BaseHook

connection = BaseHook.get_connection("analytics")

dag = DAG("reads_a_connection", schedule=None, start_date=datetime(2026, 1, 1), description=connection.login)
