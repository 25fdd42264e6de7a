"""Task processes that are forked from one that has loaded Airflow and this backend, and look up at the same time."""

from __future__ import annotations

import gc
import importlib
import json
import os
import time
from typing import Any

from bench.children import airflow_parts
from bench.children.reporting import answer


def crowd(request: dict[str, Any]) -> dict[str, Any]:
    """Fork `processes` children onto the hosts (each an environment), release them together, and collect their reports.

    Without a `backend` in the request the children only report.
    """
    importlib.import_module("airflow.configuration")  # constructs the backend of this process, if one is configured
    connection_class = airflow_parts.task_connection_class()
    gc.freeze()  # as LocalExecutor does before it forks
    gate, open_gate = os.pipe()
    reports, say = os.pipe()
    children = []
    for number in range(request["processes"]):
        child = os.fork()
        if child == 0:
            os.close(open_gate)
            os.close(reports)
            _task(request, number, connection_class, gate, say)
        children.append(child)
    os.close(gate)
    os.close(say)
    with os.fdopen(reports, encoding="utf-8") as lines:
        for _ in children:
            lines.readline()  # each reports once that it is ready
        released = time.monotonic()
        os.close(open_gate)  # the end of the pipe, for all of them at the same time
        answers = [json.loads(line) for line in lines]
    for child in children:
        os.waitpid(child, 0)
    return {
        "seconds": [each["at"] - released for each in answers],
        "cpu_seconds": [each["cpu_seconds"] for each in answers],
        "answered": sum(each["answered"] for each in answers),
        "errors": sorted({each["error"] for each in answers if each["error"]}),
    }


def _task(request: dict[str, Any], number: int, connection_class: Any, gate: int, say: int) -> None:
    # Lines this short are written atomically, also with other writers on the pipe.
    os.environ.update(request["hosts"][number % len(request["hosts"])])
    os.write(say, b"ready\n")
    os.read(gate, 1)
    answered, error, before = False, "", time.process_time()
    try:
        if "backend" in request:
            backend = airflow_parts.construct(request["backend"], request["kwargs"], connection_class)
            connection = backend.get_connection(request["conn_id"])
            answered = connection is not None and bool(connection.password)
            error = "" if answered else "the answer was None, as for a conn_id that is not managed"
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"[:500]
    finally:
        spent = time.process_time() - before
        line = json.dumps({"at": time.monotonic(), "cpu_seconds": spent, "answered": answered, "error": error})
        os.write(say, line.encode() + b"\n")
        os._exit(0)


if __name__ == "__main__":
    answer(crowd)
