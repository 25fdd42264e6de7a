"""`make demo`: a real Airflow runs real DAGs against real SQL, through connections that nobody defined.

Everything lives in a temporary folder and on free loopback ports, and is gone afterwards, also when interrupted.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from urllib.parse import quote

from redshift_secrets.local.command import airflow_environment, default_warehouses
from redshift_secrets.local.stand_in import StandIn
from tests.support.airflow_site import AirflowSite, AirflowSiteError

DAGS = Path(__file__).parent / "dags"
PROCESSES = ("api-server", "scheduler", "dag-processor")


class DemoFailedError(Exception):
    """Something is not as it should be; the message says what."""


def main() -> int:
    """Run the demo; 0 when everything was seen that is to be seen, 1 when not, 130 when interrupted."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # sys.exit, so that everything is taken down
    started = time.monotonic()
    try:
        _demo()
    except (AirflowSiteError, DemoFailedError) as error:
        say(f"The demo failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted.")
        return 130
    say(f"Done in {time.monotonic() - started:.0f} s; everything is taken down and removed.")
    return 0


def _demo() -> None:
    warehouses = default_warehouses()
    told = airflow_environment(warehouses)
    say("Starting the stand-in: simulated AWS, and a PostgreSQL behind a gateway for each warehouse")
    with StandIn(warehouses) as stand_in:
        say("Making an Airflow home in a temporary folder (airflow db migrate)")
        with AirflowSite(DAGS, {**stand_in.environment(), **told}) as airflow:
            say("Two clusters and a Serverless workgroup exist. All that Airflow is told:")
            for name, value in told.items():
                detail(f"{name}={value}")
            say("What is found through tags (redshift-secrets list):")
            print(airflow.run("redshift-secrets", "list", "-o", "plain"), end="")
            stand_in.aws.calls.clear()
            _run_the_dags(airflow)
            airflow.stop()
            report(stand_in, airflow.home)


def _run_the_dags(airflow: AirflowSite) -> None:
    airflow.start(*PROCESSES)
    say("A real Airflow is starting: " + ", ".join(PROCESSES) + "; each task is a process of its own")
    runs = {}
    for dag_id in ("sales", "who_am_i"):
        runs[dag_id] = airflow.trigger(dag_id)
        say(f"DAG {dag_id} is running ({(DAGS / dag_id).with_suffix('.py').name})")
    ended = {dag_id: airflow.wait_for_run(dag_id, run_id) for dag_id, run_id in runs.items()}
    for dag_id, run_id in runs.items():
        for task, value in airflow.results(dag_id, run_id).items():
            if task.task_id not in ("create", "load"):
                detail(f"{task.task_id:<14} {value}")
    if set(ended.values()) != {"success"}:
        raise DemoFailedError(f"the DAG runs ended as {ended}\n{airflow.last_lines()}")


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


def holds_any(path: Path, passwords: list[str]) -> bool:
    content = path.read_bytes()
    forms = {form for password in passwords for form in (password, quote(password), quote(password, safe=""))}
    return any(form.encode() in content for form in forms)


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def detail(text: str) -> None:
    print(f"    {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
