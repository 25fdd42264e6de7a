"""The time of each part of a first lookup, in a process that has loaded Airflow."""

from __future__ import annotations

import functools
import importlib
from time import perf_counter
from typing import Any

from bench.children import airflow_parts
from bench.children.reporting import answer


def profile(request: dict[str, Any]) -> dict[str, Any]:
    """Return the seconds of a lookup in each of `parts`, which maps a name to its functions (`module:name`), without those
    spent in the functions of other parts. `whole` is the whole lookup, the timing included."""
    importlib.import_module("airflow.configuration")
    connection_class = airflow_parts.task_connection_class()
    backend = airflow_parts.construct(request["backend"], request["kwargs"], connection_class)
    spent = dict.fromkeys(request["parts"], 0.0)
    inner = [0.0]
    for part, functions in request["parts"].items():
        for function in functions:
            _clock(function, part, spent, inner)
    started = perf_counter()
    connection = backend.get_connection(request["conn_id"])
    return {"whole": perf_counter() - started, "parts": spent, "answered": connection is not None}


def _clock(function: str, part: str, spent: dict[str, float], inner: list[float]) -> None:
    """Replace a function by one that also adds its duration to `spent[part]`.

    `inner` has, for each such function that is running, the seconds spent in others that it called.
    """
    module, _, path = function.partition(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    timed = getattr(owner, name)

    @functools.wraps(timed)
    def clocked(*args: Any, **kwargs: Any) -> Any:
        inner.append(0.0)
        started = perf_counter()
        try:
            return timed(*args, **kwargs)
        finally:
            seconds = perf_counter() - started
            spent[part] += seconds - inner.pop()
            inner[-1] += seconds

    setattr(owner, name, clocked)


if __name__ == "__main__":
    answer(profile)
