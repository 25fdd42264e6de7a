"""The files of the package that one lookup enters, and its calls from one of them into another."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import Any

from bench.children import airflow_parts
from bench.children.reporting import answer


def count(request: dict[str, Any]) -> dict[str, Any]:
    """Look `conn_id` up, after `before` if the request names one, and return how many files and crossings it took."""
    importlib.import_module("airflow.configuration")
    connection_class = airflow_parts.task_connection_class()
    backend = airflow_parts.construct(request["backend"], request["kwargs"], connection_class)
    if "before" in request:
        backend.get_connection(request["before"])
    spec = importlib.util.find_spec("redshift_secrets")
    package = os.path.dirname(str(spec.origin)) + os.sep if spec else ""
    files: set[str] = set()
    crossings = 0

    def on_event(frame: Any, event: str, _argument: object) -> None:
        nonlocal crossings
        entered = frame.f_code.co_filename
        if event != "call" or not entered.startswith(package):
            return
        files.add(entered)
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(package):
            caller = caller.f_back
        crossings += caller is not None and caller.f_code.co_filename != entered

    sys.setprofile(on_event)
    try:
        connection = backend.get_connection(request["conn_id"])
    finally:
        sys.setprofile(None)
    return {"files": len(files), "crossings": crossings, "answered": connection is not None}


if __name__ == "__main__":
    answer(count)
