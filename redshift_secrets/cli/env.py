"""`redshift-secrets env`."""

from __future__ import annotations

import enum
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from redshift_secrets.cli.conn_ids import COMPLETED
from redshift_secrets.cli.connect import DagIdOption, TeamOption
from redshift_secrets.cli.errors import USAGE, fail, run, unknown_conn_id
from redshift_secrets.cli.output import note
from redshift_secrets.cli.site import site_settings, stdout_for_the_result
from redshift_secrets.errors import one_line

if TYPE_CHECKING:
    from redshift_secrets.operations.environment import ClientEnvironment


class Shell(str, enum.Enum):  # StrEnum is 3.11
    """The languages that shells speak."""

    sh = "sh"
    fish = "fish"


def env(
    conn_id: Annotated[
        str | None, typer.Argument(help="The conn_id that DAGs use.", show_default=False, **COMPLETED)
    ] = None,
    unset: Annotated[bool, typer.Option("--unset", help="Print what removes the variables again.")] = False,
    shell: Annotated[Shell, typer.Option(help="sh is also for bash and zsh.")] = Shell.sh,
    show: Annotated[bool, typer.Option("--show", help="Print the password to a terminal.")] = False,
    team: TeamOption = None,
    dag_id: DagIdOption = None,
) -> None:
    """Print what gives a shell the login of a connection: eval "$(redshift-secrets env analytics)"."""
    environ = dict(os.environ)  # Airflow adds to it
    if conn_id is None and not unset:
        fail("env needs a conn_id, or --unset", USAGE)
    if not unset and not show and sys.stdout.isatty():
        note("redshift-secrets: this would print a password to the terminal. Add --show, or run this instead:", "red")
        typer.echo(
            f'eval "$(redshift-secrets env {shlex.quote(str(conn_id))})"', err=True
        )  # on a line of its own, to copy
        raise typer.Exit(USAGE)
    if conn_id is None or unset:
        from redshift_secrets.operations.environment import NAMES

        typer.echo(_unset(NAMES, shell))
        return

    found = login_environment(conn_id, team, dag_id, environ)
    typer.echo("\n".join(_lines(found, shell)))


@stdout_for_the_result()
def login_environment(
    conn_id: str, team: str | None, dag_id: str | None, environ: Mapping[str, str]
) -> ClientEnvironment:
    """Return what gives a program the login of a connection, or end as commands do where there is none."""
    from redshift_secrets.model import TaskContext
    from redshift_secrets.operations.environment import client_environment
    from redshift_secrets.operations.site import site_broker

    settings = run(site_settings)
    task = TaskContext(dag_id, team)
    broker = run(lambda: site_broker(settings))
    found = run(lambda: client_environment(broker, conn_id, task, environ, settings.sslrootcert))
    if found is None:
        unknown_conn_id(broker, conn_id)
    return found


def _lines(found: ClientEnvironment, shell: Shell) -> list[str]:
    lines = [f"# {one_line(found.about)}", _unset(found.removed, shell)]
    for name, value in found.variables.items():
        if shell is Shell.fish:
            escaped = value.replace("\\", "\\\\").replace("'", "\\'")
            lines.append(f"set -gx {name} '{escaped}'")
        else:
            lines.append(f"export {name}={shlex.quote(value)}")
    return lines


def _unset(names: Iterable[str], shell: Shell) -> str:
    return f"{'set -e' if shell is Shell.fish else 'unset'} {' '.join(names)}"
