"""Workers have no AWS rights: they get their connections from the API server, triggers and DAGs from their own process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redshift_secrets.local.stand_in import StandIn
from tests.integration.site import (
    MINT,
    MINT_WITH_IAM,
    WORKERS_ASK_THE_SERVER,
    airflow_site,
    from_airflow_3,
    resolves,
    rights_of,
    run,
)
from tests.support.airflow_site import AirflowSite, TaskKey

pytestmark = from_airflow_3


@pytest.fixture(scope="module")
def airflow(stand_in: StandIn) -> Iterator[AirflowSite]:
    # One configuration for all processes, as in docs/deploy.md.
    shared = {**resolves(connections_lookup_pattern="^(analytics|by-iam)$"), **WORKERS_ASK_THE_SERVER}
    with airflow_site(stand_in, **shared) as site:
        site.start("scheduler", "dag-processor")
        site.start("api-server", changes=rights_of(stand_in, "server"))
        site.start("triggerer", changes=rights_of(stand_in, "triggerer"))
        site.wait_until_ready()
        yield site


def test_every_way_in_which_tasks_use_a_connection(airflow: AirflowSite, stand_in: StandIn) -> None:
    stand_in.aws.calls.clear()
    run_id, state = run(airflow, "lookups")
    assert state == "success", airflow.last_lines()
    results = airflow.results("lookups", run_id)
    assert results[TaskKey("hook")] == "etl"
    assert results[TaskKey("by_iam")] == "IAMR:server"
    assert results[TaskKey("template")] == "IAM:etl dwh redshift localhost"
    calls = stand_in.aws.calls.by_operation()
    assert (calls[MINT], calls[MINT_WITH_IAM]) == (1, 1)
    assert (calls["redshift:DescribeClusters"], calls["resourcegroupstaggingapi:GetResources"]) == (1, 1)


def test_a_trigger_gets_its_connection_from_the_triggerer(airflow: AirflowSite, stand_in: StandIn) -> None:
    stand_in.aws.calls.clear()
    run_id, state = run(airflow, "deferrable")
    assert state == "success", airflow.last_lines()
    found = airflow.results("deferrable", run_id)[TaskKey("defers")]
    assert found["logins"] == ["IAMR:triggerer"] * 3
    assert found["in_the_loop"] == []  # not in the process of the triggers, which have no rights
    assert stand_in.aws.calls.by_operation()[MINT_WITH_IAM] == 1
