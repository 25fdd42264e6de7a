"""A listing that takes longer than the tasks which need it: each one begins where the last one was cut."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redshift_secrets.aws import discovery
from redshift_secrets.local.stand_in import StandIn
from redshift_secrets.lookup import wiring
from tests.e2e.conftest import LIST
from tests.e2e.processes import BOUND, Process, all_at_once, fleet, host, look_up
from tests.support.airflow_parts import Refusal

TASK_SECONDS = 4
PAGE_SIZE, PAGES = 20, 9
WORKGROUPS = 16
LIST_TAGS = "redshift-serverless:ListTagsForResource"

WAREHOUSES = {
    "clusters": [
        {"identifier": f"c{number}", "tags": {"airflow:conn-id": f"cluster-{number}", "airflow:db-user": "etl"}}
        for number in range(PAGE_SIZE * PAGES)
    ],
    "workgroups": [
        {"name": f"wg-{number}", "tags": {"airflow:conn-id": f"workgroup-{number}"}} for number in range(WORKGROUPS)
    ],
}

CASES = [
    # Which warehouse is looked up, the operation that is slow, how slow it is, and how many calls the listing takes.
    pytest.param("cluster-5", LIST, 1.0, PAGES, id="many pages"),
    pytest.param("workgroup-5", LIST_TAGS, 0.6, WORKGROUPS, id="the tags of one workgroup after another"),
]


@pytest.fixture(autouse=True)
def slow(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_PAGE_SIZE", PAGE_SIZE)
    stand_in.aws.faults.add(operation="resourcegroupstaggingapi:GetResources", kind="access_denied")
    for case in CASES:
        _, operation, seconds, _ = case.values
        stand_in.aws.faults.add(operation=operation, kind="delay", seconds=seconds)


def task(conn_id: str, cache: dict[str, Any]) -> Callable[[], Any]:
    return lambda: look_up(
        conn_id,
        regions=["eu-west-1"],
        aws_timeout_seconds=TASK_SECONDS,
        warehouses=f"{conn_id.partition('-')[0]}s",
        managed_conn_ids="^(cluster|workgroup)-",
        cache=cache,
    )


def one_after_another(stand_in: StandIn, operation: str, tasks: Callable[[int], Process]) -> tuple[Any, int]:
    """Run tasks until one is served. Return its outcome, and how many before it made calls of the slow operation."""
    cut = 0
    for number in range(int(BOUND)):
        before = stand_in.aws.calls.by_operation().get(operation, 0)
        (outcome,) = all_at_once([tasks(number)])
        if isinstance(outcome, tuple):
            return outcome, cut
        assert outcome.startswith(f"{Refusal.__name__}: ")
        # The last of those that are cut has listed everything, and no time left for a mint.
        assert "no warehouse could be listed" in outcome or "waiting for the credential" in outcome
        cut += stand_in.aws.calls.by_operation().get(operation, 0) > before
    raise AssertionError("no task was ever served")


@pytest.mark.parametrize(("conn_id", "operation", "_seconds", "calls"), CASES)
def test_after_a_few_short_tasks_the_catalog_is_whole_and_no_answer_was_asked_for_twice(
    stand_in: StandIn, conn_id: str, operation: str, _seconds: float, calls: int
) -> None:
    outcome, cut = one_after_another(stand_in, operation, lambda _number: Process(task(conn_id, {})))
    assert outcome[0].startswith("IAM:")
    assert cut > 1
    # A task may end in the middle of a call, and before it has saved the answer before: on a busy machine saving takes long, and
    # answers are saved the less often. Nothing else is lost with it.
    assert calls <= stand_in.aws.calls.by_operation()[operation] <= calls + 2 * cut


def test_the_tasks_may_run_on_different_hosts(
    stand_in: StandIn, tmp_path: Path, redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A task that was cut leaves its lease in Redis.
    create_tiers = functools.partial(wiring.create_tiers, redis_lease_seconds=1)
    monkeypatch.setattr(wiring, "create_tiers", create_tiers)
    conn_id, operation, _, calls = CASES[1].values
    cache = fleet(redis)
    outcome, cut = one_after_another(
        stand_in, operation, lambda number: Process(task(conn_id, cache), host(tmp_path, f"host{number}"))
    )
    assert outcome[0].startswith("IAM:")
    assert cut > 1
    assert calls <= stand_in.aws.calls.by_operation()[operation] <= calls + 2 * cut
