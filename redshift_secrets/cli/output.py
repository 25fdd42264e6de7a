"""Rows as a table, JSON, YAML or plain text, like Airflow's own commands; and what is beside them, on standard error.

At a terminal nothing is broken inside a word: a column for which there is no room is left out, or follows its row. Elsewhere nothing
is broken or left out.
Colours are for terminals alone, and for none where NO_COLOR is set (https://no-color.org).
"""

from __future__ import annotations

import enum
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TextIO

import typer

from redshift_secrets.errors import one_line

_GAP = "  "
_UNBROKEN = 10_000
_COLOURS = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33}

Row = Mapping[str, Any]


class Output(str, enum.Enum):  # StrEnum is 3.11
    """The formats of Airflow's own commands, and a table with every column."""

    table = "table"
    wide = "wide"
    json = "json"
    yaml = "yaml"
    plain = "plain"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]


def print_document(document: Any, output: Output) -> None:
    """Print plain data to standard output as one document, as JSON or YAML."""
    if output is Output.json:
        print(json.dumps(document))
        return
    import yaml

    # Through JSON, since tuples are no sequences to YAML.
    print(yaml.safe_dump(json.loads(json.dumps(document)), sort_keys=False), end="")


def print_rows(
    rows: Sequence[Row], columns: Sequence[str], output: Output, *, first: Sequence[str] = (), key: int = 1
) -> None:
    """Print `rows` to standard output.

    In a table that does not fit the terminal, columns in which all rows are the same become one line at the end. Where the others do
    not fit either, those that come first in `first` (`columns`) do; the rest is only named. A column that is empty is left out. With `wide` nothing is left out: the rest follows each row. The
    first `key` columns always stay; where the last of these would cost others their place, its longest cells stand on lines of their own.
    """
    if output in (Output.json, Output.yaml):
        print_document([dict(row) for row in rows], output)
    elif output is Output.plain:
        _print_lines(_padded([list(columns), *([text(row[name]) for name in columns] for row in rows)]))
    elif rows:
        _print_table(rows, columns, first or columns, key, wide=output is Output.wide)


