"""The task on whose behalf a connection is looked up, from the environment that Airflow sets for it.

Airflow sets the variables right before a task is executed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from redshift_secrets.model import TaskContext


def task_context(environ: Mapping[str, str], team_name: str | None) -> TaskContext:
    """Return the DAG and the team of the task whose environment this is. Airflow's servers pass the team with the lookup
    (`team_name`)."""
    return TaskContext(
        environ.get("AIRFLOW_CTX_DAG_ID") or None, team_name or environ.get("AIRFLOW_CTX_TEAM_NAME") or None
    )


_CONTEXTS = ("airflow.sdk.definitions._internal.contextmanager", "airflow.models.taskinstance")
"""Where Airflow keeps the context of the task that it executes: in 3.0 and newer, and before."""
_FIELDS = ("dag_id", "task_id", "run_id", "map_index", "try_number")
_VARIABLES = {
    "dag_id": "AIRFLOW_CTX_DAG_ID",
    "task_id": "AIRFLOW_CTX_TASK_ID",
    "run_id": "AIRFLOW_CTX_DAG_RUN_ID",
    "try_number": "AIRFLOW_CTX_TRY_NUMBER",
}


def task_instance(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what is known of the task, or of the trigger's task, that runs in this thread: `dag_id`, `task_id`, `run_id`,
    `map_index` and `try_number`, as many of them as there are.

    It comes from the context that Airflow executes the task in, else from what Airflow binds to the log, which it does before
    anything is looked up and for each trigger (3.3), else from the environment, which programs that a task starts have, too.
    A DAG's author can change all of these.
    """
    context = _executing()
    logging_context = sys.modules.get("structlog.contextvars")
    bound = logging_context.get_contextvars() if logging_context is not None else {}
    if context is not None:
        found = {name: getattr(context.get("ti"), name, None) for name in _FIELDS}
    elif bound.get("task_id"):
        found = {name: bound.get(name) for name in _FIELDS}
    else:
        found = {name: environ.get(variable) for name, variable in _VARIABLES.items()}
    # -1 is the index of a task that is not mapped.
    return {
        name: value if isinstance(value, int) else str(value)
        for name, value in found.items()
        if value not in (None, "", -1)
    }


def _executing() -> Any:
    contexts = (getattr(sys.modules.get(module), "_CURRENT_CONTEXT", None) for module in _CONTEXTS)
    return next((each[-1] for each in contexts if each), None)


def process_kind(arguments: Sequence[str]) -> str:
    """Return what kind of process this is: `task`, or the command that it was started with, such as `scheduler`, `api-server`
    or `redshift-secrets`. `arguments` are those of the command line; of them, it never has more than that word."""
    folder, name = os.path.split(arguments[0]) if arguments else ("", "")
    if name == "__main__.py":
        name = os.path.basename(folder)
    if name == "airflow" and len(arguments) > 1:
        name = arguments[1]
    name = re.sub(r"[^\w.-]", "?", name)[:64]
    # These look connections up themselves, with the parts of Airflow's that a task has.
    return "task" if name not in ("triggerer", "dag-processor") and runs_task() else name


def runs_task() -> bool:
    """Whether Airflow executes a task in this process."""
    runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
    return _executing() is not None or hasattr(runner, "SUPERVISOR_COMMS")
