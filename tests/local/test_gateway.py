"""Logins to the gateway: which are accepted, and as which database role."""

from __future__ import annotations

import logging
import sys
from typing import Any

import psycopg
import pytest
from redshift_connector.error import Error as DriverError

from tests.local.gateway_harness import CLUSTER, DATABASE, WORKGROUP, Harness, eventually, value


def refusal(harness: Harness, token: Any, **values: Any) -> tuple[str, str]:
    """Return the error code and message that the driver gets for a login that must fail."""
    with pytest.raises(DriverError) as caught:
        harness.driver_login(token, **values)
    error = caught.value.args[0]
    return error["C"], error["M"]


@pytest.mark.parametrize(
    ("user", "role", "auto_create"),
    [
        ("IAM:etl", "etl", False),
        ("IAMA:new_user", "new_user", True),
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
    with harness.login(harness.mint(user, role, auto_create=auto_create)) as second:
        assert value(second, "SELECT current_user") == role


def test_admin_password_logs_in_as_the_admin_with_the_privileges_of_users(harness: Harness) -> None:
    token = harness.mint("awsuser", "awsuser", password="Kept-In-Secrets-1", duration=None)
    harness.clock.now += 10 * 365 * 86_400
    with harness.login(harness.mint("IAMA:owner", auto_create=True)) as owner:
        owner.execute("CREATE TABLE owned AS SELECT 7 AS n")
    with harness.login(token) as admin:
        assert value(admin, "SELECT current_user") == "awsuser"
        assert value(admin, "SELECT n FROM owned") == 7
        admin.execute("GRANT SELECT ON owned TO bi")
        admin.execute("DROP TABLE owned")
        admin.execute("CREATE USER made_by_admin")
        assert not value(admin, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    with harness.login(harness.mint("IAM:made_by_admin")) as user:
        assert value(user, "SELECT current_user") == "made_by_admin"


def test_wrong_password(harness: Harness) -> None:
    code, message = refusal(harness, harness.mint("IAM:etl"), password="wrong")
    assert (code, message) == ("28000", 'password authentication failed for user "IAM:etl"')


def test_passwords_are_not_logged(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    token = harness.mint("IAM:etl")
    with caplog.at_level(logging.DEBUG):
        harness.login(token).close()
        refusal(harness, token, password="hush-hush")
        refusal(harness, token, database="nowhere")
    assert "password authentication failed" in caplog.text
    assert token.password not in caplog.text
    assert "hush-hush" not in caplog.text


def test_expired_token_is_refused_but_its_sessions_continue(harness: Harness) -> None:
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
    unrestricted = harness.mint("IAM:etl")
    with harness.login(unrestricted, dbname="other") as connection:
        assert value(connection, "SELECT current_database()") == "other"
        connection.execute("CREATE TABLE every_user_can_create_in_public (n int)")


def test_unknown_database_has_the_message_of_postgresql(harness: Harness) -> None:
    token = harness.mint("IAM:etl")
    # Repeated, because the driver may still be sending when PostgreSQL disconnects, and must get the message even so.
    for _ in range(30):
        assert refusal(harness, token, database="nowhere") == ("3D000", 'database "nowhere" does not exist')
    # Redshift has no database of this name, although PostgreSQL has.
    assert refusal(harness, token, database="postgres") == ("3D000", 'database "postgres" does not exist')


def test_unknown_user_and_group(harness: Harness) -> None:
    assert refusal(harness, harness.mint("IAM:ghost")) == ("42704", 'user "IAM:ghost" does not exist')
    token = harness.mint("IAMA:not_created", db_groups=("loaders", "unknown"), auto_create=True)
    assert refusal(harness, token) == ("42704", 'group "unknown" does not exist')
    assert refusal(harness, harness.mint("IAM:not_created"))[0] == "42704"


@pytest.mark.parametrize("role", ["rdsdb", "pg_execute_server_program", "loaders"])
@pytest.mark.parametrize("auto_create", [True, False])
def test_logins_as_superuser_built_in_role_or_group_are_refused(harness: Harness, role: str, auto_create: bool) -> None:
    code, message = refusal(harness, harness.mint(f"IAM:{role}", auto_create=auto_create))
    assert code in {"42704", "42710", "42939"}
    assert role in message or "pg_" in message


@pytest.mark.parametrize("group", ["rdsdb", "pg_execute_server_program", "etl", "awsuser"])
def test_superuser_built_in_roles_and_users_are_not_groups(harness: Harness, group: str) -> None:
    token = harness.mint("IAM:bi", db_groups=(group,))
    assert refusal(harness, token) == ("42704", f'group "{group}" does not exist')


def test_names_that_postgresql_would_truncate_are_refused(harness: Harness) -> None:
    name = "x" * 64
    code, message = refusal(harness, harness.mint(f"IAMA:{name}", auto_create=True))
    assert code == "42622"
    assert name in message


@pytest.mark.parametrize("role", ['a"; drop role bi; --', "it's", 'quo"ted', "back\\slash", "%s {} %%", "naïve ☃"])
def test_names_are_quoted_in_sql(harness: Harness, role: str, admin: psycopg.Connection[tuple[Any, ...]]) -> None:
    token = harness.mint(f"IAMA:{role}", role, auto_create=True, db_groups=("loaders",))
    with harness.login(token) as connection:
        assert value(connection, "SELECT current_user") == role
        assert value(connection, "SELECT grams FROM vault.gold") == 42
    assert value(admin, "SELECT count(*) FROM pg_roles WHERE rolname IN ('bi', 'etl')") == 2


def test_hostile_database_name(harness: Harness) -> None:
    name = 'dev"; DROP DATABASE dev; --'
    assert refusal(harness, harness.mint("IAM:etl"), database=name) == ("3D000", f'database "{name}" does not exist')
    harness.driver_login(harness.mint("IAM:etl")).close()


def can_read_gold(harness: Harness, user: str) -> bool:
    with harness.login(harness.mint(user)) as connection:
        try:
            connection.execute("SELECT grams FROM vault.gold")
        except psycopg.errors.InsufficientPrivilege:
            return False
        return True


def test_groups_last_as_long_as_their_sessions(harness: Harness) -> None:
    assert not can_read_gold(harness, "IAM:etl")
    with harness.login(harness.mint("IAM:etl", db_groups=("loaders",))) as first:
        assert value(first, "SELECT grams FROM vault.gold") == 42
        with harness.login(harness.mint("IAM:etl", db_groups=("loaders", "readers", "loaders"))) as second:
            assert value(second, "SELECT grams FROM vault.gold") == 42
            assert not can_read_gold(harness, "IAM:bi")
        # Once `readers` is revoked, the gateway has seen the end of the second session.
        assert eventually(lambda: not value(first, "SELECT pg_has_role(current_user, 'readers', 'member')"))
        assert value(first, "SELECT grams FROM vault.gold") == 42
    assert eventually(lambda: not can_read_gold(harness, "IAM:etl"))


def test_groups_of_session_tags_that_do_not_exist_are_ignored(harness: Harness) -> None:
    groups = ("loaders", "unknown", "rdsdb", "etl")
    token = harness.mint("IAMR:etl_sales", "IAMR:etl_sales", auto_create=True, tagged_groups=groups)
    with harness.login(token) as connection:
        assert value(connection, "SELECT current_user") == "IAMR:etl_sales"
        assert value(connection, "SELECT grams FROM vault.gold") == 42
        assert not value(connection, "SELECT pg_has_role(current_user, 'etl', 'member')")
    plain = harness.mint("IAMR:etl_sales", "IAMR:etl_sales", auto_create=True)
    with harness.login(plain) as connection:
        assert eventually(lambda: not value(connection, "SELECT pg_has_role(current_user, 'loaders', 'member')"))


def test_existing_group_memberships_are_kept(harness: Harness, admin: psycopg.Connection[tuple[Any, ...]]) -> None:
    is_reader = "SELECT pg_has_role('bi', 'readers', 'member')"
    assert value(admin, is_reader)
    with harness.login(harness.mint("IAM:bi", db_groups=("readers", "loaders"))):
        assert value(admin, "SELECT pg_has_role('bi', 'loaders', 'member')")
    assert eventually(lambda: not value(admin, "SELECT pg_has_role('bi', 'loaders', 'member')"))
    assert value(admin, is_reader)
    # The admin created the groups, and can still manage them after a session of its own with them.
    with harness.login(harness.mint("IAM:awsuser", db_groups=("readers", "loaders"))):
        pass
    assert eventually(lambda: harness.count_sessions("awsuser", admin=admin) == 1)
    admin.execute("ALTER GROUP readers ADD USER etl")
    admin.execute("ALTER GROUP readers DROP USER etl")


def test_warehouses_do_not_share_users_or_data(harness: Harness) -> None:
    with harness.login(harness.mint("IAMA:only_here", auto_create=True)) as cluster:
        cluster.execute("CREATE TABLE only_here (n int)")
    assert refusal(harness, harness.mint("IAM:only_here", warehouse=WORKGROUP))[0] == "42704"
    with harness.login(harness.mint("IAM:etl", warehouse=WORKGROUP)) as workgroup:
        assert value(workgroup, "SELECT to_regclass('only_here') IS NULL")


def test_vpc_endpoint_leads_to_the_same_warehouse(harness: Harness) -> None:
    host, port = harness.address(CLUSTER, "vpc:office")
    assert port != harness.address(CLUSTER)[1]
    with harness.login(harness.mint("IAM:etl"), host=host, port=port) as connection:
        assert value(connection, "SELECT current_user") == "etl"
    assert harness.gateway.address_of(CLUSTER, "vpc:elsewhere") is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have only one loopback address")
def test_custom_domain_that_is_an_address(harness: Harness) -> None:
    gateway = harness.gateway
    gateway.add_warehouse("arn:ip", DATABASE, "awsuser", ("default", "custom-domain"), "127.0.0.11")
    assert harness.address("arn:ip", "custom-domain") == ("127.0.0.11", harness.address("arn:ip")[1])
    token = harness.mint("IAM:etl", warehouse="arn:ip")
    harness.driver_login(token, host="127.0.0.11").close()
    harness.login(token).close()


def test_custom_domain_that_is_an_address_of_another_machine(harness: Harness) -> None:
    with pytest.raises(
        OSError, match=r"^arn:far: custom_domain must be .* loopback address .* 192\.0\.2\.1 is not one"
    ):
        harness.gateway.add_warehouse("arn:far", DATABASE, "awsuser", ("default", "custom-domain"), "192.0.2.1")


def test_custom_domain_that_is_a_name(harness: Harness) -> None:
    gateway = harness.gateway
    gateway.add_warehouse("arn:name", DATABASE, "awsuser", ("default", "custom-domain"), "dwh.example.com")
    host, port = harness.address("arn:name", "custom-domain")
    assert (host, port) == ("dwh.example.com", harness.address("arn:name")[1])
    token = harness.mint("IAM:etl", warehouse="arn:name")
    harness.login(token, host=host, hostaddr="127.0.0.1").close()
    other = harness.mint("IAM:etl", warehouse=WORKGROUP)
    with pytest.raises(psycopg.OperationalError, match=r"does not match host name .*dwh\.example\.com"):
        harness.login(other, host=host, hostaddr="127.0.0.1")


@pytest.mark.parametrize(
    ("arn", "endpoints", "message"),
    [
        (CLUSTER, ("default",), "already added"),
        ("arn:new", ("custom-domain",), "but no custom domain"),
        ("arn:new", ("private",), "unknown endpoint 'private'"),
    ],
)
def test_invalid_warehouses(harness: Harness, arn: str, endpoints: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        harness.gateway.add_warehouse(arn, DATABASE, "awsuser", endpoints, None)
    assert harness.gateway.address_of("arn:new", "default") is None
