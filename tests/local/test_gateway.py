"""Who the gateway lets in, and as whom."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from gateway_harness import CLUSTER, DATABASE, WORKGROUP, Harness, eventually, running_gateway, value
from redshift_connector.error import Error as DriverError


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def admin(harness: Harness) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    token = harness.mint("awsuser", "awsuser", password="ClockSafeEntry-In-Secrets-1", duration=None)
    with harness.login(token) as connection:
        yield connection


def refusal(harness: Harness, token: Any, **values: Any) -> tuple[str, str]:
    """Return the error code and message the driver gets for a login that must fail."""
    with pytest.raises(DriverError) as caught:
        harness.driver_login(token, **values)
    error = caught.value.args[0]
    return error["C"], error["M"]


@pytest.mark.parametrize(
    ("user", "role", "auto_create"),
    [
        ("IAM:etl", "etl", False),
        ("IAMA:fresh_one", "fresh_one", True),
        ("IAMA:etl", "etl", True),
        ("IAMR:deploy/bot", "IAMR:deploy/bot", True),
        ("IAM:airflow", "IAM:airflow", True),
    ],
)
def test_login_becomes_the_role_of_the_token(harness: Harness, user: str, role: str, auto_create: bool) -> None:
    connection = harness.driver_login(harness.mint(user, role, auto_create=auto_create))
    cursor = connection.cursor()
    cursor.execute("SELECT current_user, session_user, current_database()")
    assert cursor.fetchall() == ([role, role, "dev"],)
    connection.close()
    with harness.login(harness.mint(user, role, auto_create=auto_create)) as again:
        assert value(again, "SELECT current_user") == role


def test_admin_password_logs_in_as_the_admin_who_may_do_what_users_may(
    harness: Harness, admin: psycopg.Connection[tuple[Any, ...]]
) -> None:
    harness.clock.now += 10 * 365 * 86_400
    with harness.login(harness.mint("IAMA:owner", auto_create=True)) as owner:
        owner.execute("CREATE TABLE owned AS SELECT 7 AS n")
    assert value(admin, "SELECT current_user") == "awsuser"
    assert value(admin, "SELECT n FROM owned") == 7
    admin.execute("GRANT SELECT ON owned TO bi")
    admin.execute("DROP TABLE owned")
    admin.execute("CREATE USER made_by_admin")
    assert not value(admin, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    with harness.login(harness.mint("IAM:made_by_admin")) as made:
        assert value(made, "SELECT current_user") == "made_by_admin"


def test_wrong_password(harness: Harness) -> None:
    code, message = refusal(harness, harness.mint("IAM:etl"), password="wrong")
    assert (code, message) == ("28000", 'password authentication failed for user "IAM:etl"')


def test_passwords_stay_out_of_the_log(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    token = harness.mint("IAM:etl")
    with caplog.at_level(logging.DEBUG):
        harness.login(token).close()
        refusal(harness, token, password="hush-hush")
        refusal(harness, token, database="nowhere")
    assert "password authentication failed" in caplog.text
    assert token.password not in caplog.text
    assert "hush-hush" not in caplog.text


def test_expired_token_is_refused_and_a_session_it_opened_goes_on(harness: Harness) -> None:
    token = harness.mint("IAM:etl", duration=900)
    with harness.login(token) as connection:
        harness.clock.now += 899
        harness.driver_login(token).close()
        harness.clock.now += 1
        assert refusal(harness, token) == ("28000", 'password authentication failed for user "IAM:etl"')
        assert value(connection, "SELECT 1") == 1
    harness.driver_login(harness.mint("IAM:etl")).close()


def test_token_of_another_warehouse(harness: Harness) -> None:
    token = harness.mint("IAM:etl", warehouse=WORKGROUP)
    host, port = harness.address(CLUSTER)
    assert refusal(harness, token, host=host, port=port)[0] == "28000"
    harness.driver_login(token).close()


def test_token_for_another_database(harness: Harness, admin: psycopg.Connection[tuple[Any, ...]]) -> None:
    admin.execute("CREATE DATABASE other")
    token = harness.mint("IAM:etl", database="dev")
    assert refusal(harness, token, database="other")[0] == "28000"
    harness.driver_login(token).close()
    free = harness.mint("IAM:etl")
    with harness.login(free, dbname="other") as connection:
        assert value(connection, "SELECT current_database()") == "other"
        connection.execute("CREATE TABLE every_user_may_create_in_public (n int)")


def test_unknown_database_is_told_in_postgresqls_own_words(harness: Harness) -> None:
    token = harness.mint("IAM:etl")
    # Many times: the driver goes on sending while PostgreSQL hangs up, and must get the message all the same.
    for _ in range(30):
        assert refusal(harness, token, database="nowhere") == ("3D000", 'database "nowhere" does not exist')
    # Redshift has none of this name, though PostgreSQL does.
    assert refusal(harness, token, database="postgres") == ("3D000", 'database "postgres" does not exist')


def test_unknown_user_and_group(harness: Harness) -> None:
    assert refusal(harness, harness.mint("IAM:ghost")) == ("42704", 'user "IAM:ghost" does not exist')
    token = harness.mint("IAMA:unborn", db_groups=("loaders", "nobodies"), auto_create=True)
    assert refusal(harness, token) == ("42704", 'group "nobodies" does not exist')
    assert refusal(harness, harness.mint("IAM:unborn"))[0] == "42704"


@pytest.mark.parametrize("role", ["rdsdb", "pg_execute_server_program", "loaders"])
@pytest.mark.parametrize("auto_create", [True, False])
def test_nobody_becomes_the_superuser_a_built_in_role_or_a_group(
    harness: Harness, role: str, auto_create: bool
) -> None:
    code, message = refusal(harness, harness.mint(f"IAM:{role}", auto_create=auto_create))
    assert code in {"42704", "42710", "42939"}
    assert role in message or "pg_" in message


@pytest.mark.parametrize("group", ["rdsdb", "pg_execute_server_program", "etl", "awsuser"])
def test_nobody_joins_the_superuser_a_built_in_role_or_a_user(harness: Harness, group: str) -> None:
    token = harness.mint("IAM:bi", db_groups=(group,))
    assert refusal(harness, token) == ("42704", f'group "{group}" does not exist')


def test_names_too_long_to_be_told_apart_are_refused(harness: Harness) -> None:
    name = "x" * 64
    code, message = refusal(harness, harness.mint(f"IAMA:{name}", auto_create=True))
    assert code == "42622"
    assert name in message


@pytest.mark.parametrize("role", ['a"; drop role bi; --', "it's", 'quo"ted', "back\\slash", "%s {} %%", "naïve ☃"])
def test_names_are_data_not_sql(harness: Harness, role: str, admin: psycopg.Connection[tuple[Any, ...]]) -> None:
    token = harness.mint(f"IAMA:{role}", role, auto_create=True, db_groups=("loaders",))
    with harness.login(token) as connection:
        assert value(connection, "SELECT current_user") == role
        assert value(connection, "SELECT grams FROM vault.gold") == 42
    assert value(admin, "SELECT count(*) FROM pg_roles WHERE rolname IN ('bi', 'etl')") == 2


def test_hostile_database_name(harness: Harness) -> None:
    name = 'dev"; DROP DATABASE dev; --'
    assert refusal(harness, harness.mint("IAM:etl"), database=name) == ("3D000", f'database "{name}" does not exist')
    harness.driver_login(harness.mint("IAM:etl")).close()


def may_read_gold(harness: Harness, user: str) -> bool:
    with harness.login(harness.mint(user)) as connection:
        try:
            connection.execute("SELECT grams FROM vault.gold")
        except psycopg.errors.InsufficientPrivilege:
            return False
        return True


def test_groups_last_as_long_as_the_sessions_that_asked_for_them(harness: Harness) -> None:
    assert not may_read_gold(harness, "IAM:etl")
    with harness.login(harness.mint("IAM:etl", db_groups=("loaders",))) as first:
        assert value(first, "SELECT grams FROM vault.gold") == 42
        with harness.login(harness.mint("IAM:etl", db_groups=("loaders", "readers", "loaders"))) as second:
            assert value(second, "SELECT grams FROM vault.gold") == 42
            assert not may_read_gold(harness, "IAM:bi")
        # The second session's end is known to the gateway when `readers` is gone.
        assert eventually(lambda: not value(first, "SELECT pg_has_role(current_user, 'readers', 'member')"))
        assert value(first, "SELECT grams FROM vault.gold") == 42
    assert eventually(lambda: not may_read_gold(harness, "IAM:etl"))


def test_groups_the_role_had_anyway_stay(harness: Harness, admin: psycopg.Connection[tuple[Any, ...]]) -> None:
    is_reader = "SELECT pg_has_role('bi', 'readers', 'member')"
    assert value(admin, is_reader)
    with harness.login(harness.mint("IAM:bi", db_groups=("readers", "loaders"))):
        assert value(admin, "SELECT pg_has_role('bi', 'loaders', 'member')")
    assert eventually(lambda: not value(admin, "SELECT pg_has_role('bi', 'loaders', 'member')"))
    assert value(admin, is_reader)
    # The admin made the groups, and keeps its hold on them after a session in one.
    with harness.login(harness.mint("IAM:awsuser", db_groups=("readers", "loaders"))):
        pass
    assert eventually(lambda: harness.sessions_of("awsuser", asked_by=admin) == 1)
    admin.execute("ALTER GROUP readers ADD USER etl")
    admin.execute("ALTER GROUP readers DROP USER etl")


def test_warehouses_do_not_share_users_or_data(harness: Harness) -> None:
    with harness.login(harness.mint("IAMA:only_here", auto_create=True)) as here:
        here.execute("CREATE TABLE only_here (n int)")
    assert refusal(harness, harness.mint("IAM:only_here", warehouse=WORKGROUP))[0] == "42704"
    with harness.login(harness.mint("IAM:etl", warehouse=WORKGROUP)) as there:
        assert value(there, "SELECT to_regclass('only_here') IS NULL")


def test_vpc_endpoint_leads_to_the_same_warehouse(harness: Harness) -> None:
    host, port = harness.address(CLUSTER, "vpc:office")
    assert port != harness.address(CLUSTER)[1]
    with harness.login(harness.mint("IAM:etl"), host=host, port=port) as connection:
        assert value(connection, "SELECT current_user") == "etl"
    assert harness.gateway.address_of(CLUSTER, "vpc:elsewhere") is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address only")
def test_custom_domain_that_is_an_address(harness: Harness) -> None:
    gateway = harness.gateway
    gateway.add_warehouse("arn:ip", DATABASE, "awsuser", ("default", "custom-domain"), "127.0.0.11")
    assert harness.address("arn:ip", "custom-domain") == ("127.0.0.11", harness.address("arn:ip")[1])
    token = harness.mint("IAM:etl", warehouse="arn:ip")
    harness.driver_login(token, host="127.0.0.11").close()
    harness.login(token).close()


def test_custom_domain_that_is_a_name(harness: Harness) -> None:
    gateway = harness.gateway
    gateway.add_warehouse("arn:name", DATABASE, "awsuser", ("default", "custom-domain"), "dwh.example.com")
    host, port = harness.address("arn:name", "custom-domain")
    assert (host, port) == ("dwh.example.com", harness.address("arn:name")[1])
    token = harness.mint("IAM:etl", warehouse="arn:name")
    harness.login(token, host=host, hostaddr="127.0.0.1").close()
    elsewhere = harness.mint("IAM:etl", warehouse=WORKGROUP)
    with pytest.raises(psycopg.OperationalError, match=r"does not match host name .*dwh\.example\.com"):
        harness.login(elsewhere, host=host, hostaddr="127.0.0.1")


@pytest.mark.parametrize(
    ("arn", "endpoints", "message"),
    [
        (CLUSTER, ("default",), "added before"),
        ("arn:new", ("custom-domain",), "without a custom domain"),
        ("arn:new", ("private",), "unknown endpoint 'private'"),
    ],
)
def test_impossible_warehouse(harness: Harness, arn: str, endpoints: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        harness.gateway.add_warehouse(arn, DATABASE, "awsuser", endpoints, None)
    assert harness.gateway.address_of("arn:new", "default") is None
