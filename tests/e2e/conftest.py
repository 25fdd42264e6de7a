"""The stand-in, the Redis and the patience that the end-to-end tests share.

A test module with `WAREHOUSES` has a stand-in of its own; all others share one with every way of authenticating, in which
time passes only when a test says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

from redshift_secrets.aws.client import AwsClient
from redshift_secrets.cache.refresh import Refresher
from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.lookup.metrics import NoMetrics
from redshift_secrets.settings import Settings
from tests.e2e.patience import PATIENCE_SECONDS, be_patient
from tests.support.fakes import Clock
from tests.support.redis_servers import RedisServer

MINT = "redshift:GetClusterCredentials"
MINT_WITH_IAM = "redshift:GetClusterCredentialsWithIAM"
LIST = "redshift:DescribeClusters"

REMOTE_ROLE = "arn:aws:iam::222222222222:role/airflow-remote"
STRICT_ROLE = "arn:aws:iam::333333333333:role/airflow-strict"

AS_ETL = ("analytics", "by-connector", "by-domain", "by-vpc", "named")

WAREHOUSES = {
    "roles": [{"arn": REMOTE_ROLE}, {"arn": STRICT_ROLE, "external_id": "agreed-word"}],
    "clusters": [
        {
            "identifier": "prod",
            "manage_master_password": True,
            # A loopback address of its own stands for a custom domain, which shares the port but not the name.
            "custom_domain": "127.0.0.11",
            "vpc_endpoints": ["from-vpc"],
            "database": {
                "name": "dwh",
                "users": ["etl", "bi"],
                "groups": ["loaders"],
                "sql": "CREATE TABLE secrets_of_loaders (id int); GRANT ALL ON secrets_of_loaders TO GROUP loaders;",
            },
            "tags": {
                "airflow:conn-id": "analytics reporting newcomer by-iam by-secret by-connector by-domain by-vpc named",
                **{f"airflow:db-user/{conn_id}": "etl" for conn_id in AS_ETL},
                "airflow:db-user/reporting": "bi",
                "airflow:db-user/newcomer": "newcomer",
                "airflow:auto-create/newcomer": "true",
                "airflow:db-groups/newcomer": "loaders",
                "airflow:auth/by-iam": "iam",
                "airflow:auth/by-secret": "secret",
                "airflow:auth/by-connector": "connector",
                "airflow:endpoint/by-domain": "custom-domain",
                "airflow:endpoint/by-vpc": "vpc:from-vpc",
                "airflow:extra.application_name/named": "nightly",
            },
        },
        {
            "identifier": "remote",
            "region": "us-east-1",
            "account": "222222222222",
            "database": {"name": "dwh", "users": ["etl"]},
            "tags": {
                "airflow:conn-id": "remote remote-iam",
                "airflow:db-user/remote": "etl",
                "airflow:auth/remote-iam": "iam",
            },
        },
        {
            "identifier": "strict",
            "account": "333333333333",
            "database": {"name": "dwh", "users": ["etl"]},
            "tags": {"airflow:conn-id": "strict", "airflow:db-user": "etl"},
        },
    ],
    "workgroups": [
        {
            "name": "adhoc",
            "namespace": "adhoc-data",
            "manage_admin_password": True,
            "custom_domain": "127.0.0.12",
            "vpc_endpoints": ["from-vpc"],
            "database": "scratch",
            "tags": {
                "airflow:conn-id": "serverless serverless-secret serverless-connector serverless-domain serverless-vpc",
                "airflow:auth/serverless-secret": "secret",
                "airflow:auth/serverless-connector": "connector",
                "airflow:endpoint/serverless-domain": "custom-domain",
                "airflow:endpoint/serverless-vpc": "vpc:from-vpc",
            },
        }
    ],
}

SETTINGS = {
    "regions": ["eu-west-1"],
    "accounts": [
        {"role_arn": REMOTE_ROLE, "regions": ["us-east-1"]},
        {"role_arn": STRICT_ROLE, "external_id": "agreed-word"},
    ],
    "allow_admin_secret": True,
    "aws_timeout_seconds": PATIENCE_SECONDS,
}

MakeBroker = Callable[..., Broker]


@pytest.fixture(scope="package")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="package")
def shared_stand_in(clock: Clock) -> Iterator[StandIn]:
    with StandIn(config.parse(WAREHOUSES), clock=clock) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    """The stand-in of the test module, or the shared one."""
    warehouses = getattr(request.module, "WAREHOUSES", None)
    if warehouses is None:
        yield request.getfixturevalue("shared_stand_in")
    else:
        with StandIn(config.parse(warehouses)) as stand_in:
            yield stand_in


@pytest.fixture
def stand_in(running: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The stand-in without faults or counts, with the environment that makes AWS clients find it."""
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    running.aws.calls.clear()
    yield running
    running.aws.faults.clear()


@pytest.fixture(scope="package")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis(redis_server: RedisServer) -> str:
    """The URL of an empty Redis."""
    with redis_server.admin() as admin:
        admin.flushall()
    return redis_server.url


@pytest.fixture
def make_broker(stand_in: StandIn, clock: Clock) -> MakeBroker:
    """Create brokers with their own caches: each is like a new process."""

    def make(**changes: Any) -> Broker:
        settings = Settings.from_kwargs({**SETTINGS, **changes})
        aws = AwsClient(settings, clock=clock)
        seconds = settings.aws_timeout_seconds
        refresher = Refresher(timeout_seconds=seconds, clock=clock, rand=lambda: 0.0)
        return Broker(settings, aws, refresher, mask=lambda _password, _expires_at: None, metrics=NoMetrics())

    return make


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch.setattr)


@pytest.fixture(autouse=True)
def no_session_of_an_earlier_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 keeps one session for a process, with the keys of the stand-in that was there when it was first used."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
