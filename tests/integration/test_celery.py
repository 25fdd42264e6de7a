"""Celery workers behind a real Redis: one with AWS rights, which calls AWS itself, and two without, which ask the API server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redshift_secrets.local.stand_in import StandIn
from tests.integration.site import MINT_WITH_IAM, airflow_site, aws_rights, from_airflow_3, run
from tests.support.airflow_parts import backend_environment
from tests.support.airflow_runs import TaskKey
from tests.support.airflow_site import AirflowSite
from tests.support.redis_servers import RedisServer, free_port

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def airflow(stand_in: StandIn) -> Iterator[AirflowSite]:
    with (
        RedisServer(port=free_port()) as redis,
        airflow_site(stand_in, AIRFLOW__CORE__EXECUTOR="CeleryExecutor") as site,
    ):
        site.environment["AIRFLOW__CELERY__BROKER_URL"] = f"redis://127.0.0.1:{redis.port}/0"
        database = site.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
        site.environment["AIRFLOW__CELERY__RESULT_BACKEND"] = f"db+{database}"
        site.start("scheduler", "dag-processor")
        site.start("api-server", changes={**backend_environment(), **aws_rights(stand_in, "server")})
        worker(site, "without_rights", {})
        worker(site, "with_backend_and_no_rights", backend_environment())
        worker(site, "with_rights", {**backend_environment(), **aws_rights(stand_in, "worker")})
        site.wait_until_ready()
        yield site


def worker(site: AirflowSite, queue: str, changes: dict[str, str]) -> None:
    arguments = ("--queues", queue, "--celery-hostname", f"{queue}@%h", "--concurrency", "1", "--skip-serve-logs")
    site.start("celery-worker", arguments=arguments, changes=changes)


@pytest.mark.parametrize(
    ("queue", "role"),
    [
        ("with_rights", "worker"),
        pytest.param("without_rights", "server", marks=from_airflow_3),
        pytest.param("with_backend_and_no_rights", "server", marks=from_airflow_3),
    ],
)
def test_a_worker_with_rights_calls_aws_and_one_without_asks_the_api_server(
    airflow: AirflowSite, stand_in: StandIn, queue: str, role: str
) -> None:
    stand_in.aws.calls.clear()
    run_id, state = run(airflow, f"queued_{queue}")
    assert state == "success", airflow.last_lines()
    user = f"IAMR:{role}"
    assert airflow.results(f"queued_{queue}", run_id) == {TaskKey("first"): user, TaskKey("second"): user}
    minted = stand_in.aws.calls.by_operation().get(MINT_WITH_IAM, 0)
    assert minted <= 1  # the API server keeps what it minted for the other queue
