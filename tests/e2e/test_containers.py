"""Containers of OpenShift and Docker: a user without a passwd entry and HOME, a read-only root, a `/dev/shm` of 64 MB, a full one
or none. Every lookup is served; with room for a store, all processes share one mint."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from redshift_secrets.local.stand_in import StandIn
from tests.e2e.conftest import MINT
from tests.e2e.patience import PATIENCE_SECONDS
from tests.support import containers
from tests.support.airflow_parts import backend_environment

pytestmark = pytest.mark.airflow

WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {"name": "dwh", "users": ["etl"]},
            "tags": {"airflow:conn-id": "analytics", "airflow:db-user": "etl"},
        }
    ]
}

TASKS = """
import json, logging, os, pwd, sys

logging.basicConfig(level=logging.WARNING, format="%(message)s")
from airflow.configuration import secrets_backend_list

from redshift_secrets import RedshiftSecretsBackend

(backend,) = [each for each in secrets_backend_list if isinstance(each, RedshiftSecretsBackend)]
try:
    pwd.getpwuid(os.getuid())
    sys.exit("this user has a passwd entry")
except KeyError:
    pass
if "HOME" in os.environ or os.access("/", os.W_OK) or os.access("/tmp", os.W_OK):
    sys.exit("not as in a container")


def task():
    found = backend.get_connection("analytics")
    os.write(1, json.dumps([found.login, found.password]).encode() + b"\\n")
    sys.stderr.flush()
    os._exit(0)


# One after the other: who looks up later finds what is stored, or mints.
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        task()
    os.waitpid(pid, 0)
"""
"""Tasks as the LocalExecutor forks them."""

Run = Callable[..., Any]


@pytest.fixture
def run(stand_in: StandIn) -> Iterator[Run]:
    """Run a command in a container whose Airflow has this backend."""
    containers.skip_without_namespaces()
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # not one of the tests, which no other user can read
    folder.chmod(0o755)
    authorities = folder / "ca-bundle.pem"
    shutil.copy(stand_in.environment()["SSL_CERT_FILE"], authorities)

    def in_container(command: list[str], cache: Mapping[str, Any], shared_memory: str = "64 MB", **more: str) -> Any:
        in_use = {name: value.replace("WRITABLE", f"{folder}/writable") for name, value in cache.items()}
        kwargs = {
            "regions": ["eu-west-1"],
            "aws_timeout_seconds": PATIENCE_SECONDS,
            **({"cache": in_use} if cache else {}),
        }
        environment = {
            **stand_in.environment(),
            **backend_environment(),
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(kwargs),
            "SSL_CERT_FILE": str(authorities),
            "PGSSLROOTCERT": str(authorities),
            "AIRFLOW_HOME": f"{folder}/writable/airflow",
            "AWS_EC2_METADATA_DISABLED": "true",
            "TMPDIR": f"{folder}/writable",  # Airflow cannot be imported without such a folder
            "PYTHONPATH": str(containers.ROOT),
            **more,
        }
        return containers.run(command, folder, environment, shared_memory)

    yield in_container
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("shared_memory", "cache", "mints", "warning"),
    [
        ("64 MB", {}, 1, None),
        ("full", {}, 3, "No space left on device"),
        ("read-only", {}, 3, f"there is no home of user {containers.UID}; set cache.path to an absolute path"),
        ("missing", {}, 3, f"there is no home of user {containers.UID}; set cache.path to an absolute path"),
        ("missing", {"path": "WRITABLE/store"}, 1, None),
        ("missing", {"path": "/var/nowhere/store"}, 3, "Read-only file system"),
        ("missing", {"path": "~/store"}, 3, f"there is no home of user {containers.UID}"),
    ],
)
def test_a_lookup_is_served(
    run: Run, stand_in: StandIn, shared_memory: str, cache: dict[str, str], mints: int, warning: str | None
) -> None:
    done = run([sys.executable, "-c", TASKS], cache, shared_memory)
    assert done.returncode == 0, done.stderr
    served = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["')]
    assert len(served) == 3, done.stdout + done.stderr
    assert {(user, password) for user, password in served} <= {
        (token.user, token.password) for token in stand_in.tokens.minted()
    }
    assert stand_in.aws.calls.by_operation()[MINT] == mints
    ours = [
        line
        for line in (done.stdout + done.stderr).splitlines()
        if "host store: " in line or "nothing is cached" in line
    ]
    if warning is None:
        assert ours == []
    else:
        assert all(warning in line for line in ours), ours
        assert 1 <= len(ours) <= 3  # a process that has a store of its own says so once


def test_the_command_logs_in(run: Run) -> None:
    program = [sys.executable, "-m", "redshift_secrets.cli.app"]
    done = run([*program, "test", "analytics"], {})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
