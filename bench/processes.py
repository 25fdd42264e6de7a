"""Child processes of the benchmark: each a new interpreter with its own environment."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.figures import NotMeasuredError

_ROOT = Path(__file__).parents[1]
_PATIENCE_SECONDS = 180


def ask(module: str, request: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run `bench.children.<module>` in a new process and return its report.

    Raises `NotMeasuredError` if it fails or takes more than three minutes.
    """
    reader, writer = os.pipe()
    # Airflow logs to a file, since the child would block on a full pipe.
    with tempfile.TemporaryFile() as log, os.fdopen(reader, encoding="utf-8") as pipe:
        child = subprocess.Popen(
            [sys.executable, "-m", f"bench.children.{module}", str(writer)],
            cwd=_ROOT,
            env={**environment, "PYTHONPATH": str(_ROOT)},
            pass_fds=(writer,),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        os.close(writer)
        try:
            child.communicate(json.dumps(request).encode(), timeout=_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise NotMeasuredError(f"a child ({module}) took more than {_PATIENCE_SECONDS} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        report = pipe.read()
        if not report:
            raise NotMeasuredError(f"a child ({module}) exited with {child.returncode}: {_last_line(log)}")
    answer: dict[str, Any] = json.loads(report)
    if "error" in answer:
        raise NotMeasuredError(" ".join(answer["error"].split()))
    return answer


def _last_line(log: Any) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "no output"
