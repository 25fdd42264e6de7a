"""`redshift-secrets show`."""

from __future__ import annotations

from typing import Annotated

import typer

from redshift_secrets.cli.errors import FAILED, run, unknown_conn_id
from redshift_secrets.cli.output import Output, OutputOption, print_rows

COLUMNS = ("field", "value", "source")


def show(
    conn_id: Annotated[str, typer.Argument(help="The conn_id that DAGs use.")], output: OutputOption = Output.table
) -> None:
    """Show where each field of a connection comes from: which tag, which setting, which default."""
    from redshift_secrets.cli.site import site_settings
    from redshift_secrets.operations.inspect import view_site
    from redshift_secrets.operations.site import site_broker

    broker = run(lambda: site_broker(site_settings()))
    claims = run(lambda: view_site(broker, conn_id)).rows
    if not claims:
        unknown_conn_id(broker, conn_id)
    for claim in claims:
        print_rows(
            [{"field": each.name, "value": str(each.value), "source": each.source} for each in claim.fields],
            COLUMNS,
            output,
        )
        for problem in claim.problems:
            typer.echo(problem, err=True)
    if len(claims) > 1:
        typer.echo(f"{conn_id!r} is claimed by {len(claims)} warehouses", err=True)
    raise typer.Exit(FAILED if len(claims) > 1 or any(claim.fails for claim in claims) else 0)
