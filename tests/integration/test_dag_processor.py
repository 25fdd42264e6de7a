"""A DAG file that looks a connection up while it is parsed, with `[secrets] use_cache` on: Airflow keeps our answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from tests.integration.conftest import WAREHOUSES
from tests.integration.site import (
    MINT,
    WORKERS_ASK_THE_SERVER,
    airflow_site,
    forget,
    from_airflow_3,
    resolves,
    rights_of,
)
from tests.support.airflow_site import AirflowSite, airflow_version

DAGS = Path(__file__).parent / "dags_that_look_up_at_parse_time"
READS_DAGS = "dag-processor" if airflow_version() >= (3, 0) else "scheduler"
KEPT_SECONDS = 3595
"""So long does Airflow keep an answer here that no credential may be answered with that is older than five seconds."""

airflow_keeps_what_files_ask = pytest.mark.skipif(
    (3, 0) <= airflow_version() < (3, 1), reason="`use_cache` does nothing for what a file asks for in Airflow 3.0"
)


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with StandIn(config.parse(WAREHOUSES)) as running:
        yield running


@pytest.fixture(
    params=[
        pytest.param({}, id="the file asks us", marks=airflow_keeps_what_files_ask),
        pytest.param(
            WORKERS_ASK_THE_SERVER,
            id="the DAG processor's own server asks us",
            marks=[pytest.mark.heavy, from_airflow_3],
        ),
    ]
)
def airflow(stand_in: StandIn, request: pytest.FixtureRequest) -> Iterator[AirflowSite]:
    environment = {
        **resolves(),
        **request.param,
        **rights_of(stand_in, "airflow"),
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "1",
        "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "1",
    }
    with airflow_site(stand_in, DAGS, **environment) as site:
        yield site


def parsed_anew(airflow: AirflowSite) -> None:
    """Return when the file has been parsed once more from its begin to its end."""

    def last() -> list[str]:
        return [str(row[0]) for row in airflow.query("SELECT last_parsed_time FROM dag")]

    before = last()
    airflow.wait_for("the file to be parsed", lambda: last() != before and last() != [])


def test_an_answer_that_airflow_keeps_is_of_a_credential_that_lives_as_long(
    airflow: AirflowSite, stand_in: StandIn
) -> None:
    airflow.airflow("connections", "get", "analytics")
    (early,) = stand_in.tokens.minted()
    assert early.expires_at is not None
    died_for_airflow = early.expires_at - KEPT_SECONDS
    airflow.wait_for("five seconds to pass", lambda: time.time() > died_for_airflow)

    keeps = {"AIRFLOW__SECRETS__USE_CACHE": "True", "AIRFLOW__SECRETS__CACHE_TTL_SECONDS": str(KEPT_SECONDS)}
    airflow.start(READS_DAGS, changes=keeps)
    parsed_anew(airflow)
    assert stand_in.aws.calls.by_operation()[MINT] == 2
    assert airflow.query("SELECT description FROM dag") == [("IAM:etl",)]

    # Airflow asks no further: neither AWS nor what we keep on this host would have an answer.
    stand_in.aws.faults.add("*", "access_denied")
    stand_in.aws.calls.clear()
    forget(airflow)
    for _ in range(2):
        parsed_anew(airflow)
    assert stand_in.aws.calls.total() == 0
    assert airflow.query("SELECT count(*) FROM import_error") == [(0,)]
