"""New processes of Python that do not wait for third-party libraries: they are forked from one that has imported them.

That one has imported nothing of Airflow, whose configuration is read from the environment of each process, nor of this package.
Apart from that a process begins and ends as one of its own would: with its own environment, arguments, files and exit code.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

_LIBRARIES = """
    aiosqlite asgiref.sync boto3 botocore.endpoint botocore.regions botocore.session botocore.signers cachetools
    cryptography.fernet fsspec httpcore httpx importlib_metadata itsdangerous jinja2.sandbox jsonschema lazy_object_proxy libcst
    methodtools msgspec opentelemetry.sdk.trace packaging.requirements pathspec pendulum pluggy pydantic.dataclasses pydantic.main
    pydantic.networks pydantic.type_adapter pydantic.types rich.console rich.syntax rich.table s3transfer.manager
    sqlalchemy.dialects.postgresql sqlalchemy.dialects.sqlite sqlalchemy.ext.asyncio sqlalchemy.ext.hybrid sqlalchemy.orm
    structlog.dev tenacity typer upath.core uuid6 yaml
""".split()
"""What takes long to import in a command; each version of Airflow uses most of it, and none that is missing is missed."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_LIBRARIES)


def run(
    command: Sequence[str], environment: Mapping[str, str], *, cwd: Path = ROOT, seconds: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a Python script, or `sys.executable` with `-c` or `-m`, to its end, as `subprocess.run` does with `capture_output`.

    Raises `subprocess.TimeoutExpired` after `seconds`.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors, open(os.devnull, "rb") as nothing:
        files = nothing, output, errors
        process = _context.Process(target=_Start(command, environment, cwd, [file.fileno() for file in files]))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, seconds)
        texts = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (output, errors)]
        return subprocess.CompletedProcess(list(command), process.exitcode, *texts)


class _Start:
    """What the new process does."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], cwd: Path, descriptors: list[int]
    ) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._cwd = str(cwd)
        self._descriptors = descriptors

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_descriptors": [DupFd(each) for each in self._descriptors]}

    def __call__(self) -> None:
        for number, descriptor in enumerate(self._descriptors):
            os.dup2(descriptor.detach(), number)  # type: ignore[attr-defined]
        os.environ.clear()
        os.environ.update(self._environment)
        os.chdir(self._cwd)
        sys.path[1:1] = filter(None, self._environment.get("PYTHONPATH", "").split(os.pathsep))
        try:
            _run(self._command)
        finally:
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()


def _run(command: Sequence[str]) -> None:
    program, *arguments = command
    if program != sys.executable:
        sys.argv = [program, *arguments]
        runpy.run_path(program, run_name="__main__")
        return
    option, what, *arguments = arguments
    sys.argv = [option, *arguments]
    if option == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        assert option == "-c", command
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
