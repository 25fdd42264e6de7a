"""Tasks that print the password of a Connection in every form, the first one and the one that follows it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from datetime import datetime
from typing import Any

from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, dag, task
from airflow.providers.postgres.hooks.postgres import PostgresHook

from redshift_secrets.lookup import wiring
from tests.integration.printing import Prints, forms, mark, write_forms
from tests.support.host_store import HOST_STORE

log = logging.getLogger(__name__)


def look_up() -> Any:
    return BaseHook.get_connection("analytics")


def forget(connection: Any) -> None:
    """Forget the credential, as if it were due."""
    wiring._brokers.clear()
    shutil.rmtree(os.environ[HOST_STORE], ignore_errors=True)
    renewal = connection._renewal
    renewal.refresh.func.__self__._broker = None
    renewal.valid_until = 0.0


def print_everything(which: str, connection: Any) -> None:
    write_forms(f"{which} print", connection, print)
    write_forms(f"{which} logging", connection, log.info)
    in_thread = threading.Thread(target=write_forms, args=(f"{which} thread", connection, print))
    in_thread.start()
    in_thread.join()
    with contextlib.suppress(RuntimeError):
        try:
            raise RuntimeError(mark(f"{which} exception", "raw", connection.password))
        except RuntimeError:
            log.exception("it failed")
            raise
    print(mark(f"{which} print", "hook URI", RedshiftSQLHook("analytics").get_uri()))
    print(mark(f"{which} print", "postgres hook URI", str(PostgresHook("analytics").get_uri())))
    print(mark(f"{which} print", "repr of the Connection", repr(connection)))


def print_in_forked_child(connection: Any) -> None:
    """Print a password that only the child has looked up."""
    child = os.fork()
    if child == 0:
        forget(connection)
        write_forms("forked", look_up(), lambda text: os.write(1, f"{text}\n".encode()))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


class Defers(BaseOperator):
    """Lets a trigger print."""

    def execute(self, context: Any) -> None:
        self.defer(trigger=Prints("analytics"), method_name="came_back")

    def came_back(self, context: Any, event: Any) -> None:
        pass


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def printing() -> None:
    @task
    def prints(renews: str) -> None:
        connection = look_up()
        print_everything("first", connection)
        if renews == "True":
            forget(connection)
            renewed = threading.Thread(target=lambda: connection.password)
            renewed.start()
            renewed.join()
            print_everything("renewed", connection)
            print_in_forked_child(connection)

    @task
    def raises() -> None:
        raise RuntimeError(" ".join(mark("raised", name, text) for name, text in forms(look_up())))

    @task
    def rendered(*texts: str) -> None:
        print("rendered")

    prints(renews="{{ dag_run.conf.get('renews', '') }}")
    raises()
    rendered(
        mark("rendered", "raw", "{{ conn.analytics.password }}"),
        mark("rendered", "get_uri", "{{ conn.analytics.get_uri() }}"),
        mark("rendered", "quote", "{{ conn.analytics.password | urlencode }}"),
        mark("rendered", "JSON", "{{ conn.analytics.password | tojson }}"),
    )
    Defers(task_id="defers")


printing()
