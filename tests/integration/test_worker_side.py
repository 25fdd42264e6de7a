"""Each task asks AWS itself: the worker has the rights, the API server neither rights nor us."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redshift_secrets.local.stand_in import StandIn
from tests.integration.site import MINT, MINT_WITH_IAM, airflow_site, forget, resolves, rights_of, run
from tests.support.airflow_site import AirflowSite, TaskKey, airflow_version


@pytest.fixture(scope="module")
def airflow(stand_in: StandIn) -> Iterator[AirflowSite]:
    ours = resolves(db_user="etl_{dag_id}")
    noting = {**ours, "AIRFLOW__SECRETS__BACKEND": "tests.integration.triggers.NotingBackend"}
    with airflow_site(stand_in) as site:
        site.start("api-server", "dag-processor")
        site.start("scheduler", changes={**ours, **rights_of(stand_in, "worker")})
        site.start("triggerer", changes={**noting, **rights_of(stand_in, "triggerer")})
        site.wait_until_ready()
        yield site


def test_every_way_in_which_tasks_use_a_connection(airflow: AirflowSite, stand_in: StandIn) -> None:
    stand_in.aws.calls.clear()
    run_id, state = run(airflow, "lookups")
    assert state == "success", airflow.last_lines()
    results = airflow.results("lookups", run_id)
    assert results[TaskKey("hook")] == "etl"
    assert results[TaskKey("by_iam")] == "IAMR:worker"
    assert results[TaskKey("template")] == "IAM:etl dwh redshift localhost"
    logs = [airflow.log("lookups", run_id, task.task_id) for task in results]
    assert sum("minted a credential for IAM:etl" in log for log in logs) == 1
    calls = stand_in.aws.calls.by_operation()
    assert (calls[MINT], calls[MINT_WITH_IAM]) == (1, 1)
    assert (calls["redshift:DescribeClusters"], calls["resourcegroupstaggingapi:GetResources"]) == (1, 1)


def test_each_dag_is_a_database_user_of_its_own(airflow: AirflowSite, stand_in: StandIn) -> None:
    stand_in.aws.calls.clear()
    for dag_id in ("sales", "finance"):
        run_id, state = run(airflow, dag_id)
        assert state == "success", airflow.last_lines()
        assert airflow.results(dag_id, run_id) == {TaskKey("log_in"): f"etl_{dag_id}"}
    assert stand_in.aws.calls.by_operation()[MINT] == 2


def test_a_trigger_looks_up_off_the_event_loop_once_and_then_in_it_from_memory(
    airflow: AirflowSite, stand_in: StandIn
) -> None:
    stand_in.aws.calls.clear()
    stand_in.aws.faults.add(MINT_WITH_IAM, "delay", seconds=1)
    run_id, state = run(airflow, "deferrable")
    assert state == "success", airflow.last_lines()
    found = airflow.results("deferrable", run_id)[TaskKey("defers")]
    assert found["logins"] == ["IAMR:triggerer"] * 3
    # Hooks look up asynchronously since Airflow 3.1.
    from_memory = airflow_version() >= (3, 1)
    assert found["in_the_loop"] == [False, from_memory, from_memory]
    assert found["rounds"] > 1  # the loop went on while AWS took its time
    assert stand_in.aws.calls.by_operation()[MINT_WITH_IAM] == 1


@pytest.mark.parametrize("tasks", [12, pytest.param(200, marks=pytest.mark.heavy)])
def test_mapped_tasks_share_one_mint(airflow: AirflowSite, stand_in: StandIn, tasks: int) -> None:
    forget(airflow)
    stand_in.aws.calls.clear()
    run_id = airflow.trigger("mapped", {"tasks": tasks})
    state = airflow.wait_for_run("mapped", run_id, patience_seconds=120 + 15 * tasks)
    assert state == "success", airflow.last_lines()
    logins = [each for task, each in airflow.results("mapped", run_id).items() if task.task_id == "log_in"]
    assert logins == ["etl"] * tasks
    calls = stand_in.aws.calls.by_operation()
    assert calls[MINT] == 1
    # A listing is fresh for five minutes, and the task that renews it for all may end before it has it.
    assert calls["redshift:DescribeClusters"] < tasks / 10
