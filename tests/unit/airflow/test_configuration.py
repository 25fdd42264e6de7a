"""What is read of the installed Airflow, with its own modules; `make matrix` does so in each version."""

from __future__ import annotations

import asyncio
import importlib

import pytest
from cryptography.fernet import Fernet

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.airflow import configuration, connection, refusals
from tests.support import airflow_parts
from tests.support.airflow_parts import VERSION, Refusal, ServerConnection, from_airflow_3_0
from tests.support.fakes import cluster
from tests.unit.test_backend import AWKWARD, AwsClient, backend_of

from_airflow_3_1 = pytest.mark.skipif(VERSION < (3, 1), reason="Airflow 3.1 was the first with async_get")
from_airflow_3_2 = pytest.mark.skipif(VERSION < (3, 2), reason="Airflow 3.2 was the first with teams")


@pytest.fixture(autouse=True)
def clean_maskers():
    yield
    airflow_parts.reset_maskers()


def test_a_refusal_is_what_this_airflow_takes_for_final_if_it_has_that():
    refusal = refusals.authoritative_refusal()
    assert refusal is (Refusal if VERSION >= (3, 2) else None)


def test_the_connection_class_of_the_server():
    assert connection.server_connection_class() is ServerConnection


def test_airflow_sets_the_class_of_its_server_where_it_sets_any(monkeypatch):
    for name, value in airflow_parts.backend_environment().items():
        monkeypatch.setenv(name, value)
    backend = importlib.import_module("airflow.configuration").initialize_secrets_backends()[0]
    assert type(backend) is RedshiftSecretsBackend
    assert getattr(backend, "_connection_class", None) is (ServerConnection if VERSION >= (3, 2) else None)


def test_fernet_keys(monkeypatch):
    keys = [Fernet.generate_key().decode() for _ in range(2)]
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", ",".join(keys))
    assert configuration.fernet_keys() == tuple(keys)
    assert not configuration.lacks_fernet_keys()
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    assert configuration.fernet_keys() is None
    assert configuration.lacks_fernet_keys()


def test_a_site_without_this_backend_has_only_those_of_airflow():
    assert not [each for each in configuration.configured_backends() if isinstance(each, RedshiftSecretsBackend)]


@from_airflow_3_0
def test_the_backend_of_the_workers_is_constructed_as_airflow_does_it(monkeypatch):
    monkeypatch.setenv("AIRFLOW__WORKERS__SECRETS_BACKEND", "redshift_secrets.RedshiftSecretsBackend")
    monkeypatch.setenv("AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS", '{"db_user": "of_workers"}')
    assert configuration.configured_backends()[-1].settings.db_user == "of_workers"


@from_airflow_3_1
def test_airflow_awaits_aget_connection(monkeypatch):
    backend = backend_of(AwsClient())
    awaited = []
    aget_connection = backend.aget_connection

    async def recording(conn_id):
        awaited.append(conn_id)
        return await aget_connection(conn_id)

    monkeypatch.setattr(backend, "aget_connection", recording)
    monkeypatch.setattr("airflow.sdk.execution_time.supervisor.ensure_secrets_backend_loaded", lambda: [backend])
    connection = asyncio.run(importlib.import_module("airflow.sdk").Connection.async_get("analytics"))
    assert connection.password == AWKWARD
    assert awaited == ["analytics"]


@from_airflow_3_2
def test_airflows_server_passes_the_team(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    backend = backend_of(
        AwsClient(cluster(tags={"airflow:conn-id": "analytics", "airflow:team": "bi"})), ServerConnection
    )
    monkeypatch.setattr("airflow.configuration.ensure_secrets_loaded", lambda *_args, **_kwargs: [backend])
    assert ServerConnection.get_connection_from_secrets("analytics", team_name="bi").login == "IAM:etl"
    with pytest.raises(Exception, match="isn't defined"):
        ServerConnection.get_connection_from_secrets("analytics", team_name="etl")


@pytest.mark.parametrize(("env", "seconds"), [
    ({}, 0),
    ({"USE_CACHE": "False", "CACHE_TTL_SECONDS": "1200"}, 0),
    ({"USE_CACHE": "True"}, 900),
    ({"USE_CACHE": "True", "CACHE_TTL_SECONDS": "1200"}, 1200),
])  # fmt: skip
def test_how_long_airflow_keeps_answers(monkeypatch, env, seconds):
    for name, value in env.items():
        monkeypatch.setenv(f"AIRFLOW__SECRETS__{name}", value)
    assert configuration.airflow_cache_ttl_seconds() == seconds


SERVERS = [
    ["/usr/bin/airflow", "scheduler"],
    ["-m", "api-server", "--port", "8080"],
    ["airflow", "celery", "worker"],
    ["airflow", "dag-processor"],
]
OTHERS = [
    ["airflow", "connections", "get", "analytics"],
    ["airflow", "tasks", "run", "a", "b", "c"],
    ["airflow", "dags", "test", "scheduler"],
    ["/usr/lib/execute_workload.py", "--json-string", "{}"],
    ["airflow"],
    [""],
    [],
]


class TestUnboundedClaims:
    """Without `managed_conn_ids`, the log says once, where a server starts, that any conn_id can be claimed."""

    @pytest.fixture
    def warnings(self, monkeypatch, caplog):
        configuration.warn_of_unbounded_claims.cache_clear()

        def warnings(argv, **settings):
            monkeypatch.setattr("sys.argv", argv)
            for _ in range(3):
                RedshiftSecretsBackend(**settings)
            return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

        return warnings

    @pytest.mark.parametrize("argv", SERVERS)
    def test_a_server_warns_once_however_many_backends_airflow_constructs(self, warnings, argv):
        (warning,) = warnings(argv)
        assert "managed_conn_ids is not set, so anybody who can tag a warehouse can claim any conn_id" in warning

    @pytest.mark.parametrize("argv", OTHERS)
    def test_a_task_or_a_command_does_not(self, warnings, argv):
        assert warnings(argv) == []

    def test_with_the_setting_nothing_is_logged(self, warnings):
        assert warnings(SERVERS[0], managed_conn_ids="^dw_") == []

    def test_connections_lookup_pattern_does_not_bound_claims(self, warnings):
        assert len(warnings(SERVERS[0], connections_lookup_pattern="^dw_")) == 1
