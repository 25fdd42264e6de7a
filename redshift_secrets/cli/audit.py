"""`redshift-secrets audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redshift_secrets.cli.conn_ids import COMPLETED
from redshift_secrets.cli.errors import PARTIAL, USAGE, fail
from redshift_secrets.cli.output import Output, OutputOption, note, print_rows


def audit(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE", help="Files of the audit, also rotated and compressed ones; - is standard input."
        ),
    ],
    conn_id: Annotated[str | None, typer.Option(help="Only what concerns this conn_id.", **COMPLETED)] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only from this moment on, in ISO 8601; UTC without a zone.")
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Show which task used which warehouse as whom and since when, and which claims changed; needs nothing but the files."""
    from redshift_secrets.operations.audit import COLUMNS, read_audit, read_time

    try:
        moment = None if since is None else read_time(since)
    except ValueError:
        fail(
            f"--since must be a date or a time in ISO 8601, such as 2026-11-25 or 2026-11-25T21:00:00Z, not {since!r}",
            USAGE,
        )
    report = read_audit([Path("/dev/stdin") if str(each) == "-" else each for each in files], conn_id, moment)
    if len(report.unreadable) < len(files):
        print_rows(report.rows, COLUMNS, output)
    for remark in (*report.notes, *report.unreadable):
        note(remark)
    if report.unreadable:
        raise typer.Exit(PARTIAL if len(report.unreadable) < len(files) else USAGE)
