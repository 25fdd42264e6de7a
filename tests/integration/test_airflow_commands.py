"""Airflow's own commands, with and without a reachable metadata database."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from redshift_secrets.local.stand_in import StandIn
from tests.integration.site import LIST, MINT_WITH_IAM, airflow_site, aws_rights
from tests.support.airflow_parts import backend_environment
from tests.support.airflow_site import airflow_version
from tests.support.host_store import HOST_STORE

pytestmark = pytest.mark.airflow

DATABASES = {
    "reachable": {},
    "unreachable": {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg2://airflow@127.0.0.1:1/airflow"},
}
COMMANDS = {
    "get": ("connections", "get", "by-iam", "-o", "plain"),
    "test": ("connections", "test", "by-iam"),
    "secrets": ("providers", "secrets", "-o", "plain"),
    "config": ("config", "list", "--section", "secrets"),
}
if airflow_version() >= (3, 2):  # older versions show values without it
    COMMANDS["config"] += ("--show-values",)

databases = pytest.mark.parametrize("database", DATABASES)


class Outcomes(NamedTuple):
    """The result of each command with each database, each on its own host, and the calls of AWS."""

    done: dict[tuple[str, str], subprocess.CompletedProcess[str]]
    calls: dict[str, int]

    def printed(self, command: str, database: str) -> str:
        done = self.done[command, database]
        assert done.returncode == 0, done
        return done.stdout


@pytest.fixture(scope="module")
def outcomes(stand_in: StandIn) -> Iterator[Outcomes]:
    environment = {**backend_environment(), "AIRFLOW__CORE__TEST_CONNECTION": "Enabled"}
    with airflow_site(stand_in, **environment) as airflow, ThreadPoolExecutor(2) as threads:

        def completed(which: tuple[str, str]) -> subprocess.CompletedProcess[str]:
            command, database = which
            host = airflow.home / f"{command}-{database}"
            changes = {**DATABASES[database], **aws_rights(stand_in, host.name), HOST_STORE: str(host)}
            return airflow.completed("airflow", *COMMANDS[command], changes=changes)

        each = [(command, database) for command in COMMANDS for database in DATABASES]
        done = dict(zip(each, threads.map(completed, each), strict=True))
        yield Outcomes(done, stand_in.aws.calls.by_operation())


@databases
def test_connections_get(outcomes: Outcomes, database: str) -> None:
    assert f"IAMR:get-{database}" in outcomes.printed("get", database).split()


@databases
def test_connections_test(outcomes: Outcomes, database: str) -> None:
    assert "Connection success!" in outcomes.printed("test", database)


@databases
def test_providers_secrets(outcomes: Outcomes, database: str) -> None:
    assert "redshift_secrets.RedshiftSecretsBackend" in outcomes.printed("secrets", database).split()


@databases
def test_config_list(outcomes: Outcomes, database: str) -> None:
    assert "backend = redshift_secrets.RedshiftSecretsBackend" in outcomes.printed("config", database)


def test_only_commands_that_look_up_a_connection_call_aws(outcomes: Outcomes) -> None:
    looked_up = len(DATABASES) * len(("get", "test"))
    assert outcomes.calls[MINT_WITH_IAM] == looked_up
    assert outcomes.calls[LIST] == looked_up
