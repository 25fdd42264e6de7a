"""`redshift-secrets`: what exists here, where each field came from, and does it connect.

Exit codes: 0 all is well; 1 it cannot be served or does not connect; 2 wrong usage or settings; 3 no such conn_id;
4 the list is not complete.
"""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

FAILED, WRONG_USAGE, NOT_FOUND, INCOMPLETE = 1, 2, 3, 4

app = typer.Typer(
    name="redshift-secrets",
    help="Airflow connections for Amazon Redshift that nobody defined. Reads the same configuration as Airflow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they print local variables, and ours hold passwords
)
local = typer.Typer(
    help="The laptop stand-in: simulated AWS and a real PostgreSQL, without an AWS account.", no_args_is_help=True
)
app.add_typer(local, name="local")


class Output(str, enum.Enum):  # StrEnum is 3.11
    """The formats of Airflow's own commands."""

    table = "table"
    json = "json"
    yaml = "yaml"
    plain = "plain"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]


@app.command("list")
def list_command(output: OutputOption = Output.table) -> None:
    """List every conn_id that a tag claims, with what is wrong with it."""
    from redshift_secrets.cli import list as listing
    from redshift_secrets.cli.output import print_rows

    found = _run(listing.collect)
    print_rows(found.rows, listing.COLUMNS, output.value)
    for note in found.notes:
        typer.echo(note, err=True)
    raise typer.Exit(INCOMPLETE if found.incomplete else 0)


@app.command()
def show(
    conn_id: Annotated[str, typer.Argument(help="The conn_id that DAGs use.")], output: OutputOption = Output.table
) -> None:
    """Show where each field of a connection came from: which tag, which setting, which default."""
    from redshift_secrets.cli import show as showing
    from redshift_secrets.cli.output import print_rows

    shown = _run(lambda broker: showing.collect(broker, conn_id))
    if not shown:
        _fail(f"no tag claims the conn_id {conn_id!r} here; `redshift-secrets list` shows what exists.", NOT_FOUND)
    for connection in shown:
        print_rows(connection.rows, showing.COLUMNS, output.value)
        for problem in connection.problems:
            typer.echo(problem, err=True)
    if len(shown) > 1:
        typer.echo(f"{conn_id!r} is claimed by {len(shown)} warehouses", err=True)
    raise typer.Exit(FAILED if len(shown) > 1 or any(connection.fails for connection in shown) else 0)


@app.command("test")
def connect(
    conn_id: Annotated[str, typer.Argument(help="The conn_id that DAGs use.")],
    team: Annotated[str | None, typer.Option(help="Ask as this Airflow team.")] = None,
    dag_id: Annotated[
        str | None, typer.Option(help="Ask as a task of this DAG, where db_user makes a user of each.")
    ] = None,
) -> None:
    """Connect as a task would, time each step, and print who logged in."""
    from redshift_secrets.cli import connect as testing
    from redshift_secrets.settings.db_user import Dag

    connected = _run(lambda broker: testing.run(broker, conn_id, Dag(dag_id, team), echo=typer.echo))
    if connected is None:
        _fail(f"no tag claims the conn_id {conn_id!r} here; `redshift-secrets list` shows what exists.", NOT_FOUND)
    raise typer.Exit(0 if connected else FAILED)


@app.command()
def cache(output: OutputOption = Output.table) -> None:
    """Show the tiers that processes share: where they are, and what is in them for each conn_id."""
    from redshift_secrets.cli import cache as caching
    from redshift_secrets.cli.output import print_rows

    for tier in _call(caching.collect):
        typer.echo(tier.about, err=output is not Output.table)
        if tier.rows or output is not Output.table:
            print_rows(tier.rows, caching.COLUMNS, output.value)


@app.command()
def flush(
    conn_id: Annotated[str | None, typer.Argument(help="Only what is kept of this conn_id.")] = None,
) -> None:
    """Empty the tiers that processes share. What a running process has in its memory stays there until it is renewed."""
    from redshift_secrets.cli import cache as caching

    lines, well = _call(lambda: caching.flush(conn_id))
    for line in lines:
        typer.echo(line)
    raise typer.Exit(0 if well else FAILED)


@local.command()
def up(
    config: Annotated[
        Path | None, typer.Option(help="A warehouses.yaml; without it, two clusters and a workgroup.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the simulated AWS; 0 takes a free one.", min=0, max=65535)] = 0,
) -> None:
    """Run the stand-in in the foreground and print the environment to export. Ctrl-C stops it; it remembers nothing."""
    try:
        from redshift_secrets.local import command
    except ImportError as error:
        _fail(f"the stand-in needs more packages ({error.name}): pip install 'redshift-secrets[local]'", WRONG_USAGE)
    from redshift_secrets.local.config import ConfigError

    try:
        command.up(config, port, echo=typer.echo)
    except (ConfigError, OSError) as error:
        _fail(str(error), WRONG_USAGE)


def _run(work: Any) -> Any:
    """Call `work` with the broker of this site; what goes wrong becomes one sentence and an exit code."""

    def with_broker() -> Any:
        from redshift_secrets.cli.site import site_broker

        return work(site_broker())

    return _call(with_broker)


def _call(work: Any) -> Any:
    from redshift_secrets.cli.site import NotConfiguredError
    from redshift_secrets.errors import RedshiftSecretsError, SettingsError

    try:
        return work()
    except NotConfiguredError as error:
        _fail(str(error), WRONG_USAGE)
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(WRONG_USAGE) from None
    except RedshiftSecretsError as error:
        _fail(str(error), FAILED)


def _fail(message: str, code: int) -> Any:
    typer.echo(f"redshift-secrets: {message}", err=True)
    raise typer.Exit(code)


def main() -> None:
    """The console script."""
    try:
        app()
    except BrokenPipeError:  # `redshift-secrets list | head`
        sys.stderr.close()
