"""`redshift-secrets local up` and `down`, as people keep a stand-in running."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.e2e import commands

pytestmark = pytest.mark.airflow

MINE = "clusters: [{identifier: mine, tags: {airflow:conn-id: mine, airflow:db-user: me}}]\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_local_up_prints_what_to_export_and_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "warehouses.yaml"
    file.write_text(MINE)
    process = subprocess.Popen(
        [*commands.COMMAND, "local", "up", "--config", str(file)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
    )
    watchdog = threading.Timer(300, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Then try" in line:
                break
        exported = dict(re.findall(r"^export (\w+)='?([^'\n]*)'?$", "".join(lines), re.MULTILINE))
        home = {"AIRFLOW_HOME": str(tmp_path / "airflow")}
        done = commands.run("list", "-o", "json", environment={**os.environ, **exported, **home})
        assert [row["conn_id"] for row in json.loads(done.stdout)] == ["mine"]
        assert done.returncode == 0
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(300) == 0
        assert rest.splitlines()[-1] == f"unset {' '.join(exported)}"
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    remaining = [path.name for path in tmp_path.iterdir() if path.name.startswith(("redshift-secrets", "pg-"))]
    assert remaining == []


def test_local_up_with_a_file_that_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "warehouses.yaml"
    file.write_text("clusters: [{identifer: mine}]\n")
    done = commands.run("local", "up", "--config", str(file))
    assert done.returncode == 2
    assert "clusters[0]: unknown key 'identifer'" in done.stderr


def test_one_that_runs_in_the_background(tmp_path: Path) -> None:
    (tmp_path / "warehouses.yaml").write_text(MINE)
    env_file = tmp_path / "stand-in.env"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "AIRFLOW_HOME": str(tmp_path / "airflow")}
    up = ("local", "up", "--config", str(tmp_path / "warehouses.yaml"), "--env-file", str(env_file), "--detach")
    assert commands.run("local", "down", environment=environment).returncode == 1
    started = commands.run(*up, environment=environment)
    try:
        assert started.returncode == 0, started.stderr
        assert f"set -a; . {env_file}; set +a" in started.stdout
        assert env_file.stat().st_mode & 0o777 == 0o600
        listed = subprocess.run(
            ["sh", "-c", f'set -a; . {env_file}; set +a; exec {commands.COMMAND[0]} list -o json'],
            env=environment, capture_output=True, text=True, timeout=300, check=True,
        )  # fmt: skip
        assert [row["conn_id"] for row in json.loads(listed.stdout)] == ["mine"]
        again = commands.run(*up, environment=environment)
        assert (again.returncode, "one runs already" in again.stderr) == (2, True)
    finally:
        stopped = commands.run("local", "down", environment=environment)
    assert stopped.returncode == 0
    assert re.search(r"^unset AWS_ENDPOINT_URL .*AIRFLOW__SECRETS__BACKEND_KWARGS$", stopped.stdout, re.MULTILINE)
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"warehouses.yaml", "airflow"}


def test_one_in_the_background_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "other.env").write_text("PASSWORD=mine\n")
    done = commands.run(
        "local", "up", "--detach", "--env-file", str(tmp_path / "other.env"),
        environment={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "was not written by redshift-secrets local up: name another file" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["other.env"]
