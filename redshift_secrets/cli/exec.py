"""`redshift-secrets exec`."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from typing import Annotated

import typer

from redshift_secrets.cli.conn_ids import COMPLETED
from redshift_secrets.cli.connect import DagIdOption, TeamOption
from redshift_secrets.cli.env import login_environment
from redshift_secrets.cli.errors import CANNOT_RUN, NO_SUCH_COMMAND, fail


def exec_command(
    conn_id: Annotated[str, typer.Argument(help="The conn_id that DAGs use.", **COMPLETED)],
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="The command and its arguments, after --.")],
    team: TeamOption = None,
    dag_id: DagIdOption = None,
) -> None:
    """Run a command that logs in as a task would: psql, dbt, a notebook. The password is in its environment alone.

    Signals, output and exit code are the command's own.
    """
    environ = dict(os.environ)  # Airflow adds to it
    program = shutil.which(command[0])
    if program is None:
        is_there = shutil.which(command[0], mode=os.F_OK) is not None
        why = "cannot be run: permission denied" if is_there else "command not found"
        fail(f"{command[0]}: {why}", CANNOT_RUN if is_there else NO_SUCH_COMMAND)
    found = login_environment(conn_id, team, dag_id, environ)
    sys.stdout.flush()
    sys.stderr.flush()
    # Python ignores these, and a program inherits what is ignored: `exec ... -- psql | head` would not end.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execve(program, command, found.applied_to(environ))
    except OSError as error:
        fail(f"{command[0]}: cannot be run: {error.strerror}", CANNOT_RUN)
