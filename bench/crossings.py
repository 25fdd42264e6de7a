"""The row about how much of the package a lookup goes through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench import loopback, processes
from bench.figures import Effort, Line, NotMeasuredError
from bench.loopback import BACKEND

_MAX_FILES = 13
_MAX_CROSSINGS = 52


def of_a_lookup(_effort: Effort) -> Sequence[Line]:
    """A new process on a warm host looks up one conn_id, and then another one, which is in the host store and not in the
    memory of this process. During the second lookup `sys.setprofile` counts the files of this package in which a
    function is called, and the calls of a function in another file than the one that called it; code of others in
    between does not count. The last lines are the same for the first lookup of a process, which also creates its parts
    and imports what Airflow does not load with the backend. These are counts, the same in every round, so there is one.
    """
    with loopback.loopback([loopback.tagged("prod", "analytics"), loopback.tagged("other", "other")]) as site:
        environment = site.environment(site.new_host())
        request: dict[str, Any] = {"backend": BACKEND, "kwargs": {"regions": ["eu-west-1"]}, "conn_id": "analytics"}
        for conn_id in ("analytics", "other"):
            processes.ask("lookup", {**request, "conn_id": conn_id}, environment)
        later = processes.ask("crossings", {**request, "before": "other"}, environment)
        first = processes.ask("crossings", request, environment)
    if not (later["answered"] and first["answered"]):
        raise NotMeasuredError("the backend did not answer")
    return [
        _line("files of this package that a lookup on a warm host enters", later["files"], _MAX_FILES),
        _line("- calls from one of them into another", later["crossings"], _MAX_CROSSINGS),
        Line("- files that the first lookup of a process enters", f"{first['files']}"),
        Line("- calls from one of these into another", f"{first['crossings']}"),
    ]


def _line(work: str, count: int, limit: int) -> Line:
    return Line(work, f"{count}", limit=f"{limit}", met=count <= limit)
