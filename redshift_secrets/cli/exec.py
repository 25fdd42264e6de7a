"""`redshift-secrets exec`."""

from __future__ import annotations

import errno
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

_WHY = {
    errno.ENOENT: "; the interpreter that its first line names does not exist",
    errno.ENOEXEC: "; it is no program, and its first line names no interpreter, such as #!/bin/sh",
}
"""Of a file that is there."""


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
        is_folder = "/" in command[0] and os.path.isdir(command[0])
        if is_folder or shutil.which(command[0], mode=os.F_OK) is not None:
            fail(
                f"{command[0]}: cannot be run: {'it is a directory' if is_folder else 'permission denied'}", CANNOT_RUN
            )
        fail(f"{command[0]}: command not found", NO_SUCH_COMMAND)
    found = login_environment(conn_id, team, dag_id, environ)
    sys.stdout.flush()
    sys.stderr.flush()
    # Python ignores these, and a program inherits what is ignored: `exec ... -- psql | head` would not end.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execve(program, command, found.applied_to(environ))
    except OSError as error:
        fail(f"{command[0]}: cannot be run: {error.strerror}{_WHY.get(error.errno or 0, '')}", CANNOT_RUN)
