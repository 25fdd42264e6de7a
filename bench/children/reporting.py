"""How a child is told what to do, and how it answers: JSON on standard input, JSON over a pipe of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def answer(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Do `work` on the request and report what it returns, or the error that ended it.

    The pipe is the file descriptor named by the first argument: Airflow logs to standard output.
    """
    request = json.load(sys.stdin)
    try:
        report = work(request)
    except Exception as error:
        report = {"error": f"{type(error).__name__}: {error}"}
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as pipe:
        json.dump(report, pipe)
