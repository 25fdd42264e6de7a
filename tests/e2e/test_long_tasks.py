"""A task of two hours that keeps its hook and connects every few minutes, at a gateway that refuses dead tokens."""

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
from tests.support.fakes import Clock

MINUTES = [*range(0, 121, 7), 120]
ASK = "SELECT current_user"
MINT = "redshift:GetClusterCredentials"
MOST_MINTS = 5
"""In two hours a credential of one hour is renewed at half of its life, or a little before."""


@pytest.fixture
def log_ins(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """User and password of each log-in that the gateway let in."""
    seen: list[tuple[str, str]] = []
    check = stand_in.tokens.check

    def noting(**given: str) -> Any:
        token = check(**given)  # type: ignore[arg-type]
        seen.append((given["user"], given["password"]))
        return token

    monkeypatch.setattr(stand_in.tokens, "check", noting)
    # RedshiftSQLHook tries five times with growing pauses, and time in these tests does not pass by itself.
    monkeypatch.setattr(RedshiftSQLHook.get_conn.retry, "sleep", lambda _seconds: None)  # type: ignore[attr-defined]
    return seen


@pytest.fixture(params=["worker", "server"])
def side(request: pytest.FixtureRequest, stand_in: StandIn, clock: Clock) -> Iterator[str]:
    """Where connections are resolved."""
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


def test_only_where_the_worker_resolves_can_the_connection_itself_renew(side: str) -> None:
    # What comes through the Execution API is made by Airflow, from what it was at that moment.
    assert ("_renewal" in vars(Connection.get("analytics"))) is (side == "worker")


@hooks
@pytest.mark.usefixtures("log_ins")
def test_a_connection_that_stays_as_it_is_presents_a_dead_token(make: Any, side: str, clock: Clock) -> None:
    hook, refused = make()
    if isinstance(hook, RedshiftSQLHook):
        without_renewal(hook.conn)
    else:
        without_renewal(hook.connection)
    assert hook.get_first(ASK)[0] == "etl"
    clock.pass_(61 * 60)
    with pytest.raises(refused, match="password authentication failed"):
        hook.get_first(ASK)


@hooks
@pytest.mark.usefixtures("on_the_worker")
def test_on_a_worker_that_resolves_itself_the_hook_as_it_is_stays_alive(
    make: Any, stand_in: StandIn, clock: Clock, log_ins: list[tuple[str, str]]
) -> None:
    hook, _ = make()
    assert set(two_hours(clock, lambda: hook.get_first(ASK)[0])) == {"etl"}
    assert len(log_ins) == len(MINUTES)
    assert {user for user, _ in log_ins} == {"IAM:etl"}
    assert 3 <= len(set(log_ins)) <= MOST_MINTS
    assert stand_in.aws.calls.by_operation()[MINT] <= MOST_MINTS


@hooks
def test_a_renewing_hook_stays_alive_on_both_sides(
    make: Any, side: str, stand_in: StandIn, clock: Clock, log_ins: list[tuple[str, str]]
) -> None:
    hook, _ = make()
    assert renewing(hook) is hook
    assert set(two_hours(clock, lambda: hook.get_first(ASK)[0])) == {"etl"}
    assert len(log_ins) == len(MINUTES)
    assert stand_in.aws.calls.by_operation()[MINT] <= MOST_MINTS


@pytest.mark.usefixtures("side")
def test_a_new_hook_for_each_connect_is_alive_on_both_sides(clock: Clock, log_ins: list[tuple[str, str]]) -> None:
    for _ in range(3):
        assert RedshiftSQLHook("analytics").get_first(ASK)[0] == "etl"
        clock.pass_(61 * 60)
    assert len(set(log_ins)) == 3


def test_the_operators_hook_stays_alive(side: str, clock: Clock, log_ins: list[tuple[str, str]]) -> None:
    operator = SQLExecuteQueryOperator(task_id="ask", conn_id="analytics", sql=ASK, do_xcom_push=True)
    if side == "server":
        renewing(operator.get_db_hook())
    assert two_hours(clock, lambda: operator.execute({})[0][0]) == ["etl"] * len(MINUTES)  # type: ignore[typeddict-item]
    assert len(log_ins) == len(MINUTES)


@hooks
@pytest.mark.usefixtures("log_ins")
def test_an_engine_presents_a_dead_token_unless_its_hook_is_renewing(make: Any, side: str, clock: Clock) -> None:
    def ask(engine: Any) -> Any:
        engine.dispose()  # as when the pool finds its connection gone
        with engine.connect() as connection:
            return connection.execute(text(ASK)).scalar_one()

    engine = make()[0].get_sqlalchemy_engine()
    with contextlib.closing(engine.raw_connection()):
        clock.pass_(61 * 60)
    with pytest.raises(OperationalError, match="password authentication failed"):
        ask(engine)
    living = renewing(make()[0]).get_sqlalchemy_engine()
    assert set(two_hours(clock, lambda: ask(living))) == {"etl"}


@pytest.mark.usefixtures("on_the_worker")
def test_user_and_password_are_of_one_credential_however_late_the_first_is_read(
    stand_in: StandIn, clock: Clock
) -> None:
    connection = Connection.get("by-iam")
    minted: set[tuple[str, str]] = set()
    for _ in range(24):
        user = connection.login
        clock.pass_(59)  # a client that takes its time between the two
        minted.add((user, connection.password))
        clock.pass_(5 * 60 - 59)
    assert minted <= {(token.user, token.password) for token in stand_in.tokens.minted()}
    assert 3 <= len(minted) <= MOST_MINTS


@pytest.mark.usefixtures("on_the_worker")
def test_a_connection_whose_credential_is_good_asks_nobody(stand_in: StandIn, clock: Clock) -> None:
    connection = Connection.get("analytics")
    stand_in.aws.calls.clear()
    held = connection.password
    for _ in range(50):
        clock.pass_(60)
        assert (connection.login, connection.password) == ("IAM:etl", held)
    assert stand_in.aws.calls.total() == 0


@pytest.mark.usefixtures("on_the_worker")
def test_a_renewal_that_is_refused_says_why_and_no_dead_token_is_presented(
    stand_in: StandIn, clock: Clock, log_ins: list[tuple[str, str]]
) -> None:
    hook = RedshiftSQLHook("analytics")
    hook.get_first(ASK)
    clock.pass_(61 * 60)
    stand_in.aws.faults.add(operation=MINT, kind="access_denied")
    with pytest.raises(PermissionError, match=r"connection 'analytics' cannot be served: .*not authorized"):
        hook.get_first(ASK)
    assert len(log_ins) == 1
