"""`redshift-secrets cache`."""

from __future__ import annotations

import typer

from redshift_secrets.cli.errors import run
from redshift_secrets.cli.output import Output, OutputOption, print_rows

COLUMNS = ("tier", "conn_id", "warehouse", "user", "credential", "refreshed_in", "expires_in")


def cache(output: OutputOption = Output.table) -> None:
    """Show the tiers that processes share: where they are, and what is in them for each conn_id."""
    from redshift_secrets.cli.site import site_settings
    from redshift_secrets.operations.caches import describe_tiers

    for tier in run(lambda: describe_tiers(site_settings())):
        typer.echo(tier.about, err=output is not Output.table)
        if tier.rows or output is not Output.table:
            print_rows(tier.rows, COLUMNS, output)
