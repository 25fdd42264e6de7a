"""Tasks that use a connection as tasks do, and tasks that put a planted secret everywhere where no password may be."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, dag, task
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

HOME = Path(os.environ["AIRFLOW_HOME"])


class Renders(BaseOperator):
    """Has two templates, which Airflow renders and stores."""

    template_fields = ("password", "planted")

    def __init__(self, password: str, planted: str, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.password = password
        self.planted = planted

    def execute(self, context: object) -> None:
        pass


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def planted() -> None:
    SQLExecuteQueryOperator(task_id="operator", conn_id="analytics", sql="SELECT current_user")

    @task
    def uses() -> str:
        connection = BaseHook.get_connection("analytics")
        print(connection.password, connection.get_uri(), repr(connection))
        with RedshiftSQLHook("analytics").get_sqlalchemy_engine().connect() as open_connection:
            return str(open_connection.exec_driver_sql("SELECT current_user").scalar())

    @task
    def plants() -> str:
        text = os.environ["PLANTED"]
        print(base64.b64encode(text.encode()).decode())
        # A process with the text in its command line, until the test has seen it.
        command = [sys.executable, "-c", "input()", text]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as shown:
            end = time.monotonic() + 300
            while not (HOME / "seen").exists() and time.monotonic() < end:
                time.sleep(0.1)
            shown.communicate(b"\n")
        return text

    @task
    def fails() -> None:
        raise RuntimeError(BaseHook.get_connection("analytics").get_uri())

    uses()
    plants()
    fails()
    Renders(task_id="renders", password="{{ conn.analytics.password }}", planted=os.environ.get("PLANTED", "not here"))


planted()
