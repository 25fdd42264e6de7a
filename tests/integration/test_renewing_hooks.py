"""A hook that is kept for hours, in each Airflow. For both sides and more clients see `tests/e2e/test_long_tasks.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from airflow import configuration
from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.providers.postgres.hooks.postgres import PostgresHook
from sqlalchemy import text

from redshift_secrets import renewing
from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from tests.integration.conftest import WAREHOUSES
from tests.support.airflow_parts import VERSION, as_in_a_new_process, backend_environment, backends_with_clock
from tests.support.fakes import Clock

RENEWS_BY_ITSELF = VERSION >= (3, 2)
QUERY = "SELECT current_user"


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def running(clock: Clock) -> Iterator[StandIn]:
    with StandIn(config.parse(WAREHOUSES), clock=clock) as stand_in:
        yield stand_in


@pytest.fixture(autouse=True)
def worker(running: StandIn, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that resolves connections itself, with the clock of the stand-in."""
    for name, value in {**running.environment(), **backend_environment()}.items():
        monkeypatch.setenv(name, value)
    # RedshiftSQLHook retries five times with growing pauses; that of older providers does not.
    if retry := getattr(RedshiftSQLHook.get_conn, "retry", None):
        monkeypatch.setattr(retry, "sleep", lambda _seconds: None)
    as_in_a_new_process()
    monkeypatch.setattr(configuration, "secrets_backend_list", configuration.initialize_secrets_backends())
    with backends_with_clock(clock):
        yield
    as_in_a_new_process()


hooks = pytest.mark.parametrize("make", [lambda: RedshiftSQLHook("analytics"), lambda: PostgresHook("analytics")])


@hooks
def test_any_hook_renews_itself_where_the_readme_says_so(make: Any, clock: Clock) -> None:
    hook = make()
    assert hook.get_first(QUERY)[0] == "etl"
    clock.pass_(61 * 60)
    if RENEWS_BY_ITSELF:
        assert hook.get_first(QUERY)[0] == "etl"
    else:
        with pytest.raises(Exception, match="password authentication failed"):
            hook.get_first(QUERY)


@hooks
def test_a_renewing_hook_and_its_engine_work_in_every_version(make: Any, clock: Clock) -> None:
    hook = renewing(make())
    engine = hook.get_sqlalchemy_engine()
    for _ in range(3):
        assert hook.get_first(QUERY)[0] == "etl"
        engine.dispose()
        with engine.connect() as connection:
            assert connection.execute(text(QUERY)).fetchone()[0] == "etl"
        clock.pass_(61 * 60)
