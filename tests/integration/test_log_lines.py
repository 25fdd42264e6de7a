"""What the log of a task says of a connection that is served, and of an AWS that does not answer."""

from __future__ import annotations

import re

import pytest

from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from tests.integration.site import airflow_site, aws_rights, run
from tests.integration.ways_to_fail import WAREHOUSES
from tests.support.airflow_parts import backend_environment
from tests.support.airflow_site import airflow_version

pytestmark = pytest.mark.airflow

README = {"regions": ["eu-west-1"], "db_user": "airflow_etl", "aws_timeout_seconds": 10}
"""Its own configuration without `managed_conn_ids`, with the default for the time that other tests have more of."""


@pytest.mark.parametrize("managed", [None, "^dw-"], ids=["without managed_conn_ids", "with managed_conn_ids"])
def test_without_a_network_a_task_says_once_who_does_not_answer(managed: str | None) -> None:
    settings = README if managed is None else {**README, "managed_conn_ids": managed}
    with StandIn(config.parse(WAREHOUSES)) as stand_in, airflow_site(stand_in) as airflow:
        rights = aws_rights(stand_in, "airflow")
        stand_in.aws.faults.add("*", "black_hole")
        airflow.start("api-server", "dag-processor")
        airflow.start("scheduler", changes={**backend_environment(**settings), **rights})
        airflow.wait_until_ready()
        run_id, state = run(airflow, "one")
        assert state == "failed"
        ((task_id, _), *_) = airflow.states("one", run_id)
        log, url = airflow.log("one", run_id, task_id), stand_in.aws.url
    told = [line for line in log.splitlines() if url in line]
    assert told, log
    said = next(line for line in told if "no warehouse could be listed" in line or "what cannot be listed" in line)
    for part in (url, "eu-west-1", "the default AWS identity of this process", "Check the route to it"):
        assert part in said
    assert ("isn't defined" in log) == (managed is None)
    # As a line, and as an exception, which Airflow 2 prints once more.
    most = 3 if airflow_version() >= (3, 0) else 4
    assert len(re.findall("cannot be listed|no warehouse could be listed", log)) <= most
