"""What the tests of the simulated AWS share: a clock to move, a directory of endpoints, boto3 clients."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from redshift_secrets.local.aws import SimulatedAws

NOW = 1_700_000_000.0
ACCOUNT, OTHER_ACCOUNT = "123456789012", "210987654321"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Endpoints(dict[tuple[str, str], tuple[str, int]]):
    def address_of(self, warehouse_arn: str, endpoint: str) -> tuple[str, int] | None:
        return self.get((warehouse_arn, endpoint))


def client(aws: SimulatedAws, service: str = "redshift", region: str = "eu-west-1", arn: str | None = None) -> Any:
    """A client that does not retry, with a new key of `arn`."""
    return client_with(aws, service, region, *aws.add_access_key(arn or f"arn:aws:iam::{ACCOUNT}:user/team/etl-bot"))


def client_with(
    aws: SimulatedAws, service: str, region: str, key_id: str, secret: str, token: str | None, **config: Any
) -> Any:
    """A client with this key, and more of botocore's `config`."""
    return boto3.client(
        service,
        region_name=region,
        endpoint_url=aws.url,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(**{"retries": {"total_max_attempts": 1}, "read_timeout": 20, **config}),
    )


def refusal(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    """Error code and HTTP status."""
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]
