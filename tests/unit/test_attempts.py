"""The table of `make security`, and what docs/security.md says of it."""

from __future__ import annotations

import pytest

from tests.support.attempts import outcomes


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
