"""A real Airflow runs the DAGs in `dags/` against simulated AWS and real SQL. `make demo` runs this.

Everything is in temporary folders and on free loopback ports, and is removed at the end.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from redshift_secrets.local.command import airflow_environment, default_warehouses
from redshift_secrets.local.stand_in import StandIn
from tests.support.airflow_site import AirflowSite

DAGS = Path(__file__).parent / "dags"
PROCESSES = ("api-server", "scheduler", "dag-processor")


class DemoFailedError(Exception):
    """The demo did not show what it should; the message says what happened instead."""


def demo() -> None:
    """Run the DAGs, show what they returned, what AWS was asked, and that no password was stored."""
    say("Starting the stand-in: simulated AWS, and PostgreSQL behind a gateway for each warehouse")
    warehouses = default_warehouses()
    with StandIn(warehouses) as stand_in:
        say("Creating AIRFLOW_HOME in a temporary folder (airflow db migrate)")
        settings = airflow_environment(warehouses)
        with AirflowSite(DAGS, {**stand_in.environment(), **settings}) as airflow:
            say("There are two clusters and a Serverless workgroup. Airflow has these settings, and no connections:")
            for name, value in settings.items():
                detail(f"{name}={value}")
            say("The tags of the warehouses define the connections (redshift-secrets list):")
            print(airflow.run("redshift-secrets", "list", "-o", "plain"), end="")
            stand_in.aws.calls.clear()
            run_dags(airflow)
            airflow.stop()
            report_calls(stand_in)
            search_for_passwords(stand_in, airflow.home)
    say(
        "For your own warehouses: the same settings, a tag airflow:conn-id = <conn_id>, and the IAM policy in README.md"
    )


def run_dags(airflow: AirflowSite) -> None:
    """Run both DAGs and print what their tasks returned."""
    say("Starting Airflow: " + ", ".join(PROCESSES) + "; each task is a process of its own")
    airflow.start(*PROCESSES)
    runs = {}
    for dag_id in ("sales", "who_am_i"):
        runs[dag_id] = airflow.trigger(dag_id)
        say(f"DAG {dag_id} is running (examples/dags/{dag_id}.py)")
    states = {dag_id: airflow.wait_for_run(dag_id, run_id) for dag_id, run_id in runs.items()}
    for dag_id, run_id in runs.items():
        for task, value in airflow.results(dag_id, run_id).items():
            if task.task_id not in ("create", "load"):
                detail(f"{task.task_id:<14} {value}")
    if set(states.values()) != {"success"}:
        raise DemoFailedError(f"the DAG runs ended as {states}\n{airflow.last_lines()}")


def report_calls(stand_in: StandIn) -> None:
    """Print how often AWS was called."""
    calls = stand_in.aws.calls.by_operation()
    say(f"All of that took {sum(calls.values())} calls to AWS:")
    for operation, count in sorted(calls.items()):
        detail(f"{count:4} {operation}")


def search_for_passwords(stand_in: StandIn, home: Path) -> None:
    """Search all files of Airflow, the metadata database and the task logs included, for every password AWS returned."""
    passwords = [token.password for token in stand_in.tokens.minted()]
    files = [path for path in home.rglob("*") if path.is_file()]
    found = [path for path in files if contains_any(path, passwords)]
    if found:
        raise DemoFailedError(f"a password is in {', '.join(map(str, found))}")
    say(
        f"OK: none of the {len(passwords)} passwords appears in the {len(files)} files of AIRFLOW_HOME, metadata database and task logs included"
    )


def contains_any(path: Path, passwords: list[str]) -> bool:
    """Whether a file contains a password, as it is or quoted as in a URL."""
    content = path.read_bytes()
    forms = {form for password in passwords for form in (password, quote(password), quote(password, safe=""))}
    return any(form.encode() in content for form in forms)


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def detail(text: str) -> None:
    print(f"    {text}", flush=True)