def text(value: Any) -> str:
    """Return a value as a table has it, on one line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return one_line("; ".join(map(str, value)))
    return one_line(str(value))


def note(message: str, colour: str = "", stream: TextIO | None = None) -> None:
    """Print a sentence to a stream (standard error), at a terminal in lines that fit it."""
    stream = stream or sys.stderr
    for number, line in enumerate(_wrapped(one_line(message), _width(stream) - 2)):
        print(paint(f"{'  ' if number else ''}{line}", colour, stream), file=stream)


def paint(line: str, colour: str, stream: TextIO | None = None) -> str:
    """Return a text in a colour, where the stream (standard output) shows colours."""
    stream = stream or sys.stdout
    if not colour or not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return line
    return f"\x1b[{_COLOURS[colour]}m{line}\x1b[0m"


def _width(stream: TextIO) -> int:
    return shutil.get_terminal_size().columns if stream.isatty() else _UNBROKEN


def _print_table(rows: Sequence[Row], columns: Sequence[str], first: Sequence[str], key: int, wide: bool) -> None:
    width = _width(sys.stdout)
    same = {} if wide or len(rows) < 2 else _constant(rows, columns[key:])
    if _fits_unbroken([columns, *([text(row[name]) for name in columns] for row in rows)], width):
        same = {name: value for name, value in same.items() if not value}
    columns = [name for name in columns if name not in same]
    order = [name for name in first if name in columns]
    table = _laid_out(rows, columns, order, key, width)
    if table.left_out:  # for a name that is too long a column is a high price
        other = _laid_out(rows, columns, order, key, width, longest=width // 3)
        table = other if len(other.left_out) < len(table.left_out) else table
    left_out = table.left_out
    _print_lines(_padded([[name for name in columns if name not in left_out]], table.widths), "bold")
    for row, name, line in zip(rows, table.names, table.cells, strict=True):
        if name:
            _print_lines([name])
        _print_lines(_padded([line], table.widths))
        details = [(name, text(row[name])) for name in columns if wide and name in left_out]
        detail = ", ".join(f"{name} {value}" if len(details) > 1 else value for name, value in details if value)
        if detail:
            _print_lines([f"    {part}" for part in _wrapped(detail, width - 4)], "dim")
    remarks = []
    if any(same.values()):
        remarks.append(f"the same for all: {', '.join(f'{name} {value}' for name, value in same.items() if value)}")
    if left_out and not wide:
        remarks.append(f"with -o wide also: {', '.join(name for name in columns if name in left_out)}")
    for remark in remarks:
        _print_lines(_wrapped(remark, width), "dim")


class _Table(NamedTuple):
    """Cells of the columns that fit, how wide these are, and by row the name that stands on a line of its own, if any."""

    cells: list[list[str]]
    widths: list[int] | None
    left_out: list[str]
    names: list[str]


def _laid_out(
    rows: Sequence[Row], columns: Sequence[str], order: Sequence[str], key: int, width: int, longest: int | None = None
) -> _Table:
    """Leave columns out, the last ones of `order` first, until all fit. What is in the last key column and is longer than `longest`
    does not count, and stands before its row."""
    left_out, left = list[str](), list(order)
    while True:
        shown = [name for name in columns if name not in left_out]
        cells = [[text(row[name]) for name in shown] for row in rows]
        names = [line[key - 1] if longest is not None and _cells(line[key - 1]) > longest else "" for line in cells]
        for line, name in zip(cells, names, strict=True):
            line[key - 1] = "" if name else line[key - 1]
        widths = _fitting([shown, *cells], width)
        if widths is not None or len(shown) <= key:
            return _Table(cells, widths, left_out, names)
        left_out.append(left.pop())


def _constant(rows: Sequence[Row], columns: Sequence[str]) -> dict[str, str]:
    values = {name: {text(row[name]) for row in rows} for name in columns}
    return {name: found.pop() for name, found in values.items() if len(found) == 1}


def _fits_unbroken(lines: Sequence[Sequence[str]], width: int) -> bool:
    widths = [max(map(_cells, column)) for column in zip(*lines, strict=True)]
    return sum(widths) + len(_GAP) * (len(widths) - 1) <= width


def _fitting(lines: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """Return how wide each column is so that all fit without a broken word, `None` where they cannot."""
    columns = list(zip(*lines, strict=True))
    widths = [max(map(_cells, column)) for column in columns]
    least = [max(_cells(word) for cell in column for word in cell.split() or [""]) for column in columns]
    room = width - len(_GAP) * (len(columns) - 1)
    if sum(least) > room:
        return None
    while sum(widths) > room:
        most = max(range(len(widths)), key=lambda number: widths[number] - least[number])
        widths[most] -= 1
    return widths


def _padded(lines: Sequence[Sequence[str]], widths: Sequence[int] | None = None) -> list[str]:
    widths = widths or [max(map(_cells, column)) for column in zip(*lines, strict=True)]
    padded = []
    for line in lines:
        cells = [_wrapped(cell, width) for cell, width in zip(line, widths, strict=True)]
        for number in range(max(map(len, cells))):
            parts = [cell[number] if number < len(cell) else "" for cell in cells]
            filled = [part + " " * (width - _cells(part)) for part, width in zip(parts, widths, strict=True)]
            padded.append(_GAP.join(filled).rstrip())
    return padded


def _wrapped(line: str, width: int) -> list[str]:
    """Return a text in lines of at most so many columns, but for longer words."""
    lines = [""]
    for word in line.split():
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and _cells(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _cells(shown: str) -> int:
    """Return how many columns of a terminal a text takes: https://www.unicode.org/reports/tr11/"""
    if shown.isascii():
        return len(shown)
    import unicodedata  # only names in other scripts need it

    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in shown)
    return len(shown) + wide - sum(unicodedata.category(letter) in ("Mn", "Me", "Cf") for letter in shown)


def _print_lines(lines: Sequence[str], colour: str = "") -> None:
    for line in lines:
        print(paint(line, colour))
