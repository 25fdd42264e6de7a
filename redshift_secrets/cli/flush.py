"""`redshift-secrets flush`."""

from __future__ import annotations

from typing import Annotated

import typer

from redshift_secrets.cli import errors
from redshift_secrets.cli.conn_ids import COMPLETED


def flush(
    conn_id: Annotated[str | None, typer.Argument(help="Only the entries of this conn_id.", **COMPLETED)] = None,
) -> None:
    """Empty the tiers that processes share. Running processes follow at their next lookup at least 5 s later.

    A connection that a task already has is not taken away.
    """
    from redshift_secrets.cli.site import site_settings
    from redshift_secrets.operations import caches

    flushed = errors.run(lambda: caches.flush(site_settings(), conn_id))
    for line in flushed.lines:
        typer.echo(line)
    raise typer.Exit(0 if flushed.complete else errors.FAILED)
