"""`redshift-secrets list`."""

from __future__ import annotations

import typer

from redshift_secrets.cli.errors import FAILED, PARTIAL, run
from redshift_secrets.cli.output import Output, OutputOption, print_rows

COLUMNS = ("conn_id", "warehouse", "account", "region", "database", "user", "auth", "state", "problems")


def list_command(output: OutputOption = Output.table) -> None:
    """List every conn_id that a tag claims, with what is wrong with it. Ends with 1 where anything is."""
    from redshift_secrets.cli.site import site_settings
    from redshift_secrets.operations.inspect import list_connections
    from redshift_secrets.operations.site import site_broker

    found = run(lambda: list_connections(site_broker(site_settings())))
    print_rows(found.rows, COLUMNS, output)
    for note in found.notes:
        typer.echo(note, err=True)
    if found.incomplete:
        raise typer.Exit(PARTIAL)
    raise typer.Exit(FAILED if any(row["problems"] for row in found.rows) else 0)
