"""The protocol of the children: the request is JSON on standard input, the report is JSON on a separate pipe."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def answer(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Call `work` with the request and report its result, or its error.

    The first argument is the file descriptor of the pipe; standard output is for Airflow's log.
    """
    request = json.load(sys.stdin)
    try:
        report = work(request)
    except Exception as error:
        report = {"error": f"{type(error).__name__}: {error}"}
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as pipe:
        json.dump(report, pipe)
