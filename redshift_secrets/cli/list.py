"""`redshift-secrets list`."""

from __future__ import annotations

import typer

from redshift_secrets.cli.errors import FAILED, PARTIAL, run
from redshift_secrets.cli.output import Output, OutputOption, print_rows

COLUMNS = ("conn_id", "warehouse", "account", "region", "database", "user", "auth", "state", "problems")


def list_command(output: OutputOption = Output.table) -> None:
    """List every conn_id that a tag claims, with what is wrong with it. Ends with 1 where anything is."""
    from redshift_secrets.cli.site import site_settings
    from redshift_secrets.operations.inspect import view_site
    from redshift_secrets.operations.site import site_broker

    found = run(lambda: view_site(site_broker(site_settings())))
    rows = [
        {
            **{name: str(getattr(row, name)) for name in COLUMNS},
            "warehouse": f"{row.kind} {row.warehouse}",
            "problems": "; ".join(row.problems),
        }
        for row in found.rows
    ]
    print_rows(rows, COLUMNS, output)
    for note in (*found.tag_problems, *found.ignored, *found.unseen):
        typer.echo(note, err=True)
    if found.unseen:
        raise typer.Exit(PARTIAL)
    raise typer.Exit(FAILED if found.has_problems else 0)
