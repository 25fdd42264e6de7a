"""A DAG file that looks up a connection while it is parsed, with `[secrets] use_cache` on: Airflow caches the answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from redshift_secrets.local.stand_in import StandIn
from tests.integration.site import (
    MINT,
    WORKERS_ASK_THE_SERVER,
    airflow_site,
    aws_rights,
    forget,
    from_airflow_3,
)
from tests.support.airflow_parts import backend_environment
from tests.support.airflow_site import AirflowSite, airflow_version

pytestmark = pytest.mark.airflow

DAGS = Path(__file__).parent / "dags_that_look_up_at_parse_time"
READS_DAGS = "dag-processor" if airflow_version() >= (3, 0) else "scheduler"
CACHED_SECONDS = 3595
"""For so long Airflow caches an answer here that no credential older than five seconds may be returned."""

airflow_caches_what_files_look_up = pytest.mark.skipif(
    (3, 0) <= airflow_version() < (3, 1), reason="in Airflow 3.0, `use_cache` does nothing for what a DAG file looks up"
)


@pytest.fixture(
    params=[
        pytest.param({}, id="the file uses this backend", marks=airflow_caches_what_files_look_up),
        pytest.param(
            WORKERS_ASK_THE_SERVER,
            id="the DAG processor's own API server uses it",
            marks=[pytest.mark.heavy, from_airflow_3],
        ),
    ]
)
def airflow(stand_in: StandIn, request: pytest.FixtureRequest) -> Iterator[AirflowSite]:
    stand_in.aws.faults.clear()
    stand_in.aws.calls.clear()
    environment = {
        **backend_environment(),
        **request.param,
        **aws_rights(stand_in, "airflow"),
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "1",
        "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "1",
    }
    with airflow_site(stand_in, DAGS, **environment) as site:
        yield site


def wait_for_parsing(airflow: AirflowSite) -> None:
    """Return when the file has been parsed again, from beginning to end."""

    def last() -> list[str]:
        return [str(row[0]) for row in airflow.query("SELECT last_parsed_time FROM dag")]

    before = last()
    airflow.wait_for("the file to be parsed", lambda: last() != before and last() != [])


def test_airflow_only_caches_a_credential_that_is_valid_for_as_long(airflow: AirflowSite, stand_in: StandIn) -> None:
    airflow.airflow("connections", "get", "analytics")
    early = stand_in.tokens.minted()[-1]
    assert early.expires_at is not None
    too_old_at = early.expires_at - CACHED_SECONDS
    airflow.wait_for("the credential to be five seconds old", lambda: time.time() > too_old_at)

    use_cache = {"AIRFLOW__SECRETS__USE_CACHE": "True", "AIRFLOW__SECRETS__CACHE_TTL_SECONDS": str(CACHED_SECONDS)}
    airflow.start(READS_DAGS, changes=use_cache)
    wait_for_parsing(airflow)
    assert stand_in.aws.calls.by_operation()[MINT] == 2
    assert airflow.query("SELECT description FROM dag") == [("IAM:etl",)]

    # Airflow uses its own cache: neither AWS nor the host store would have an answer.
    stand_in.aws.faults.add("*", "access_denied")
    stand_in.aws.calls.clear()
    forget(airflow)
    for _ in range(2):
        wait_for_parsing(airflow)
    assert stand_in.aws.calls.total() == 0
    assert airflow.query("SELECT count(*) FROM import_error") == [(0,)]
