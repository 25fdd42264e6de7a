"""Workers without AWS rights: tasks get their connections from the API server, triggers from the triggerer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redshift_secrets.local.stand_in import StandIn
from tests.integration.site import (
    MINT_WITH_IAM,
    WORKERS_ASK_THE_SERVER,
    airflow_site,
    aws_rights,
    check_every_kind_of_lookup,
    from_airflow_3,
    run,
)
from tests.support.airflow_parts import backend_environment
from tests.support.airflow_runs import TaskKey
from tests.support.airflow_site import AirflowSite

pytestmark = [pytest.mark.airflow, from_airflow_3]


@pytest.fixture(scope="module")
def airflow(stand_in: StandIn) -> Iterator[AirflowSite]:
    # One configuration for all processes, as in docs/deploy.md.
    settings = backend_environment(connections_lookup_pattern="^((data/)?analytics|by-iam)$", catalog_ttl_seconds=3600)
    shared = {**settings, **WORKERS_ASK_THE_SERVER}
    with airflow_site(stand_in, **shared) as site:
        site.start("scheduler", "dag-processor")
        site.start("api-server", changes=aws_rights(stand_in, "server"))
        site.start("triggerer", changes=aws_rights(stand_in, "triggerer"))
        site.wait_until_ready()
        yield site


def test_every_kind_of_lookup(airflow: AirflowSite, stand_in: StandIn) -> None:
    check_every_kind_of_lookup(airflow, stand_in, role="server")


def test_a_trigger_gets_its_connection_from_the_triggerer(airflow: AirflowSite, stand_in: StandIn) -> None:
    stand_in.aws.calls.clear()
    run_id, state = run(airflow, "deferrable")
    assert state == "success", airflow.last_lines()
    found = airflow.results("deferrable", run_id)[TaskKey("defers")]
    assert found["logins"] == ["IAMR:triggerer"] * 3
    assert found["in_the_loop"] == []  # not in the process of the triggers, which has no AWS rights
    assert stand_in.aws.calls.by_operation()[MINT_WITH_IAM] == 1
