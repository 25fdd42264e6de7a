"""`import airflow.configuration`, in which Airflow constructs its configured secrets backend; then this backend."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

from bench.children.airflow_parts import construct
from bench.children.reporting import answer


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Time the import and, without a configured backend, also importing and constructing this one."""
    started, cpu = perf_counter(), _cpu_seconds()
    configuration = importlib.import_module("airflow.configuration")
    seconds, cpu_seconds = perf_counter() - started, _cpu_seconds() - cpu
    backends = [type(backend).__name__ for backend in configuration.secrets_backend_list]
    parts = {}
    if "backend" in request:
        parts["loading cachetools"] = _seconds(lambda: importlib.import_module("cachetools"))
        before = set(sys.modules)
        loading = _seconds(lambda: importlib.import_module("redshift_secrets.backend"))
        parts[f"loading {len(set(sys.modules) - before)} modules of this package"] = loading
        parts["constructing"] = _seconds(lambda: construct(request["backend"], request["kwargs"], object))
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "backend_seconds": sum(parts.values()),
        "parts": parts,
        "backends": backends,
    }


def _seconds(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


if __name__ == "__main__":
    answer(measure)
