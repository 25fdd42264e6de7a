"""`redshift-secrets test`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from redshift_secrets.cli.errors import FAILED, run, unknown_conn_id
from redshift_secrets.errors import one_line

if TYPE_CHECKING:
    from redshift_secrets.operations.connect import Step

TeamOption = Annotated[str | None, typer.Option(help="Look it up for this Airflow team.")]
DagIdOption = Annotated[
    str | None, typer.Option(help="Look it up for a task of this DAG, where db_user names a user for each.")
]


def connect_command(
    conn_id: Annotated[str, typer.Argument(help="The conn_id that DAGs use.")],
    team: TeamOption = None,
    dag_id: DagIdOption = None,
) -> None:
    """Connect as a task would, time each step, and print the user that is logged in."""
    from redshift_secrets.cli.site import site_settings
    from redshift_secrets.model import TaskContext
    from redshift_secrets.operations.connect import connect
    from redshift_secrets.operations.site import site_broker

    task = TaskContext(dag_id, team)
    broker = run(lambda: site_broker(site_settings()))
    attempt = run(lambda: connect(broker, conn_id, task, _print))
    if attempt is None:
        unknown_conn_id(broker, conn_id)
    if attempt.failure is not None:
        typer.echo(one_line(f"failed: {attempt.failure}"))
        raise typer.Exit(FAILED)
    typer.echo(one_line(f"logged in to database {attempt.database} as {attempt.user}"))


def _print(step: Step) -> None:
    typer.echo(f"{step.name:<34}{step.seconds * 1000:9.1f} ms")
    if step.found:
        typer.echo(one_line(step.found))
