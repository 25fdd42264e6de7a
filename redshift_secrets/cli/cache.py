"""`redshift-secrets cache`."""

from __future__ import annotations

import sys

from redshift_secrets.cli.errors import run
from redshift_secrets.cli.output import Output, OutputOption, note, print_rows

COLUMNS = ("tier", "conn_id", "warehouse", "user", "credential", "refreshed_in", "expires_in")
_FIRST = ("tier", "conn_id", "expires_in", "credential", "user", "refreshed_in", "warehouse")


def cache(output: OutputOption = Output.table) -> None:
    """Show the tiers that processes share: where they are, and what is in them for each conn_id."""
    from redshift_secrets.cli.site import site_settings
    from redshift_secrets.operations.caches import describe_tiers

    tiers = run(lambda: describe_tiers(site_settings()))
    is_table = output in (Output.table, Output.wide)
    for tier in tiers:
        note(tier.about, "bold" if is_table else "", sys.stdout if is_table else sys.stderr)
        if is_table:
            print_rows(tier.rows, COLUMNS, output, first=_FIRST, key=2)
    if not is_table:
        print_rows([row for tier in tiers for row in tier.rows], COLUMNS, output)
