"""Each task calls AWS itself: the worker has the AWS rights, the API server has neither rights nor this backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redshift_secrets.local.stand_in import StandIn
from tests.integration.site import (
    LIST,
    MINT,
    MINT_WITH_IAM,
    PATIENCE_SECONDS,
    airflow_site,
    aws_rights,
    check_every_kind_of_lookup,
    check_lines_of_served_connections,
    forget,
    run,
)
from tests.support.airflow_parts import backend_environment
from tests.support.airflow_runs import TaskKey
from tests.support.airflow_site import AirflowSite, airflow_version

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def airflow(stand_in: StandIn) -> Iterator[AirflowSite]:
    backend = backend_environment(db_user="etl_{dag_id}", catalog_ttl_seconds=3600)
    recording = {**backend, "AIRFLOW__SECRETS__BACKEND": "tests.integration.triggers.RecordingBackend"}
    with airflow_site(stand_in) as site:
        site.start("api-server", "dag-processor")
        site.start("scheduler", changes={**backend, **aws_rights(stand_in, "worker")})
        site.start("triggerer", changes={**recording, **aws_rights(stand_in, "triggerer")})
        site.wait_until_ready()
        yield site


def test_every_kind_of_lookup(airflow: AirflowSite, stand_in: StandIn) -> None:
    logs = check_every_kind_of_lookup(airflow, stand_in, role="worker")
    check_lines_of_served_connections(logs)
    assert sum("minted a credential for IAM:etl" in log for log in logs) == 1


def test_each_dag_logs_in_as_its_own_database_user(airflow: AirflowSite, stand_in: StandIn) -> None:
    stand_in.aws.calls.clear()
    for dag_id in ("sales", "finance"):
        run_id, state = run(airflow, dag_id)
        assert state == "success", airflow.last_lines()
        assert airflow.results(dag_id, run_id) == {TaskKey("log_in"): f"etl_{dag_id}"}
    assert stand_in.aws.calls.by_operation()[MINT] == 2


def test_a_trigger_looks_up_off_the_event_loop_once_and_then_from_memory(
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
    *first, second, third = found["in_the_loop"]
    assert set(first) == {False}
    assert [second, third] == [from_memory, from_memory]
    assert found["rounds"] > 1  # the loop went on while AWS delayed its answer
    assert stand_in.aws.calls.by_operation()[MINT_WITH_IAM] == 1


@pytest.mark.parametrize("tasks", [12, pytest.param(200, marks=pytest.mark.heavy)])
def test_mapped_tasks_share_one_mint(airflow: AirflowSite, stand_in: StandIn, tasks: int) -> None:
    forget(airflow)
    stand_in.aws.calls.clear()
    run_id = airflow.trigger("mapped", {"tasks": tasks})
    state = airflow.wait_for_run("mapped", run_id, patience_seconds=PATIENCE_SECONDS + 15 * tasks)
    assert state == "success", airflow.last_lines()
    logins = [each for task, each in airflow.results("mapped", run_id).items() if task.task_id == "log_in"]
    assert logins == ["etl"] * tasks
    calls = stand_in.aws.calls.by_operation()
    assert (calls[MINT], calls[LIST]) == (1, 1)
