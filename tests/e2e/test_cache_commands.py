"""`redshift-secrets cache` and `flush`, with their output."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.local.stand_in import StandIn
from tests.e2e import commands
from tests.e2e.conftest import MINT
from tests.e2e.processes import fleet
from tests.support.airflow_parts import backend_environment
from tests.support.helpers import forget_memory
from tests.support.redis_servers import KEY, RedisServer

pytestmark = pytest.mark.airflow

WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {"users": ["etl", "bi"]},
            "tags": {
                "airflow:conn-id": "analytics reporting",
                "airflow:db-user": "etl",
                "airflow:db-user/reporting": "bi",
            },
        }
    ]
}


@pytest.fixture(autouse=True)
def airflow(stand_in: StandIn, redis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An Airflow with all tiers, which are empty."""
    for name, value in backend_environment(cache=fleet(redis)).items():
        monkeypatch.setenv(name, value)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return commands.run(*arguments, command=commands.PATIENT_COMMAND)


def backend() -> RedshiftSecretsBackend:
    """Return the backend of a new task, with the settings of the commands, which find what it cached."""
    forget_memory()
    return RedshiftSecretsBackend(**json.loads(os.environ["AIRFLOW__SECRETS__BACKEND_KWARGS"]))


def rows() -> list[dict[str, str]]:
    done = run("cache", "-o", "json")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_empty_tiers(stand_in: StandIn) -> None:
    done = run("cache")
    assert done.returncode == 0
    assert "host: " in done.stdout
    assert "fleet: unix://" in done.stdout
    assert done.stdout.count("no catalog") == 2
    assert stand_in.aws.calls.by_operation().keys() <= {"sts:GetCallerIdentity"}


def test_the_entries_of_each_tier_with_their_ages(stand_in: StandIn) -> None:
    connection = backend().get_connection("analytics")
    found = {(row["tier"], row["conn_id"]): row for row in rows()}
    for tier in ("host", "fleet"):
        assert found[tier, "analytics"]["user"] == "IAM:etl"
        assert found[tier, "analytics"]["credential"].endswith(" s old")
        assert re.fullmatch(r"in \d+ s", found[tier, "analytics"]["refreshed_in"])
        assert re.fullmatch(r"in \d+ s", found[tier, "analytics"]["expires_in"])
        assert found[tier, "reporting"]["credential"] == "none"
    table = run("cache")
    assert table.stdout.count("a catalog of 2 conn_ids") == 2
    assert ", key " in table.stdout
    assert connection.password not in table.stdout + table.stderr
    assert KEY not in table.stdout + table.stderr


def test_flush_one_conn_id_in_every_tier(stand_in: StandIn) -> None:
    for conn_id in ("analytics", "reporting"):
        backend().get_connection(conn_id)
    done = run("flush", "analytics")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "host: cleared the entries of 'analytics'",
        "fleet: cleared the entries of 'analytics'",
    ]
    stand_in.aws.calls.clear()
    backend().get_connection("reporting")
    assert MINT not in stand_in.aws.calls.by_operation()
    backend().get_connection("analytics")
    assert stand_in.aws.calls.by_operation()[MINT] == 1


def test_flush_two_conn_ids_one_after_the_other(stand_in: StandIn) -> None:
    for conn_id in ("analytics", "reporting"):
        backend().get_connection(conn_id)
    for conn_id in ("analytics", "reporting"):
        assert "cleared" in run("flush", conn_id).stdout
    stand_in.aws.calls.clear()
    for conn_id in ("analytics", "reporting"):
        backend().get_connection(conn_id)
    assert stand_in.aws.calls.by_operation()[MINT] == 2
    assert "no shared tier has 'nobody'" in run("flush", "nobody").stdout


def test_a_tier_that_cannot_be_cleared_is_reported(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in backend_environment(cache={"redis_url": "redis://127.0.0.1:1/0", "key": KEY}).items():
        monkeypatch.setenv(name, value)
    done = run("flush")
    assert done.returncode == 1
    assert "fleet: NOT cleared" in done.stdout


def test_a_tier_that_answers_and_takes_nothing_is_not_said_to_be_cleared(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisServer("--replicaof", "127.0.0.1", "1") as replica:
        for name, value in backend_environment(cache={"redis_url": replica.url, "key": KEY}).items():
            monkeypatch.setenv(name, value)
        backend().get_connection("analytics")
        for arguments, what in ((["flush", "analytics"], "the entries of 'analytics'"), (["flush"], "all entries")):
            done = run(*arguments)
            assert done.returncode == 1
            assert done.stdout.splitlines() == [
                f"host: cleared {what}",
                "fleet: NOT cleared, a replica, which cannot be written to",
            ]


def test_a_host_store_that_cannot_be_trusted_is_reported(stand_in: StandIn, host_store: Path) -> None:
    backend().get_connection("analytics")
    host_store.chmod(0o755)
    for arguments in (["flush"], ["flush", "analytics"]):
        done = run(*arguments)
        assert done.returncode == 1
        assert f"host: NOT cleared, {host_store} is open to others" in done.stdout
        assert "fleet: cleared" in done.stdout


def test_the_entries_of_a_caller_whom_sts_does_not_confirm_are_not_said_to_be_gone(stand_in: StandIn) -> None:
    stand_in.aws.faults.add(operation="sts:GetCallerIdentity", kind="access_denied")
    backend().get_connection("analytics")
    done = run("flush", "analytics")
    assert done.returncode == 1
    assert "host: cleared the entries of 'analytics'" in done.stdout
    assert "fleet: NOT cleared, STS does not confirm the caller" in done.stdout


def test_a_flush_where_nothing_is_shared_says_that_it_reached_no_other_process(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in backend_environment(cache={"host": False}).items():
        monkeypatch.setenv(name, value)
    for arguments in (["flush"], ["flush", "analytics"]):
        done = run(*arguments)
        assert done.returncode == 1
        assert "nothing is shared: no host store (cache.host is off)" in done.stdout
        assert "No other process was reached" in done.stdout


def test_flush_everything(stand_in: StandIn) -> None:
    backend().get_connection("analytics")
    assert run("flush").stdout.splitlines() == ["host: cleared all entries", "fleet: cleared all entries"]
    assert rows() == []
    stand_in.aws.calls.clear()
    assert backend().get_connection("analytics") is not None
    assert stand_in.aws.calls.by_operation()[MINT] == 1


def test_a_fleet_without_a_key_does_not_start(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in backend_environment(cache={"redis_url": "redis://127.0.0.1:1/0"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    done = run("list")
    assert done.returncode == 2
    assert "cache.redis_url needs a key" in done.stderr
    assert "Fernet.generate_key()" in done.stderr
