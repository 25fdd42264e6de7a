"""`redshift-secrets show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from redshift_secrets.cli.conn_ids import COMPLETED
from redshift_secrets.cli.errors import FAILED, run, unknown_conn_id
from redshift_secrets.cli.list import NoCacheOption, answered
from redshift_secrets.cli.output import Output, OutputOption, note, print_document, print_rows

if TYPE_CHECKING:
    from redshift_secrets.operations.inspect import ConnectionView

COLUMNS = ("field", "value", "source")


def show(
    conn_id: Annotated[str, typer.Argument(help="The conn_id that DAGs use.", **COMPLETED)],
    no_cache: NoCacheOption = False,
    output: OutputOption = Output.table,
) -> None:
    """Show where each field of a connection comes from: which tag, which setting, which default."""
    from redshift_secrets.cli.site import site_settings
    from redshift_secrets.operations.inspect import view_site
    from redshift_secrets.operations.site import site_broker, site_tiers

    settings = run(site_settings)
    broker = run(lambda: site_broker(settings, () if no_cache else site_tiers(settings)))
    found = run(lambda: view_site(broker, conn_id))
    if not found.rows:
        unknown_conn_id(broker, conn_id)
    if output in (Output.json, Output.yaml):
        print_document([_document(row) for row in found.rows], output)
    for row in found.rows:
        if output not in (Output.json, Output.yaml):
            # Two fields are never the same, and one line of each is what the command is for.
            print_rows([_line(each) for each in row.fields], COLUMNS, Output.wide if output is Output.table else output)
        for problem in row.problems:
            note(problem, "yellow")
    note(answered(found.tier, found.age), "dim")
    if len(found.rows) > 1:
        note(f"{conn_id!r} is claimed by {len(found.rows)} warehouses", "yellow")
    raise typer.Exit(FAILED if any(row.fails for row in found.rows) else 0)


def _line(field: Any) -> dict[str, object]:
    return {"field": field.name, "value": field.value, "source": field.source}


def _document(row: ConnectionView) -> dict[str, object]:
    return {
        "conn_id": row.conn_id,
        "arn": row.arn,
        "fails": row.fails,
        "problems": list(row.problems),
        "fields": {each.name: {"value": each.value, "source": each.source} for each in row.fields},
    }
