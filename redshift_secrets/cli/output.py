"""Rows as a table, JSON, YAML or plain text, like Airflow's own commands."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from redshift_secrets.errors import one_line


class Output(str, enum.Enum):  # StrEnum is 3.11
    """The formats of Airflow's own commands."""

    table = "table"
    json = "json"
    yaml = "yaml"
    plain = "plain"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]


def print_rows(rows: Sequence[Mapping[str, str]], columns: Sequence[str], output: Output) -> None:
    """Print `rows` to standard output."""
    if output is Output.json:
        print(json.dumps([dict(row) for row in rows]))
    elif output is Output.yaml:
        import yaml

        print(yaml.safe_dump([dict(row) for row in rows], sort_keys=False), end="")
    elif output is Output.plain:
        _print_plain(rows, columns)
    else:
        _print_table(rows, columns)


def _print_plain(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    lines = [list(columns), *([one_line(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _print_table(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    # In a pipe or a file a table is as wide as it needs to be: nothing may be truncated there.
    if not console.is_terminal:
        console = Console(width=10_000)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # Not markup: a tag may contain characters that look like it.
        table.add_row(*(escape(one_line(row[column])) for column in columns))
    console.print(table)
