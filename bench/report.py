"""The result of a run: the table, the machine, and for each row how its figure is made."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

from bench.figures import Line, Row

_HEAD = ("work", "this backend", "peer", "ratio", "must be at most", "met")


@dataclass(frozen=True)
class Measured:
    """The lines of one row, or the reason why it was not measured."""

    row: Row
    lines: Sequence[Line] = ()
    reason: str = ""

    @property
    def table(self) -> Sequence[Line]:
        """The lines to print."""
        return self.lines or (Line(self.row.work, f"not measured: {self.reason}"),)


def table(measured: Sequence[Measured]) -> str:
    """Format the table in Markdown, with aligned columns so that it is readable as plain text."""
    body = [_cells(line) for each in measured for line in each.table]
    widths = [max(len(row[column]) for row in (_HEAD, *body)) for column in range(len(_HEAD))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(_row(cells, widths) for cells in (_HEAD, rule, *body))


def document(measured: Sequence[Measured], machine: Sequence[tuple[str, str]], date: str) -> str:
    """Return the text of `docs/performance.md`."""
    parts = [
        "# Performance",
        "Written by `python -m bench --write docs/performance.md`; do not edit. `make bench` prints the same table for the"
        " machine it runs on.",
        f"Measured on {date}, in one run on one machine, against a simulated AWS on loopback. Figures are medians"
        " over several rounds, with the lowest and the highest round in brackets. Lines that begin with a dash belong to"
        " the line above them.",
        table(measured),
        "\n".join(f"- {name}: {value}" for name, value in machine),
        "## How each figure is made",
        *(f"**{each.row.work}** (`--rows {each.row.name}`). {how(each.row)}" for each in measured),
    ]
    return "\n\n".join(parts) + "\n"


def how(row: Row) -> str:
    """Return how the figure of a row is made: the docstring of what measures it, as one paragraph."""
    return " ".join((inspect.getdoc(row.measure) or "").split())


def _cells(line: Line) -> tuple[str, ...]:
    met = {True: "yes", False: "**no**", None: "-"}[line.met]
    return tuple(cell.replace("|", "\\|") for cell in (line.work, line.own, line.peer, line.ratio, line.limit, met))


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
