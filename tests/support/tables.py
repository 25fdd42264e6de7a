"""Tables in the documentation that tests generate: the result of a test is compared with the page, or written into it.

A table is in its page between two comments. `make docs` (pytest with `--write-tables`) runs the tests that generate tables
and writes their results; every other run of them fails where a page differs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"

_tables: list[Table] = []


class Table:
    """The table `name` of the page `page`; the first cell of a row identifies it."""

    def __init__(self, page: str, name: str, head: Sequence[str]) -> None:
        self._page = DOCS / page
        self._marks = (f"<!-- table {name}: made by tests, `make docs` writes it -->\n", "<!-- end of table -->\n")
        self._head = tuple(head)
        self._found: dict[str, tuple[str, ...]] = {}
        _tables.append(self)

    def found(self, cells: Sequence[str]) -> None:
        """Record a row that a test found."""
        assert len(cells) == len(self._head)
        self._found[cells[0]] = tuple(cells)

    def shown(self) -> dict[str, tuple[str, ...]]:
        """Return the rows in the page, by their first cell."""
        _, rows, _ = self._parts()
        cells = [tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]) for row in rows.splitlines()[2:]]
        return {row[0].replace("\\|", "|"): tuple(cell.replace("\\|", "|") for cell in row) for row in cells}

    def write(self) -> None:
        """Write the recorded rows into the page. Rows keep their order there; new ones come last."""
        if self._found:
            before, _, after = self._parts()
            rows = [self._head, ("---",) * len(self._head), *{**self.shown(), **self._found}.values()]
            text = "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)
            self._page.write_text(before + text + after, encoding="utf-8")

    def _parts(self) -> tuple[str, str, str]:
        text = self._page.read_text(encoding="utf-8")
        start, end = self._marks
        before, rest = text.split(start)
        rows, after = rest.split(end, 1)
        return before + start, rows, end + after


def write_all() -> None:
    """Write every table that has recorded rows."""
    for table in _tables:
        table.write()
