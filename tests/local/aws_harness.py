"""Shared by the tests of the simulated AWS: simulated AWS instances, endpoints and boto3 clients."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from redshift_secrets.local.aws import SimulatedAws
from redshift_secrets.local.config import Warehouses
from redshift_secrets.local.tokens import TokenRegistry
from tests.local.patience import PATIENCE
from tests.support.fakes import EPOCH, Clock

NOW = EPOCH
ACCOUNT, OTHER_ACCOUNT = "123456789012", "210987654321"


class Endpoints(dict[tuple[str, str], tuple[str, int]]):
    def address_of(self, warehouse_arn: str, endpoint: str) -> tuple[str, int] | None:
        return self.get((warehouse_arn, endpoint))


def make_aws(warehouses: Warehouses, *, port: int = 0) -> SimulatedAws:
    """Return a simulated AWS that is not started, without endpoints."""
    clock = Clock()
    return SimulatedAws(warehouses, TokenRegistry(clock), endpoints=Endpoints(), clock=clock, port=port)


def client(aws: SimulatedAws, service: str = "redshift", region: str = "eu-west-1", arn: str | None = None) -> Any:
    """Return a client that does not retry, with a new key of `arn`."""
    return client_with(aws, service, region, *aws.add_access_key(arn or f"arn:aws:iam::{ACCOUNT}:user/team/etl-bot"))


def client_with(
    aws: SimulatedAws, service: str, region: str, key_id: str, secret: str, token: str | None, **config: Any
) -> Any:
    """Return a client with this key; `config` is passed on to botocore."""
    return boto3.client(
        service,
        region_name=region,
        endpoint_url=aws.url,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(**{"retries": {"total_max_attempts": 1}, "read_timeout": PATIENCE, **config}),
    )


def error_code(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    """Return error code and HTTP status."""
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]
