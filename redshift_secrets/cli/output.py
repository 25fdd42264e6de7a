"""Rows as a table, JSON, YAML or plain text, like Airflow's own commands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import yaml
from rich.console import Console
from rich.table import Table


def print_rows(rows: Sequence[Mapping[str, str]], columns: Sequence[str], output: str) -> None:
    """Print `rows` to standard output; `output` is table, json, yaml or plain."""
    if output == "json":
        print(json.dumps([dict(row) for row in rows]))
    elif output == "yaml":
        print(yaml.safe_dump([dict(row) for row in rows], sort_keys=False), end="")
    elif output == "plain":
        _plain(rows, columns)
    else:
        _table(rows, columns)


def _plain(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    lines = [list(columns), *([row[column] for column in columns] for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _table(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    console = Console()
    # Into a pipe or a file a table is as wide as it needs to be: nothing may be cut off there.
    if not console.is_terminal:
        console = Console(width=10_000)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # Not markup: a tag may contain square brackets' look-alikes, and colours must come from us alone.
        table.add_row(*(_text(row[column]) for column in columns))
    console.print(table)


def _text(cell: str) -> str:
    from rich.markup import escape

    return escape(cell)
