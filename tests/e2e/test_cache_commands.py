"""`redshift-secrets cache` and `flush`, and what they say to a person."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from tests.support.airflow_parts import backend_environment
from tests.support.helpers import forget_memory
from tests.support.redis_servers import KEY, RedisServer

COMMAND = str(Path(sys.executable).parent / "redshift-secrets")
MINT = "redshift:GetClusterCredentials"
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


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[StandIn, str]]:
    with StandIn(config.parse(WAREHOUSES)) as stand_in, RedisServer() as redis:
        yield stand_in, redis.url


@pytest.fixture
def stand_in(running: tuple[StandIn, str], monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in, redis = running
    environment = {
        **stand_in.environment(),
        **backend_environment(cache={"redis_url": redis, "key": KEY}),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    run("flush")
    stand_in.aws.calls.clear()
    return stand_in


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [COMMAND, *arguments], env=os.environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr
    return done


def backend() -> RedshiftSecretsBackend:
    """A new task of this site: its settings are the commands' own, so that they see what it left."""
    forget_memory()
    return RedshiftSecretsBackend(**json.loads(os.environ["AIRFLOW__SECRETS__BACKEND_KWARGS"]))


def rows() -> list[dict[str, str]]:
    done = run("cache", "-o", "json")
    assert done.returncode == 0, done.stderr
    return [row for line in done.stdout.splitlines() for row in json.loads(line)]


def test_empty_tiers(stand_in: StandIn) -> None:
    done = run("cache")
    assert done.returncode == 0
    assert "host: " in done.stdout
    assert "fleet: unix://" in done.stdout
    assert done.stdout.count("no catalog") == 2
    assert done.stdout.count("no lookup counted yet") == 2
    assert stand_in.aws.calls.by_operation().keys() <= {"sts:GetCallerIdentity"}


def test_what_is_in_the_tiers_by_conn_id_with_ages(stand_in: StandIn) -> None:
    connection = backend().get_connection("analytics")
    found = {(row["tier"], row["conn_id"]): row for row in rows()}
    for tier in ("host", "fleet"):
        assert found[tier, "analytics"]["user"] == "IAM:etl"
        assert found[tier, "analytics"]["credential"].endswith(" s old")
        assert found[tier, "analytics"]["dies_in"].startswith("in 3")
        assert found[tier, "reporting"]["credential"] == "none"
        assert found[tier, "reporting"]["hits"] == "0"
    backend().get_connection("analytics")
    backend().get_connection("analytics")
    found = {(row["tier"], row["conn_id"]): row for row in rows()}
    assert (found["host", "analytics"]["hits"], found["fleet", "analytics"]["hits"]) == ("2", "0")
    table = run("cache")
    # Each asks for the catalog and for the credential; before there was a store, nobody could count the first miss.
    assert "4 hits and 1 misses since 20" in table.stdout
    assert "0 hits and 2 misses since 20" in table.stdout
    assert "a catalog of 2 conn_ids" in table.stdout
    assert ", key " in table.stdout
    assert connection.password not in table.stdout + table.stderr
    assert KEY not in table.stdout + table.stderr


def test_flush_one_conn_id_in_every_tier(stand_in: StandIn) -> None:
    for conn_id in ("analytics", "reporting"):
        backend().get_connection(conn_id)
    done = run("flush", "analytics")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "host: forgot what was kept of 'analytics'",
        "fleet: forgot what was kept of 'analytics'",
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
        assert "forgot" in run("flush", conn_id).stdout
    stand_in.aws.calls.clear()
    for conn_id in ("analytics", "reporting"):
        backend().get_connection(conn_id)
    assert stand_in.aws.calls.by_operation()[MINT] == 2
    assert "no shared tier knows 'nobody'" in run("flush", "nobody").stdout


def test_a_tier_that_cannot_be_emptied_is_told(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in backend_environment(cache={"redis_url": "redis://127.0.0.1:1/0", "key": KEY}).items():
        monkeypatch.setenv(name, value)
    done = run("flush")
    assert done.returncode == 1
    assert "fleet: NOT emptied" in done.stdout


def test_flush_everything(stand_in: StandIn) -> None:
    backend().get_connection("analytics")
    assert run("flush").stdout.splitlines() == ["host: forgot everything", "fleet: forgot everything"]
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
