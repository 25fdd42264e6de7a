"""`make demo`: a real Airflow runs real DAGs against real SQL, through connections that nobody defined.

Everything lives in a temporary folder and on free loopback ports, and is gone afterwards, also when interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from redshift_secrets.local.command import airflow_environment, default_warehouses
from redshift_secrets.local.stand_in import StandIn

DAGS = Path(__file__).parent / "dags"
PATIENCE_SECONDS = 240
PROCESSES = ("api-server", "scheduler", "dag-processor")


class DemoFailedError(Exception):
    """Something did not happen; the message says what and where to read more."""


def main() -> int:
    """Run the demo; 0 when everything was seen that is to be seen, 1 when not, 130 when interrupted."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # sys.exit, so that everything is taken down
    started = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="redshift-secrets-demo-"))
    try:
        _demo(home)
    except DemoFailedError as error:
        say(f"The demo failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted.")
        return 130
    finally:
        shutil.rmtree(home, ignore_errors=True)
    say(f"Done in {time.monotonic() - started:.0f} s; everything is taken down and removed.")
    return 0


def _demo(home: Path) -> None:
    warehouses = default_warehouses()
    say("Starting the stand-in: simulated AWS, and a PostgreSQL behind a gateway for each warehouse")
    with StandIn(warehouses) as stand_in:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS_"))},
            **stand_in.environment(),
            **airflow_environment(warehouses),
            **airflow_settings(home),
        }
        # Nothing of the person who runs this may take part: neither profiles nor credentials.
        environment |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        say("Two clusters and a Serverless workgroup exist. All that Airflow is told:")
        for name, value in airflow_environment(warehouses).items():
            detail(f"{name}={value}")
        say("What is found through tags (redshift-secrets list):")
        print(_run(["redshift-secrets", "list", "-o", "plain"], environment), end="")
        say("Making an Airflow home in a temporary folder (airflow db migrate)")
        _run(["airflow", "db", "migrate"], environment)
        stand_in.aws.calls.clear()
        with contextlib.ExitStack() as processes:
            for name in PROCESSES:
                processes.enter_context(airflow_process(name, environment, home))
            say("A real Airflow is starting: " + ", ".join(PROCESSES) + "; each task is a process of its own")
            database = home / "airflow.db"
            for dag_id in ("sales", "who_am_i"):
                wait_for(f"Airflow to read the DAG {dag_id}", home, lambda dag=dag_id: dag in known_dags(database))
                _run(["airflow", "dags", "trigger", dag_id], environment)
                say(f"DAG {dag_id} is running ({(DAGS / dag_id).with_suffix('.py').name})")
            wait_for("both DAGs to end", home, lambda: len(ended_runs(database)) == 2)
            runs = ended_runs(database)
            for task, value in results(database):
                detail(f"{task:<14} {value}")
            if set(runs.values()) != {"success"}:
                raise DemoFailedError(f"the DAG runs ended as {runs}\n{last_lines(home)}")
        report(stand_in, home)


def report(stand_in: StandIn, home: Path) -> None:
    """Say what it cost and look for passwords."""
    calls = stand_in.aws.calls.by_operation()
    say(f"All of that took {sum(calls.values())} calls to AWS:")
    for operation, count in sorted(calls.items()):
        detail(f"{count:4} {operation}")
    tokens = stand_in.tokens.minted()
    files = [path for path in home.rglob("*") if path.is_file()]
    found = [path for path in files if holds_any(path, [token.password for token in tokens])]
    if found:
        raise DemoFailedError(f"a password is stored in {', '.join(map(str, found))}")
    size = sum(path.stat().st_size for path in files)
    say(
        f"No password is stored anywhere: looked for {len(tokens)} of them in {len(files)} files of the Airflow home"
        f" ({size // 1024} KiB, metadata database and task logs included)"
    )
    say(
        "At home: tag a cluster airflow:conn-id = <conn_id>, set [secrets] backend as above, see README.md for the IAM policy."
    )


def airflow_settings(home: Path) -> dict[str, str]:
    """The settings of an Airflow that shares nothing with any other on this machine."""
    api, logs = free_port(), free_port()
    run = home / "run"
    run.mkdir(mode=0o700)
    return {
        "XDG_RUNTIME_DIR": str(run),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(api),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{api}",
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(logs),
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@contextlib.contextmanager
def airflow_process(name: str, environment: Mapping[str, str], home: Path) -> Iterator[None]:
    """Run `airflow NAME` until the end of the block, with all of its children."""
    with (home / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [tool("airflow"), name], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(what: str, home: Path, happened: Callable[[], object]) -> None:
    """Wait until `happened` answers something true; raises `DemoFailedError` after four minutes."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        if time.monotonic() > end:
            raise DemoFailedError(f"waited {PATIENCE_SECONDS} s for {what}\n{last_lines(home)}")
        time.sleep(0.5)


def query(database: Path, sql: str) -> list[tuple[str, ...]]:
    """Read the metadata database; nothing where it is not ready."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(sql).fetchall()


def known_dags(database: Path) -> set[str]:
    return {row[0] for row in query(database, "SELECT dag_id FROM serialized_dag")}


def ended_runs(database: Path) -> dict[str, str]:
    return dict(query(database, "SELECT dag_id, state FROM dag_run WHERE state IN ('success', 'failed')"))  # type: ignore[arg-type]


def results(database: Path) -> Iterator[tuple[str, str]]:
    """What the tasks returned, by task."""
    rows = query(database, "SELECT task_id, value FROM xcom WHERE key = 'return_value' ORDER BY timestamp")
    for task_id, value in rows:
        content = json.loads(value)
        if isinstance(content, str) and content[:1] in "{[":
            content = json.loads(content)
        if task_id not in ("create", "load"):
            yield task_id, content


def holds_any(path: Path, passwords: list[str]) -> bool:
    content = path.read_bytes()
    forms = {form for password in passwords for form in (password, quote(password), quote(password, safe=""))}
    return any(form.encode() in content for form in forms)


def last_lines(home: Path) -> str:
    """The ends of all logs, to see why something did not happen."""
    parts = []
    for path in sorted(home.rglob("*.log")):
        lines = path.read_text(errors="replace").splitlines()[-25:]
        parts.append(f"--- {path.relative_to(home)}\n" + "\n".join(lines))
    return "\n".join(parts)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def tool(name: str) -> str:
    """The command of this virtual environment."""
    return str(Path(sys.executable).parent / name)


def _run(command: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [tool(command[0]), *command[1:]], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise DemoFailedError(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    return done.stdout


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def detail(text: str) -> None:
    print(f"    {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
