"""Amazon MWAA: what its images preset, its credentials endpoint, and a worker whose 80 tasks start together, each with nothing in
memory. Read off the images' source, https://github.com/aws/amazon-mwaa-docker-images (2.11.2, 3.0.6, 3.2.1 and 3.3.1)."""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.utils import ContainerMetadataFetcher

from redshift_secrets.local.stand_in import StandIn
from tests.e2e.conftest import LIST, MINT_WITH_IAM
from tests.e2e.processes import Process, all_at_once, look_up
from tests.support.airflow_parts import VERSION

pytestmark = pytest.mark.airflow

WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {"name": "dwh", "users": ["etl"]},
            "tags": {"airflow:conn-id": "analytics aws_default"},
        }
    ]
}
ROLE = "arn:aws:sts::123456789012:assumed-role/mwaa-execution/worker"

TASKS = 80
"""The most that a worker of the largest class runs at a time."""
FEW = 8
"""One process asks for all of them. Where the machine is so busy that the store is locked for too long, a few more do."""
STEADY, BURST = 80, 120
"""Requests a second that the endpoint answers, and at once; then it answers with 429."""

PRESET = json.dumps({"connections_lookup_pattern": "^(?!aws_default$).*$"})
PRESETS = {
    "AIRFLOW__SECRETS__BACKEND_KWARGS": PRESET,
    "AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS": PRESET,  # on Airflow 3
    "AIRFLOW__CORE__EXECUTE_TASKS_NEW_PYTHON_INTERPRETER": "True",
    "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
    "AWS_EXECUTION_ENV": "Amazon_MWAA_331",
}


class Endpoint:
    """The credentials endpoint of a container: counts its requests, and refuses those over its limit, or the first few."""

    def __init__(self, stand_in: StandIn) -> None:
        self.times: list[float] = []
        self.refused = 0
        self.busy_for = 0
        key_id, secret, token = stand_in.aws.add_access_key(ROLE)
        answer = {
            "AccessKeyId": key_id,
            "SecretAccessKey": secret,
            "Token": token,
            "Expiration": "2099-01-01T00:00:00Z",
        }
        lock, endpoint = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the name that the server looks for
                with lock:
                    allowed = endpoint._allows()
                self.send_response(200 if allowed else 429)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode() if allowed else b"Too Many Requests")

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 1024

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _allows(self) -> bool:
        self.times.append(time.monotonic())
        room = BURST
        for before, after in zip(self.times, self.times[1:], strict=False):
            room = min(BURST, room - 1 + (after - before) * STEADY)
        allowed = room >= 1 and len(self.times) > self.busy_for
        self.refused += not allowed
        return allowed

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """The environment of an MWAA container, whose only credentials are those of the endpoint."""
    for name in [
        name for name in os.environ if name.startswith(("AWS_ACCESS", "AWS_SECRET", "AWS_SESSION", "AWS_PROFILE"))
    ]:
        monkeypatch.delenv(name)
    endpoint = Endpoint(stand_in)
    monkeypatch.setattr(ContainerMetadataFetcher, "IP_ADDRESS", endpoint.address)
    monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/one")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    yield endpoint
    endpoint.stop()


def task() -> Any:
    return look_up(regions=["eu-west-1"], connections_lookup_pattern="^(?!aws_default$).*$")


@pytest.mark.parametrize("busy_for", [0, 2])
def test_80_cold_tasks_ask_the_credentials_endpoint_a_few_times_at_most(
    endpoint: Endpoint, stand_in: StandIn, busy_for: int
) -> None:
    endpoint.busy_for = busy_for  # others of the container have used up what it allows
    outcomes = collections.Counter(all_at_once([Process(task) for _ in range(TASKS)]))
    assert set(outcomes) <= {(token.user, token.password) for token in stand_in.tokens.minted()}
    calls = stand_in.aws.calls.by_operation()
    assert 1 <= calls[LIST] <= FEW
    assert 1 <= calls[MINT_WITH_IAM] <= FEW
    assert len(endpoint.times) <= busy_for + FEW
    assert endpoint.refused == busy_for
    outcomes = collections.Counter(all_at_once([Process(task) for _ in range(TASKS)]))
    assert len(outcomes) <= FEW
    assert len(endpoint.times) <= busy_for + FEW, "tasks that find everything in the host store need no credentials"


SITE = """
import json, sys

from airflow.configuration import initialize_secrets_backends
from airflow import secrets

paths = [getattr(secrets, name, None) for name in ("DEFAULT_SECRETS_SEARCH_PATH", "DEFAULT_SECRETS_SEARCH_PATH_WORKERS")]
found = {}
for name, path in zip(("servers", "workers"), paths):
    if path is None:
        continue
    backend = initialize_secrets_backends(*[path] * (name == "workers"))[0]  # Airflow 2 takes no argument
    connections = [backend.get_connection(conn_id) for conn_id in sys.argv[1:]]
    found[name] = [type(backend).__name__, [each and each.login for each in connections]]
print(json.dumps(found))
"""


def site(stand_in: StandIn, folder: Path, *conn_ids: str, **options: str) -> tuple[dict[str, Any], str]:
    """Return the class of the first backend of servers and workers and what it finds, and what was logged."""
    environment = {
        **os.environ,
        **stand_in.environment(),
        **PRESETS,
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AIRFLOW_HOME": str(folder),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **options,
    }
    done = subprocess.run(
        [sys.executable, "-c", SITE, *conn_ids],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stdout + done.stderr


WORKERS = ("workers",) if VERSION >= (3, 0) else ()


def test_with_the_preset_kwargs_alone_all_but_aws_default_is_looked_up(stand_in: StandIn, tmp_path: Path) -> None:
    backend = {"AIRFLOW__SECRETS__BACKEND": "redshift_secrets.RedshiftSecretsBackend"}
    found, logged = site(stand_in, tmp_path, "aws_default", "analytics", **backend)
    expected = ["RedshiftSecretsBackend", [None, "IAM:airflow"]]
    assert found == dict.fromkeys(("servers", *WORKERS), expected)
    assert "ERROR" not in logged
    assert "Invalid backend_kwargs" not in logged


def test_kwargs_of_the_environment_replace_the_preset_ones_for_the_workers_too(
    stand_in: StandIn, tmp_path: Path
) -> None:
    options = {
        "AIRFLOW__SECRETS__BACKEND": "redshift_secrets.RedshiftSecretsBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"managed_conn_ids": "analytics$", "db_user": "etl"}),
    }
    found, _ = site(stand_in, tmp_path, "aws_default", "analytics", **options)
    expected = ["RedshiftSecretsBackend", [None, "IAM:etl"]]
    assert found == dict.fromkeys(("servers", *WORKERS), expected)
