"""A task of two hours that keeps its hook and logs in every few minutes, at a gateway that refuses expired tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import redshift_connector
from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk.definitions.connection import Connection
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from redshift_secrets import renewing
from redshift_secrets.airflow.renewing_connection import without_renewal
from redshift_secrets.local.stand_in import StandIn
from tests.e2e import airflow_sites
from tests.e2e.conftest import MINT
from tests.support.fakes import Clock

MINUTES = [*range(0, 121, 7), 120]
QUERY = "SELECT current_user"
MAX_MINTS = 5
"""In two hours, a credential of one hour is refreshed halfway through its validity or a little before."""


@pytest.fixture
def logins(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """User and password of each login that the gateway accepted."""
    seen: list[tuple[str, str]] = []
    check = stand_in.tokens.check

    def recording(**given: str) -> Any:
        token = check(**given)  # type: ignore[arg-type]
        seen.append((given["user"], given["password"]))
        return token

    monkeypatch.setattr(stand_in.tokens, "check", recording)
    # RedshiftSQLHook retries five times with growing pauses.
    monkeypatch.setattr(RedshiftSQLHook.get_conn.retry, "sleep", lambda _seconds: None)  # type: ignore[attr-defined]
    return seen


@pytest.fixture(params=["worker", "server"])
def side(request: pytest.FixtureRequest, stand_in: StandIn, clock: Clock) -> Iterator[str]:
    """Where connections are resolved: on the worker or by the API server."""
    with getattr(airflow_sites, request.param)(stand_in, clock):
        yield request.param


@pytest.fixture
def on_the_worker(stand_in: StandIn, clock: Clock) -> Iterator[None]:
    with airflow_sites.worker(stand_in, clock):
        yield


def two_hours(clock: Clock, work: Callable[[], Any]) -> list[Any]:
    done, passed = [], 0
    for minute in MINUTES:
        clock.pass_((minute - passed) * 60)
        passed = minute
        done.append(work())
    return done


def redshift() -> tuple[RedshiftSQLHook, type[Exception]]:
    return RedshiftSQLHook("analytics"), redshift_connector.Error


def postgres() -> tuple[PostgresHook, type[Exception]]:
    return PostgresHook("analytics"), psycopg.OperationalError


hooks = pytest.mark.parametrize("make", [redshift, postgres])


def test_a_connection_renews_itself_only_where_the_worker_resolves(side: str) -> None:
    # Airflow builds a Connection that comes through the Execution API from plain values.
    assert ("_renewal" in vars(Connection.get("analytics"))) is (side == "worker")


@hooks
@pytest.mark.usefixtures("logins")
def test_without_renewal_a_hook_logs_in_with_an_expired_token(make: Any, side: str, clock: Clock) -> None:
    hook, refused = make()
    if isinstance(hook, RedshiftSQLHook):
        without_renewal(hook.conn)
    else:
        without_renewal(hook.connection)
    assert hook.get_first(QUERY)[0] == "etl"
    clock.pass_(61 * 60)
    with pytest.raises(refused, match="password authentication failed"):
        hook.get_first(QUERY)


@hooks
@pytest.mark.usefixtures("on_the_worker")
def test_on_a_worker_that_resolves_itself_any_hook_works_for_two_hours(
    make: Any, stand_in: StandIn, clock: Clock, logins: list[tuple[str, str]]
) -> None:
    hook, _ = make()
    assert set(two_hours(clock, lambda: hook.get_first(QUERY)[0])) == {"etl"}
    assert len(logins) == len(MINUTES)
    assert {user for user, _ in logins} == {"IAM:etl"}
    assert 3 <= len(set(logins)) <= MAX_MINTS
    assert stand_in.aws.calls.by_operation()[MINT] <= MAX_MINTS


@hooks
def test_a_renewing_hook_works_for_two_hours_on_both_sides(
    make: Any, side: str, stand_in: StandIn, clock: Clock, logins: list[tuple[str, str]]
) -> None:
    hook, _ = make()
    assert renewing(hook) is hook
    assert set(two_hours(clock, lambda: hook.get_first(QUERY)[0])) == {"etl"}
    assert len(logins) == len(MINUTES)
    assert stand_in.aws.calls.by_operation()[MINT] <= MAX_MINTS


@pytest.mark.usefixtures("side")
def test_a_new_hook_for_each_login_works_on_both_sides(clock: Clock, logins: list[tuple[str, str]]) -> None:
    for _ in range(3):
        assert RedshiftSQLHook("analytics").get_first(QUERY)[0] == "etl"
        clock.pass_(61 * 60)
    assert len(set(logins)) == 3


def test_the_hook_of_an_operator_works_for_two_hours(side: str, clock: Clock, logins: list[tuple[str, str]]) -> None:
    operator = SQLExecuteQueryOperator(task_id="ask", conn_id="analytics", sql=QUERY, do_xcom_push=True)
    if side == "server":
        renewing(operator.get_db_hook())
    assert two_hours(clock, lambda: operator.execute({})[0][0]) == ["etl"] * len(MINUTES)  # type: ignore[typeddict-item]
    assert len(logins) == len(MINUTES)


@hooks
@pytest.mark.usefixtures("logins")
def test_an_engine_logs_in_with_an_expired_token_unless_its_hook_is_renewing(
    make: Any, side: str, clock: Clock
) -> None:
    def query(engine: Any) -> Any:
        engine.dispose()  # as when the pool finds its connection closed
        with engine.connect() as connection:
            return connection.execute(text(QUERY)).scalar_one()

    engine = make()[0].get_sqlalchemy_engine()
    with contextlib.closing(engine.raw_connection()):
        clock.pass_(61 * 60)
    with pytest.raises(OperationalError, match="password authentication failed"):
        query(engine)
    renewed = renewing(make()[0]).get_sqlalchemy_engine()
    assert set(two_hours(clock, lambda: query(renewed))) == {"etl"}


@pytest.mark.usefixtures("on_the_worker")
def test_user_and_password_belong_to_one_credential_however_late_the_second_is_read(
    stand_in: StandIn, clock: Clock
) -> None:
    connection = Connection.get("by-iam")
    read: set[tuple[str, str]] = set()
    for _ in range(24):
        user = connection.login
        clock.pass_(59)  # a client that takes its time between the two
        read.add((user, connection.password))
        clock.pass_(5 * 60 - 59)
    assert read <= {(token.user, token.password) for token in stand_in.tokens.minted()}
    assert 3 <= len(read) <= MAX_MINTS


@pytest.mark.usefixtures("on_the_worker")
def test_a_connection_with_a_valid_credential_makes_no_call(stand_in: StandIn, clock: Clock) -> None:
    connection = Connection.get("analytics")
    stand_in.aws.calls.clear()
    password = connection.password
    for _ in range(50):
        clock.pass_(60)
        assert (connection.login, connection.password) == ("IAM:etl", password)
    assert stand_in.aws.calls.total() == 0


@pytest.mark.usefixtures("on_the_worker")
def test_a_refused_renewal_says_why_and_does_not_log_in_with_the_expired_token(
    stand_in: StandIn, clock: Clock, logins: list[tuple[str, str]]
) -> None:
    hook = RedshiftSQLHook("analytics")
    hook.get_first(QUERY)
    clock.pass_(61 * 60)
    stand_in.aws.faults.add(operation=MINT, kind="access_denied")
    with pytest.raises(PermissionError, match=r"connection 'analytics' cannot be served: .*not authorized"):
        hook.get_first(QUERY)
    assert len(logins) == 1
