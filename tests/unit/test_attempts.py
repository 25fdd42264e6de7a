"""The table of `make security`, and what docs/security.md says of it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.attempts import outcomes

ROOT = Path(__file__).parents[2]


def test_an_attempt_is_stopped_if_every_test_of_it_passes():
    assert outcomes(
        [
            ("passed", [("attempt", "b"), ("attempt", "a")]),
            ("skipped", [("attempt", "a")]),
            ("passed", [("attempt", "c"), ("other", "d")]),
        ]
    ) == [("a", "stopped"), ("b", "stopped"), ("c", "stopped")]


@pytest.mark.parametrize("outcome", ["failed", "error"])
def test_one_failure_shows_that_it_succeeds(outcome):
    reports = [("passed", [("attempt", "a")]), (outcome, [("attempt", "a")]), ("passed", [("attempt", "a")])]
    assert outcomes(reports) == [("a", "SUCCEEDED")]


def test_one_that_was_skipped_everywhere_was_not_tried():
    assert outcomes([("skipped", [("attempt", "a")])]) == [("a", "not tried")]


def attempts_of_the_page() -> list[str]:
    """The first cells of the tables of the threat model."""
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    threats = page.split("\n## Threat model\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \|", threats, re.MULTILINE)
    return [row for row in rows if row not in ("attempt", "---")]


def attempts_of_the_tests() -> set[str]:
    """The words of all markers."""
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.attempt":
                found.add(ast.literal_eval(node.args[0]))
    return found


def test_the_threat_model_names_the_attempts_that_tests_make_and_no_other() -> None:
    named = attempts_of_the_page()
    assert len(named) > 20
    assert len(named) == len(set(named))
    assert set(named) == attempts_of_the_tests()
