"""Each task asks AWS itself: the worker has the rights, the API server neither rights nor us."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from examples.airflow_site import AirflowSite, TaskKey
from redshift_secrets.local.stand_in import StandIn
from tests.integration.site import MINT, MINT_WITH_IAM, RESOLVES, airflow_site, rights_of, run


@pytest.fixture(scope="module")
def airflow(stand_in: StandIn) -> Iterator[AirflowSite]:
    with airflow_site(stand_in) as site:
        site.start("api-server", "dag-processor")
        site.start("scheduler", changes={**RESOLVES, **rights_of(stand_in, "worker")})
        site.wait_until_ready()
        yield site


def test_every_way_to_use_a_connection(airflow: AirflowSite, stand_in: StandIn) -> None:
    run_id, state = run(airflow, "lookups")
    assert state == "success", airflow.last_lines()
    results = airflow.results("lookups", run_id)
    assert results[TaskKey("hook")] == "etl"
    assert results[TaskKey("by_iam")] == "IAMR:worker"
    assert results[TaskKey("template")] == "IAM:etl dwh redshift"
    logs = [airflow.log("lookups", run_id, task.task_id) for task in results]
    assert sum("minted a credential for IAM:etl" in log for log in logs) == 1
    calls = stand_in.aws.calls.by_operation()
    assert (calls[MINT], calls[MINT_WITH_IAM]) == (1, 1)
