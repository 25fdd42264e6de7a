"""`redshift-secrets` as a user runs it: real processes, real exit codes."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from redshift_secrets.local.stand_in import StandIn
from tests.e2e import commands
from tests.support.airflow_parts import backend_environment, from_airflow_3_0

pytestmark = pytest.mark.airflow

Run = Callable[..., subprocess.CompletedProcess[str]]

WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {"name": "dwh", "users": ["etl", "bi"]},
            "tags": {
                "airflow:conn-id": "analytics bi/reporting shared broken nobody for-libpq",
                "airflow:db-user": "etl",
                "airflow:db-user/bi/reporting": "bi",
                "airflow:db-user/nobody": "never_created",
                "airflow:duration/broken": "fast",
                "airflow:conn-type/for-libpq": "postgres",
                "airflow:extra.cursor/for-libpq": "dictcursor",
                "airflow:extra.keepalives_idle/for-libpq": "30",
                "airflow:db-usr": "typo",
            },
        },
        {"identifier": "rival", "tags": {"airflow:conn-id": "shared"}},
        {"identifier": "asleep", "status": "paused", "tags": {"airflow:conn-id": "sleeping"}},
    ],
    "workgroups": [{"name": "adhoc", "tags": {"airflow:conn-id": "adhoc"}}],
}


@pytest.fixture
def environment(stand_in: StandIn, tmp_path: Path) -> dict[str, str]:
    return {**os.environ, **backend_environment(), "AIRFLOW_HOME": str(tmp_path)}


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    return functools.partial(commands.run, environment=environment)


def test_list_as_json(run: Run) -> None:
    done = run("list", "-o", "json")
    assert done.returncode == 1  # there are problems
    rows = {(row["conn_id"], row["warehouse"]): row for row in json.loads(done.stdout)}
    assert rows["analytics", "cluster prod"] == {
        "conn_id": "analytics",
        "warehouse": "cluster prod",
        "account": "123456789012",
        "region": "eu-west-1",
        "database": "dwh",
        "user": "etl",
        "auth": "db-user",
        "state": "available",
        "problems": rows["analytics", "cluster prod"]["problems"],
    }
    assert "did you mean 'db-user'" in rows["analytics", "cluster prod"]["problems"]
    assert rows["bi/reporting", "cluster prod"]["user"] == "bi"
    assert "must be a whole number" in rows["broken", "cluster prod"]["problems"]
    assert "also claimed by cluster rival" in rows["shared", "cluster prod"]["problems"]
    assert "also claimed by cluster prod" in rows["shared", "cluster rival"]["problems"]
    assert rows["sleeping", "cluster asleep"]["state"] == "paused"
    assert rows["sleeping", "cluster asleep"]["problems"] == "does not accept logins now: paused"
    assert rows["adhoc", "workgroup adhoc"]["problems"] == ""
    assert rows["adhoc", "workgroup adhoc"]["user"] == "(IAM identity)"


def test_what_airflow_logs_is_not_among_the_json(run: Run, environment: dict[str, str]) -> None:
    environment["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "DEBUG"
    assert json.loads(run("list", "-o", "json").stdout)


def test_list_as_table_yaml_and_plain(run: Run) -> None:
    table, plain = run("list"), run("list", "--output", "plain")
    for done in (table, plain):
        assert done.returncode == 1
        header = done.stdout.splitlines()[0].split()
        assert header == "conn_id warehouse account region database user auth state problems".split()
    rows = yaml.safe_load(run("list", "-o", "yaml").stdout)
    assert {row["conn_id"] for row in rows} >= {"analytics", "adhoc"}


def test_list_is_incomplete_where_something_cannot_be_listed(run: Run, stand_in: StandIn) -> None:
    stand_in.aws.faults.add(operation="redshift-serverless:*", kind="access_denied")
    stand_in.aws.faults.add(operation="resourcegroupstaggingapi:*", kind="access_denied")
    done = run("list", "-o", "json")
    assert done.returncode == 4
    assert "Serverless workgroups in eu-west-1 could not be listed" in done.stderr
    assert any(row["conn_id"] == "analytics" for row in json.loads(done.stdout))
    for command in (("show", "adhoc"), ("test", "adhoc"), ("exec", "adhoc", "--", "true")):
        done = run(*command)
        assert done.returncode == 4, command
        assert "no tag that can be seen claims the conn_id 'adhoc', but Serverless workgroups in" in done.stderr


def test_list_fails_with_one_sentence_when_nothing_can_be_listed(run: Run, stand_in: StandIn) -> None:
    stand_in.aws.faults.add(operation="*", kind="access_denied")
    done = run("list")
    assert done.returncode == 1
    assert "no warehouse could be listed" in done.stderr


def test_show_names_the_source_of_every_field(run: Run) -> None:
    done = run("show", "bi/reporting", "-o", "json")
    assert done.returncode == 0
    fields = {row["field"]: (row["value"], row["source"]) for row in json.loads(done.stdout)}
    assert fields["user"] == ("bi", "tag airflow:db-user/bi/reporting")
    assert fields["database"] == ("dwh", "default: the cluster's own database")
    assert fields["auth"][0] == "db-user"
    assert "did you mean 'db-user'" in done.stderr


@pytest.mark.parametrize(
    ("conn_id", "code", "reason"),
    [
        ("broken", 1, "must be a whole number"),
        ("shared", 1, "claimed by 2 warehouses"),
        ("sleeping", 1, "paused"),
        ("nowhere", 3, "no tag claims the conn_id 'nowhere'"),
    ],
)
def test_show_and_its_exit_codes(run: Run, conn_id: str, code: int, reason: str) -> None:
    done = run("show", conn_id)
    assert done.returncode == code
    assert reason in done.stderr


@pytest.mark.parametrize(("conn_id", "user"), [("bi/reporting", "bi"), ("for-libpq", "etl")])
def test_test_connects_and_times_each_step(run: Run, stand_in: StandIn, conn_id: str, user: str) -> None:
    done = run("test", conn_id)
    assert done.returncode == 0, done.stderr
    for step in ("discovery", "mint", "TCP", "TLS", "login", "query"):
        assert re.search(rf"^{step}.* \d+\.\d ms$", done.stdout, re.MULTILINE), step
    assert f"logged in to database dwh as {user}" in done.stdout
    for token in stand_in.tokens.minted():
        assert token.password not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("conn_id", "code", "reason"),
    [
        ("nobody", 1, "never_created"),
        ("sleeping", 1, "is paused"),
        ("shared", 1, "cluster rival"),
        ("nowhere", 3, "no tag claims"),
    ],
)
def test_test_says_why_it_does_not_connect(run: Run, conn_id: str, code: int, reason: str) -> None:
    done = run("test", conn_id)
    assert done.returncode == code
    assert reason in done.stdout + done.stderr


def test_all_mistakes_in_the_settings_are_reported_at_once(run: Run, environment: dict[str, str]) -> None:
    environment["AIRFLOW__SECRETS__BACKEND_KWARGS"] = (
        '{"region": "eu-west-1", "duration_seconds": 899, "auth": "magic"}'
    )
    done = run("list")
    assert done.returncode == 2
    for mistake in ("region: unknown setting", "duration_seconds must be between 900 and 3600", "auth must be one of"):
        assert mistake in done.stderr


def test_an_airflow_without_this_backend(run: Run, environment: dict[str, str]) -> None:
    del environment["AIRFLOW__SECRETS__BACKEND"]
    done = run("list")
    assert done.returncode == 2
    assert "backend = redshift_secrets.RedshiftSecretsBackend" in done.stderr


@from_airflow_3_0
def test_the_backend_of_the_workers_is_found_too(run: Run, environment: dict[str, str]) -> None:
    environment["AIRFLOW__WORKERS__SECRETS_BACKEND"] = environment.pop("AIRFLOW__SECRETS__BACKEND")
    environment["AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS"] = environment.pop("AIRFLOW__SECRETS__BACKEND_KWARGS")
    done = run("list", "-o", "json")
    assert any(row["conn_id"] == "analytics" for row in json.loads(done.stdout))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_local_up_prints_what_to_export_and_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "warehouses.yaml"
    file.write_text("clusters: [{identifier: mine, tags: {airflow:conn-id: mine, airflow:db-user: me}}]\n")
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
        assert process.wait(300) == 0
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
