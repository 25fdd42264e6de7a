"""`import airflow.configuration`, in which Airflow constructs the secrets backend it was told to; and ours after it."""

from __future__ import annotations

import importlib
import os
from time import perf_counter
from typing import Any

from bench.children.airflow_parts import construct
from bench.children.reporting import answer


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Time the import, and where Airflow was told of no backend, also importing and constructing ours."""
    started, cpu = perf_counter(), _cpu_seconds()
    configuration = importlib.import_module("airflow.configuration")
    seconds, cpu_seconds = perf_counter() - started, _cpu_seconds() - cpu
    backends = [type(backend).__name__ for backend in configuration.secrets_backend_list]
    started = perf_counter()
    if "backend" in request:
        construct(request["backend"], request["kwargs"], object)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "ours_seconds": perf_counter() - started,
        "backends": backends,
    }


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


if __name__ == "__main__":
    answer(measure)
