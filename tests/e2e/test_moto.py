"""A moto server as it comes: it leaves out fields that AWS has, and knows no Serverless."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from redshift_secrets.aws.client import AwsClient
from redshift_secrets.cache.refresh import Refresher
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.lookup.metrics import NoMetrics
from redshift_secrets.settings import Settings
from tests.e2e.patience import PATIENCE_SECONDS


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    yield
    server.stop()


def test_its_clusters_are_served(moto: None) -> None:
    boto3.client("redshift", region_name="eu-west-1").create_cluster(
        ClusterIdentifier="prod",
        NodeType="ra3.large",
        MasterUsername="admin",
        MasterUserPassword="Passw0rd1",
        DBName="dwh",
        Tags=[{"Key": "airflow:conn-id", "Value": "analytics"}],
    )
    kwargs = {"regions": ["eu-west-1"], "db_user": "etl", "aws_timeout_seconds": PATIENCE_SECONDS}
    settings = Settings.from_kwargs(kwargs)
    refresher = Refresher(timeout_seconds=PATIENCE_SECONDS)
    broker = Broker(
        settings, AwsClient(settings), refresher, mask=lambda _password, _expires_at: None, metrics=NoMetrics()
    )
    found = broker.connection("analytics")
    assert found is not None
    assert (found.login, found.schema, found.port) == ("IAM:etl", "dwh", 5439)
    assert "cluster prod (account 123456789012, eu-west-1)" in found.description
    assert broker.inventory.snapshot().unseen == ()
