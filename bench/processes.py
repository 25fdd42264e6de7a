"""Child processes of the benchmark: each a new interpreter with its own environment."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.figures import NotMeasuredError

_ROOT = Path(__file__).parents[1]
_PATIENCE_SECONDS = 180


def ask(module: str, request: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run `bench.children.<module>` in a new process and return its report.

    Raises `NotMeasuredError` if it fails or takes more than three minutes.
    """
    with serving(module, request, environment) as report:
        return report


@contextlib.contextmanager
def serving(module: str, request: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The same for a process that goes on after its report: until the end of the block, when it is killed."""
    reader, writer = os.pipe()
    # Airflow logs to a file, since the child would block on a full pipe.
    with tempfile.TemporaryFile() as log, os.fdopen(reader, "rb") as pipe:
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
            assert child.stdin is not None
            with contextlib.suppress(BrokenPipeError), child.stdin:
                child.stdin.write(json.dumps(request).encode())
            report = _read(pipe.fileno(), module)
            if not report:
                raise NotMeasuredError(f"a child ({module}) exited with {child.wait()}: {_last_line(log)}")
            answer: dict[str, Any] = json.loads(report)
            if "error" in answer:
                raise NotMeasuredError(" ".join(answer["error"].split()))
            yield answer
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _read(pipe: int, module: str) -> bytes:
    """Everything that the child writes until it closes the pipe."""
    content, end = b"", time.monotonic() + _PATIENCE_SECONDS
    while select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
        more = os.read(pipe, 65536)
        if not more:
            return content
        content += more
    raise NotMeasuredError(f"a child ({module}) took more than {_PATIENCE_SECONDS} s")


def _last_line(log: Any) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "no output"
