"""`dwh` is on `prod` and, since restoring a snapshot copies tags, on `prod-dr` in another region: it is never decided on half
of the knowledge which of them has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from redshift_secrets.cache import entry
from redshift_secrets.local.stand_in import StandIn
from tests.e2e.conftest import LIST
from tests.e2e.processes import Process, all_at_once, look_up, with_log
from tests.support.airflow_parts import Refusal

REGION = "us-east-1"
SETTINGS = {"regions": [REGION, "us-west-2"], "managed_conn_ids": "^dwh$"}
TAGS = {"airflow:conn-id": "dwh", "airflow:db-user": "etl"}

WAREHOUSES = {
    "clusters": [
        {"identifier": "prod", "region": REGION, "create_time": "2024-01-01T00:00:00Z", "tags": TAGS},
        {
            "identifier": "prod-dr",
            "region": "us-west-2",
            "create_time": "2025-01-01T00:00:00Z",
            "tags": {**TAGS, "airflow:db-user": "dr"},
        },
    ]
}

on_conflict = pytest.mark.parametrize("on_conflict", ["refuse", "oldest"])


def tasks(**changes: Any) -> Iterator[tuple[Any, list[str]]]:
    """Yield what one new process after another finds, and what it logs."""
    for _ in range(100):
        yield from all_at_once([Process(lambda: with_log(lambda: look_up("dwh", **{**SETTINGS, **changes})))])


def task(**changes: Any) -> tuple[Any, list[str]]:
    return next(tasks(**changes))


def is_right(outcome: Any, on_conflict: str) -> bool:
    """Whether `dwh` was decided as it is with both regions known."""
    if on_conflict == "oldest":
        return isinstance(outcome, tuple) and outcome[0] == "IAM:etl"
    return "it is claimed by cluster prod (" in outcome and "cluster prod-dr (" in outcome


@pytest.fixture(autouse=True)
def no_pause_after_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a test need not wait for the end of it."""
    monkeypatch.setattr(entry, "_FIRST_PAUSE_SECONDS", 0.0)


@on_conflict
def test_where_both_regions_answer_it_is_decided_from_both(stand_in: StandIn, on_conflict: str) -> None:
    assert is_right(task(on_conflict=on_conflict)[0], on_conflict)


@on_conflict
def test_a_slow_region_is_waited_for(stand_in: StandIn, on_conflict: str) -> None:
    stand_in.aws.faults.add(operation=LIST, kind="delay", seconds=1, region=REGION)
    assert is_right(task(on_conflict=on_conflict)[0], on_conflict)


@on_conflict
@pytest.mark.parametrize("kind", ["server_error", "black_hole"])
def test_a_region_that_is_down_and_was_never_seen_makes_it_refused_until_it_is_back(
    stand_in: StandIn, kind: str, on_conflict: str
) -> None:
    changes = {"on_conflict": on_conflict, "aws_timeout_seconds": 2}
    stand_in.aws.faults.add(operation=LIST, kind=kind, region=REGION)
    # On a slow machine the first tasks may not see the other region either.
    for outcome, _ in tasks(**changes):
        assert outcome.startswith(f"{Refusal.__name__}: ")
        assert f"clusters in {REGION}" in outcome
        if "cluster prod-dr (account 123456789012, us-west-2) claims it" in outcome:
            assert "whether another warehouse does is not known" in outcome
            break
    else:
        pytest.fail("no task has seen the other region")
    stand_in.aws.faults.clear()
    assert any(is_right(outcome, on_conflict) for outcome, _ in tasks(**changes))
    assert is_right(task(**changes)[0], on_conflict)


@on_conflict
def test_where_a_region_is_denied_the_other_one_is_served_with_a_warning(stand_in: StandIn, on_conflict: str) -> None:
    stand_in.aws.faults.add(operation=LIST, kind="access_denied", region=REGION)
    outcome, messages = task(on_conflict=on_conflict)
    assert outcome[0] == "IAM:dr"
    (warning,) = [message for message in messages if message.startswith("connection 'dwh': ")]
    assert "whether another warehouse than cluster prod-dr" in warning
    assert f"clusters in {REGION}" in warning
    stand_in.aws.faults.clear()
    assert is_right(task(on_conflict=on_conflict)[0], on_conflict)
