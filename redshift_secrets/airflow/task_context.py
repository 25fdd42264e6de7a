"""The task on whose behalf a connection is looked up, from the environment that Airflow sets for it.

Airflow sets the variables right before a task is executed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from redshift_secrets.model import TaskContext


def task_context(environ: Mapping[str, str], team_name: str | None) -> TaskContext:
    """Return the DAG and the team of the task whose environment this is. Airflow's servers pass the team with the lookup
    (`team_name`)."""
    return TaskContext(
        environ.get("AIRFLOW_CTX_DAG_ID") or None, team_name or environ.get("AIRFLOW_CTX_TEAM_NAME") or None
    )


def application_name(environ: Mapping[str, str]) -> str | None:
    """Return `airflow/<dag_id>/<task_id>` of the task whose environment this is, or `None` where no task runs.

    Redshift shows the name in its logs and takes 250 characters of ASCII, so each part is cut to 120.
    https://docs.aws.amazon.com/redshift/latest/mgmt/python-configuration-options.html
    """
    dag_id, task_id = environ.get("AIRFLOW_CTX_DAG_ID"), environ.get("AIRFLOW_CTX_TASK_ID")
    if not dag_id or not task_id:
        return None
    return re.sub(r"[^!-~]", "?", f"airflow/{dag_id[:120]}/{task_id[:120]}")
