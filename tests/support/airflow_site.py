"""A temporary, real Airflow on loopback, with its own AIRFLOW_HOME, metadata database, ports and processes.

The demo and the integration tests use it. It ignores the machine's own Airflow, AWS profiles and credentials, and leaves
nothing behind.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import psutil
import sqlalchemy

from tests.support.airflow_runs import USER, Runs, RunsInTables, RunsThroughApi, TaskKey
from tests.support.host_store import HOST_STORE, with_host_store
from tests.support.interrupts import deferred_signals

PATIENCE_SECONDS = 240.0
_STOP_SECONDS = 15.0

Changes = Mapping[str, "str | None"]
"""Environment variables in which one process differs from the site; `None` removes a variable."""


class AirflowSiteError(Exception):
    """A command failed or something did not happen; the message says what, with the last lines of all logs."""


class _ProcessKind(NamedTuple):
    """A process of Airflow: the arguments of `airflow`, and the job type whose heartbeat shows that it runs."""

    arguments: tuple[str, ...]
    job_type: str | None = None


def airflow_version() -> tuple[int, int]:
    """Return the major and minor version of the installed Airflow."""
    try:
        version = metadata.version("apache-airflow-core")
    except metadata.PackageNotFoundError:  # 2.x is one package
        version = metadata.version("apache-airflow")
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def process_kinds(version: tuple[int, int]) -> Mapping[str, _ProcessKind]:
    """Return the processes that can be started, by their name in Airflow 3. All differences between versions are here."""
    kinds = {
        "scheduler": _ProcessKind(("scheduler",), "SchedulerJob"),
        "triggerer": _ProcessKind(("triggerer",), "TriggererJob"),
        "celery-worker": _ProcessKind(("celery", "worker")),
    }
    if version >= (3, 0):
        return {
            "api-server": _ProcessKind(("api-server",)),
            "dag-processor": _ProcessKind(("dag-processor",), "DagProcessorJob"),
            **kinds,
        }
    return kinds  # the scheduler reads the DAGs itself, and tasks need no server


class AirflowSite:
    """A real Airflow that reads the folder `dags`. A context manager, which leaves no process and no file.

    All processes have the variables in `environment`, and those with this backend the host store in the folder `host_store`.
    `database_url` is the metadata database, by default a file in AIRFLOW_HOME. Raises `AirflowSiteError` if something fails
    or does not happen within `patience_seconds`.
    """

    def __init__(
        self,
        dags: Path,
        environment: Mapping[str, str],
        *,
        database_url: str | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="redshift-secrets-airflow-"))
        self.host_store = self.home / "host-store"
        self.version = airflow_version()
        self._patience = patience_seconds
        self._kinds = process_kinds(self.version)
        self._api_port = _free_port()
        self._password_file = self.home / "passwords.json"
        url = database_url or f"sqlite:///{self.home}/airflow.db"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS_"))},
            **self._settings(dags, url),
            # No profiles or credentials of the person who runs this.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            **environment,
        }
        self._engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._started_runs = 0
        self._runs: Runs = RunsInTables(self.query, self.airflow)
        if self.version >= (3, 0):
            password = secrets.token_hex(16)
            self._password_file.write_text(json.dumps({USER: password}), encoding="utf-8")
            self._runs = RunsThroughApi(f"http://127.0.0.1:{self._api_port}", password)

    def _settings(self, dags: Path, database_url: str) -> dict[str, str]:
        api = f"http://127.0.0.1:{self._api_port}"
        return {
            HOST_STORE: str(self.host_store),
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self._password_file),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{api}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self._api_port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__BASE_URL": api,
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            # Without one, the PyJWT of today signs no token for the API of Airflow 3.0.
            "AIRFLOW__API_AUTH__JWT_ISSUER": api,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database_url,
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            # In seconds; a supervisor may notice only this much later that its task has ended.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            # Of the API server, in seconds: on a busy machine the default of 5 fails tasks before they begin.
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "300",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            # Each process serves the logs of its tasks; two of one site may run at the same time.
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(_free_port()),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(_free_port()),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    @property
    def url(self) -> str:
        """Where people find it: the sub path of `[api] base_url` in front of every page."""
        return self.environment["AIRFLOW__API__BASE_URL"]

    def __enter__(self) -> AirflowSite:
        try:
            self.airflow("db", "migrate")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.stop(patience_seconds=_STOP_SECONDS if error is None else 0.0)
        finally:
            self._remove()

    def _remove(self) -> None:
        self._engine.dispose()
        shutil.rmtree(self.home, ignore_errors=True)

    # --- processes

    def start(self, *names: str, arguments: Sequence[str] = (), changes: Changes | None = None) -> None:
        """Start `api-server`, `scheduler`, `dag-processor`, `triggerer` or `celery-worker`, also more than once; return at
        once. A process that this version of Airflow does not have is skipped."""
        for name in names:
            if name in self._kinds or name not in process_kinds((3, 0)):
                self._start(name, (*self._kinds[name].arguments, *arguments), changes or {})

    def _start(self, name: str, arguments: Sequence[str], changes: Changes) -> None:
        with (self.home / f"{name}.log").open("ab") as log, deferred_signals():
            process = subprocess.Popen(
                [tool("airflow"), *arguments],
                env=self.environment_with(changes),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self._processes.append((name, process))

    def environment_with(self, changes: Changes) -> dict[str, str]:
        """Return the environment of a process with these changes."""
        merged = {name: value for name, value in {**self.environment, **changes}.items() if value is not None}
        return with_host_store(merged)

    def stop(self, *names: str, patience_seconds: float = _STOP_SECONDS) -> None:
        """Stop these processes, by default all, with everything they started; after `patience_seconds` kill what is left.
        May be repeated."""
        ending = [process for name, process in self._processes if not names or name in names]
        self._processes = [(name, process) for name, process in self._processes if process not in ending]
        sessions = {process.pid: _session(process.pid) for process in ending}
        for process in ending:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        end = time.monotonic() + patience_seconds
        for process in ending:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
        # A task's process has its own process group and may outlive its parent, but stays in the same session.
        left = [each for pid, before in sessions.items() for each in {*before, *_session(pid)}]
        for each in left:
            with contextlib.suppress(psutil.Error):
                each.kill()
        psutil.wait_procs(left, _STOP_SECONDS)
        for process in ending:
            process.wait()

    def wait_until_ready(self) -> None:
        """Return when all started processes work: servers answer, the others have written their heartbeats."""
        for name, _ in self._processes:
            if name == "api-server":
                self.wait_for(f"{name} to answer", self._answers)
            elif self._kinds[name].job_type is not None:
                self.wait_for(f"{name} to run", functools.partial(self._has_heartbeat, name))

    def _has_heartbeat(self, name: str) -> bool:
        heartbeat = "SELECT 1 FROM job WHERE job_type = :job AND state = 'running'"
        return bool(self.query(heartbeat, job=self._kinds[name].job_type))

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._api_port}/api/v2/version", timeout=10):
                return True
        except OSError:
            return False

    def wait_for(self, what: str, happened: Callable[[], object], *, patience_seconds: float | None = None) -> None:
        """Return when `happened` returns something true; a process that exits before is an error, too."""
        patience = self._patience if patience_seconds is None else patience_seconds
        end = time.monotonic() + patience
        while not happened():
            ended = [name for name, process in self._processes if process.poll() is not None]
            if ended:
                raise AirflowSiteError(f"{', '.join(ended)} exited unexpectedly\n{self.last_lines()}")
            if time.monotonic() > end:
                raise AirflowSiteError(f"waited {patience:.0f} s for {what}\n{self.last_lines()}")
            time.sleep(0.3)

    # --- commands

    def airflow(self, *arguments: str, changes: Changes | None = None) -> str:
        """Run `airflow ARGUMENTS` and return its output; raises `AirflowSiteError` if it fails."""
        return self.run("airflow", *arguments, changes=changes)

    def run(self, command: str, *arguments: str, changes: Changes | None = None) -> str:
        """Run a command of this virtual environment and return its output; raises `AirflowSiteError` if it fails."""
        done = self.completed(command, *arguments, changes=changes)
        if done.returncode != 0:
            raise AirflowSiteError(
                f"{' '.join((command, *arguments))} exited with {done.returncode}:\n"
                f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
            )
        return done.stdout

    def completed(
        self, command: str, *arguments: str, changes: Changes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of this virtual environment, whatever its exit code."""
        return subprocess.run(
            [tool(command), *arguments],
            env=self.environment_with(changes or {}),
            capture_output=True,
            text=True,
            check=False,
            timeout=self._patience,
        )

    # --- runs

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Wait until Airflow knows the DAG and start a run; return its run_id."""
        self._started_runs += 1
        run_id = f"run{self._started_runs}"
        self.wait_for(f"Airflow to read the DAG {dag_id}", lambda: self._runs.start(dag_id, run_id, conf or {}))
        return run_id

    def wait_for_run(self, dag_id: str, run_id: str, *, patience_seconds: float | None = None) -> str:
        """Wait until a run has ended and return its state, `success` or `failed`."""
        state = ""

        def has_ended() -> bool:
            nonlocal state
            state = self._runs.state(dag_id, run_id)
            return state in ("success", "failed")

        self.wait_for(f"{dag_id} {run_id} to end", has_ended, patience_seconds=patience_seconds)
        return state

    def states(self, dag_id: str, run_id: str) -> dict[TaskKey, str]:
        """Return the state of each task of a run."""
        return self._runs.states(dag_id, run_id)

    def results(self, dag_id: str, run_id: str) -> dict[TaskKey, Any]:
        """Return what each task of a run returned (its XCom `return_value`), oldest first."""
        return self._runs.results(dag_id, run_id)

    def log(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1, attempt: int = 1) -> str:
        """Return the log of one attempt of a task as Airflow's UI shows it: messages, and errors with their text."""
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        if map_index >= 0:
            folder /= f"map_index={map_index}"
        path = folder / f"attempt={attempt}.log"
        parts = [path, *sorted(folder.glob(f"{path.name}.trigger.*"))]  # a triggerer has its own file
        lines = [line for part in parts if part.is_file() for line in part.read_text(errors="replace").splitlines()]
        return "\n".join(_readable(line) for line in lines)

    def query(self, sql: str, **values: Any) -> list[Any]:
        """Return the rows of the metadata database."""
        with self._engine.connect() as connection:
            return list(connection.execute(sqlalchemy.text(sql), values))

    def last_lines(self) -> str:
        """Return the last lines of all logs, which show why something did not happen."""
        parts = []
        for path in sorted(self.home.rglob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-25:]
            parts.append(f"--- {path.relative_to(self.home)}\n" + "\n".join(lines))
        return "\n".join(parts)


def tool(name: str) -> str:
    """Return the command of this virtual environment."""
    return str(Path(sys.executable).parent / name)


def _session(leader: int) -> set[psutil.Process]:
    def members() -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getsid(process.pid) == leader:
                    yield process

    return set(members())


def _readable(line: str) -> str:
    """Return a line of Airflow 3's log, which is JSON, as text; older versions write text."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict):
        return line
    errors = [f"{each.get('exc_type')}: {each.get('exc_value')}" for each in entry.get("error_detail") or ()]
    return "\n".join([f"{str(entry.get('level', '')).upper()} {entry.get('event')}", *errors])


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
