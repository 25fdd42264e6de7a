"""Each way of authenticating logs in over TLS with host name verification, as the right user."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg
import pytest
import redshift_connector

from redshift_secrets.local.stand_in import StandIn
from redshift_secrets.model import ConnectionFields, reveal
from tests.e2e.conftest import MINT, MakeBroker
from tests.support.fakes import Clock


def log_in(fields: ConnectionFields) -> redshift_connector.Connection:
    return redshift_connector.connect(
        host=fields.host,
        port=fields.port,
        user=fields.login,
        password=fields.password,
        database=fields.schema,
        sslmode="verify-full",
        timeout=300,
    )


def query(fields: ConnectionFields, sql: str = "SELECT current_user, current_database()") -> list[Any]:
    with closing(log_in(fields)) as connection:
        cursor = connection.cursor()
        cursor.execute(sql)
        return list(cursor.fetchone())


@pytest.mark.parametrize(
    ("conn_id", "login", "current_user", "database"),
    [
        ("analytics", "IAM:etl", "etl", "dwh"),
        ("reporting", "IAM:bi", "bi", "dwh"),
        ("newcomer", "IAMA:newcomer", "newcomer", "dwh"),
        ("by-iam", "IAM:airflow", "IAM:airflow", "dwh"),
        ("by-secret", "awsuser", "awsuser", "dwh"),
        ("by-domain", "IAM:etl", "etl", "dwh"),
        ("by-vpc", "IAM:etl", "etl", "dwh"),
        ("remote", "IAM:etl", "etl", "dwh"),
        ("remote-iam", "IAMR:airflow-remote", "IAMR:airflow-remote", "dwh"),
        ("strict", "IAM:etl", "etl", "dwh"),
        ("serverless", "IAM:airflow", "IAM:airflow", "scratch"),
        ("serverless-secret", "admin", "admin", "scratch"),
        ("serverless-domain", "IAM:airflow", "IAM:airflow", "scratch"),
        ("serverless-vpc", "IAM:airflow", "IAM:airflow", "scratch"),
    ],
)
def test_logs_in_over_tls_as(
    make_broker: MakeBroker, conn_id: str, login: str, current_user: str, database: str
) -> None:
    fields = make_broker().connection(conn_id)
    assert fields is not None
    assert fields.login == login
    assert query(fields) == [current_user, database]


def test_endpoints_are_three_different_addresses(make_broker: MakeBroker) -> None:
    broker = make_broker()
    found = [broker.connection(conn_id) for conn_id in ("analytics", "by-domain", "by-vpc")]
    default, domain, vpc = [(fields.host, fields.port) for fields in found if fields is not None]
    assert domain == ("127.0.0.11", default[1])
    assert vpc != default


@pytest.mark.parametrize(
    ("conn_id", "current_user", "mint"),
    [
        ("by-connector", "etl", MINT),
        ("serverless-connector", "IAM:airflow", "redshift-serverless:GetCredentials"),
    ],
)
def test_connector_lets_the_driver_mint_for_itself(
    make_broker: MakeBroker, stand_in: StandIn, conn_id: str, current_user: str, mint: str
) -> None:
    fields = make_broker().connection(conn_id)
    assert fields is not None
    assert fields.password is None
    stand_in.aws.calls.clear()
    connection = redshift_connector.connect(
        host=fields.host, port=fields.port, database=fields.schema, timeout=300,
        iam_disable_cache=True, **{k: v for k, v in fields.extra.items() if k != "database"},
    )  # fmt: skip
    with closing(connection):
        cursor = connection.cursor()
        cursor.execute("SELECT current_user")
        assert cursor.fetchone()[0] == current_user
    assert stand_in.aws.calls.by_operation()[mint] >= 1


def test_db_groups_grant_their_permissions_to_the_session(make_broker: MakeBroker) -> None:
    broker = make_broker()
    newcomer, etl = broker.connection("newcomer"), broker.connection("analytics")
    assert newcomer is not None
    assert etl is not None
    assert query(newcomer, "SELECT count(*) FROM secrets_of_loaders") == [0]
    with pytest.raises(redshift_connector.ProgrammingError, match="permission denied"):
        query(etl, "SELECT count(*) FROM secrets_of_loaders")


def test_an_expired_token_is_refused_and_the_next_lookup_returns_a_new_one(
    make_broker: MakeBroker, clock: Clock
) -> None:
    broker = make_broker()
    old = broker.connection("analytics")
    assert old is not None
    assert query(old)[0] == "etl"
    clock.pass_(3601)
    with pytest.raises(redshift_connector.InterfaceError, match="password authentication failed"):
        query(old)
    new = broker.connection("analytics")
    assert new is not None
    assert new.password != old.password
    assert query(new)[0] == "etl"


def test_a_token_opens_only_the_warehouse_it_was_minted_for(make_broker: MakeBroker) -> None:
    broker = make_broker()
    here, there = broker.connection("analytics"), broker.connection("remote")
    assert here is not None
    assert there is not None
    with pytest.raises(redshift_connector.InterfaceError, match="password authentication failed"):
        redshift_connector.connect(
            host=there.host,
            port=there.port,
            user=here.login,
            password=reveal(here.password),
            database="dwh",
            timeout=300,
        )


def test_libpq_logs_in_with_the_same_fields(make_broker: MakeBroker, stand_in: StandIn) -> None:
    fields = make_broker().connection("analytics")
    assert fields is not None
    with psycopg.connect(
        host=fields.host, port=fields.port, user=fields.login, password=reveal(fields.password), dbname=fields.schema,
        sslmode="verify-full", sslrootcert=str(stand_in.gateway.ca_file),
    ) as connection:  # fmt: skip
        assert connection.execute("SELECT current_user").fetchone() == ("etl",)


def test_the_description_names_warehouse_caller_user_and_expiry(make_broker: MakeBroker) -> None:
    fields = make_broker().connection("remote")
    assert fields is not None
    for word in ("cluster remote", "222222222222", "us-east-1", "IAM:etl", "role/airflow-remote", "expires at 20"):
        assert word in fields.description
    assert reveal(fields.password) not in fields.description
