"""`redshift-secrets untag`."""

from __future__ import annotations

from typing import Annotated

import typer

from redshift_secrets.cli.conn_ids import COMPLETED
from redshift_secrets.cli.tag import DryRunOption, PrintOption, WarehouseArgument, YesOption, change_tags, named


def untag(
    warehouse: WarehouseArgument,
    conn_id: Annotated[
        list[str] | None, typer.Option(help="Only this conn_id and its fields; can be repeated.", **COMPLETED)
    ] = None,
    dry_run: DryRunOption = False,
    form: PrintOption = None,
    yes: YesOption = False,
) -> None:
    """Have a warehouse claim conn_ids no more; without --conn-id, remove all its tags under the prefix."""
    from redshift_secrets.operations.tag import plan_untag

    conn_ids = named(conn_id)
    change_tags(warehouse, [], lambda settings, found: plan_untag(settings, found, conn_ids), dry_run, form, yes)
