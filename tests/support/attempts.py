"""`make security`: what somebody may attempt in order to get at a password, and what became of each attempt, as one table.

A test that makes an attempt says so with `@pytest.mark.attempt("...")`, in the words of docs/security.md. With `--attempts`,
pytest runs those tests alone and prints the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

_KEY = "attempt"


def add_option(parser: pytest.Parser) -> None:
    """Add `--attempts`."""
    parser.addoption(
        "--attempts", action="store_true", help="run the tests that make an attempt, and print a table of them"
    )


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have each test that makes an attempt report it, and with `--attempts` leave out all others."""
    for item in items:
        item.user_properties += [(_KEY, mark.args[0]) for mark in item.iter_markers(_KEY)]
    if config.getoption("--attempts"):
        others = [item for item in items if item.get_closest_marker(_KEY) is None]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def write_table(reporter: Any) -> None:
    """Print each attempt with its result, in the order of their words."""
    results = outcomes(
        (outcome, report.user_properties)
        for outcome in ("passed", "failed", "error", "skipped")
        for report in reporter.stats.get(outcome, [])
    )
    width = max((len(attempt) for attempt, _ in results), default=0)
    reporter.write_sep("=", "attempts")
    for attempt, result in [("attempt", "result"), *results]:
        reporter.write_line(f"{attempt.ljust(width)}  {result}")


def outcomes(reports: Iterable[tuple[str, Sequence[tuple[str, object]]]]) -> list[tuple[str, str]]:
    """Return each attempt with `stopped`, `SUCCEEDED` if any of its tests failed, or `not tried` if all were skipped."""
    found: dict[str, set[str]] = {}
    for outcome, properties in reports:
        for attempt in [str(value) for key, value in properties if key == _KEY]:
            found.setdefault(attempt, set()).add(outcome)
    return sorted((attempt, _result(each)) for attempt, each in found.items())


def _result(outcomes: set[str]) -> str:
    if outcomes & {"failed", "error"}:
        return "SUCCEEDED"
    return "stopped" if "passed" in outcomes else "not tried"
