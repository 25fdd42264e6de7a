"""A hook that is kept for two hours, in each Airflow. Of the sides and clients: `tests/e2e/test_long_tasks.py`."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from typing import Any

import airflow
import pytest
from airflow import configuration
from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.providers.postgres.hooks.postgres import PostgresHook
from packaging.version import Version
from sqlalchemy import text

from redshift_secrets import backend, renewing
from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from redshift_secrets.lookup.wiring import LazyAwsClient, create_broker, create_stores
from tests.support.fakes import Clock

RENEWS_BY_ITSELF = Version(airflow.__version__) >= Version("3.2")
ASK = "SELECT current_user"
WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {"name": "dwh", "users": ["etl"]},
            "tags": {"airflow:conn-id": "analytics", "airflow:db-user": "etl"},
        }
    ]
}


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def running(clock: Clock) -> Iterator[StandIn]:
    with StandIn(config.parse(WAREHOUSES), clock=clock) as stand_in:
        yield stand_in


@pytest.fixture(autouse=True)
def worker(running: StandIn, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that resolves itself, whose time is the stand-in's."""
    settings = {
        **running.environment(),
        "AIRFLOW__SECRETS__BACKEND": "redshift_secrets.RedshiftSecretsBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": '{"regions": ["eu-west-1"]}',
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    for part in (LazyAwsClient, create_broker, create_stores):
        ticking: Any = functools.partial(part, clock=clock)
        monkeypatch.setattr(backend, part.__name__, ticking)
    # RedshiftSQLHook tries five times with growing pauses, and time in these tests does not pass by itself.
    monkeypatch.setattr(RedshiftSQLHook.get_conn.retry, "sleep", lambda _seconds: None)  # type: ignore[attr-defined]
    forget_backends()
    monkeypatch.setattr(configuration, "secrets_backend_list", configuration.initialize_secrets_backends())
    yield
    forget_backends()


def forget_backends() -> None:
    """Airflow 3.3 and newer keep the backends of tasks."""
    if Version(airflow.__version__) >= Version("3.3"):
        importlib.import_module("airflow.sdk.configuration").clear_secrets_backends_cache()


hooks = pytest.mark.parametrize("make", [lambda: RedshiftSQLHook("analytics"), lambda: PostgresHook("analytics")])


@hooks
def test_a_hook_as_it_is_stays_alive_where_the_readme_says_so(make: Any, clock: Clock) -> None:
    hook = make()
    assert hook.get_first(ASK)[0] == "etl"
    clock.pass_(61 * 60)
    if RENEWS_BY_ITSELF:
        assert hook.get_first(ASK)[0] == "etl"
    else:
        with pytest.raises(Exception, match="password authentication failed"):
            hook.get_first(ASK)


@hooks
def test_a_renewing_hook_and_its_engine_stay_alive_everywhere(make: Any, clock: Clock) -> None:
    hook = renewing(make())
    engine = hook.get_sqlalchemy_engine()
    for _ in range(3):
        assert hook.get_first(ASK)[0] == "etl"
        engine.dispose()
        with engine.connect() as connection:
            assert connection.execute(text(ASK)).fetchone()[0] == "etl"
        clock.pass_(61 * 60)
