"""Fixtures shared by the tests of the simulated AWS and those of the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from redshift_secrets.local.aws import SimulatedAws
from redshift_secrets.local.config import Cluster, Warehouses, Workgroup
from redshift_secrets.local.tokens import TokenRegistry
from tests.local.aws_harness import Endpoints, client
from tests.local.gateway_harness import Harness, running_gateway
from tests.support.fakes import Clock


@pytest.fixture
def tokens(clock: Clock) -> TokenRegistry:
    return TokenRegistry(clock)


@pytest.fixture
def warehouses() -> Warehouses:
    """The warehouses of `aws`; test modules override this."""
    clusters = (Cluster("etl", manage_master_password=True),)
    return Warehouses(clusters=clusters, workgroups=(Workgroup("adhoc"),))


@pytest.fixture
def endpoints() -> Endpoints:
    """The addresses of the warehouses' endpoints; test modules override this."""
    return Endpoints()


@pytest.fixture
def aws(warehouses: Warehouses, tokens: TokenRegistry, endpoints: Endpoints, clock: Clock) -> Iterator[SimulatedAws]:
    with SimulatedAws(warehouses, tokens, endpoints=endpoints, clock=clock) as running:
        yield running


@pytest.fixture
def redshift(aws: SimulatedAws) -> Any:
    return client(aws)


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def admin(harness: Harness) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with harness.login(harness.mint("IAM:awsuser")) as connection:
        yield connection
