"""The audit of many processes that end at once, of each way of authenticating, and of the commands."""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.local.stand_in import StandIn
from tests.e2e import commands
from tests.e2e.processes import SETTINGS, Process, access_key, all_at_once, look_up
from tests.support.airflow_parts import backend_environment

pytestmark = pytest.mark.airflow

PROCESSES = 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def events(stand_in: StandIn, *paths: Path) -> list[dict[str, Any]]:
    """Return the events of these files, which are whole and have no password that AWS minted."""
    content = "".join(path.read_text("utf-8") for path in paths)
    assert [each for each in stand_in.tokens.minted() if each.password in content] == []
    return [json.loads(line) for line in content.splitlines()]


def test_each_of_many_processes_that_end_at_once_leaves_its_line_while_the_file_is_rotated(
    stand_in: StandIn, path: Path
) -> None:
    rights = access_key(stand_in, "worker")
    processes = [Process(lambda: look_up(audit=str(path)), rights) for _ in range(PROCESSES)]
    first, second = processes[: PROCESSES // 2], processes[PROCESSES // 2 :]
    outcomes = all_at_once(first)
    path.rename(path.with_suffix(".1"))
    outcomes += all_at_once(second)
    assert {outcome[0] for outcome in outcomes} == {"IAM:etl"}
    before, after = events(stand_in, path.with_suffix(".1")), events(stand_in, path)
    served = [event["pid"] for event in [*before, *after] if event["event"] == "served"]
    assert sorted(served) == sorted(process.pid for process in processes)
    assert {event["pid"] for event in after} == {process.pid for process in second}
    # One mint for all, which they are known by.
    (mint,) = [event for event in [*before, *after] if event["event"] == "minted"]
    assert {event["password"] for event in [*before, *after]} == {mint["password"]}
    assert {event["tier"] for event in after} == {"host"}


@pytest.mark.parametrize(
    ("conn_id", "user"),
    [("analytics", "IAM:etl"), ("by-iam", r"IAM:\w+"), ("by-secret", r"\w+"), ("by-connector", "etl")],
)
def test_each_way_of_authenticating(
    stand_in: StandIn, path: Path, conn_id: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in access_key(stand_in, "worker").items():
        monkeypatch.setenv(name, value)
    backend = RedshiftSecretsBackend(**SETTINGS, allow_admin_secret=True, audit=str(path))
    connection = backend.get_connection(conn_id)
    *minted, served = events(stand_in, path)
    assert (served["conn_id"], served["warehouse"].rpartition(":")[2]) == (conn_id, "prod")
    assert re.fullmatch(user, served["user"])
    if connection.password is None:
        assert not minted
    else:
        assert connection.password not in path.read_text("utf-8")
        assert len(served["request_id"]) >= 36
        assert [event["request_id"] for event in minted] == [served["request_id"]]
        assert served["caller"] == "arn:aws:iam::123456789012:user/worker"


def test_a_refusal_of_aws_has_its_request(stand_in: StandIn, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in access_key(stand_in, "worker").items():
        monkeypatch.setenv(name, value)
    stand_in.aws.faults.add("redshift:GetClusterCredentials", "access_denied")
    try:
        backend = RedshiftSecretsBackend(**SETTINGS, audit=str(path))
        with pytest.raises(Exception, match="AccessDenied"):
            repr(backend.get_connection("analytics").host)
    finally:
        stand_in.aws.faults.clear()
    (event,) = events(stand_in, path)
    assert (event["event"], event["code"]) == ("refused", "AccessDenied")
    assert event["caller"] == "arn:aws:iam::123456789012:user/worker"
    assert event["request_id"]


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return commands.run(*arguments, command=commands.PATIENT_COMMAND, environment={**os.environ, **environment})


def test_what_the_commands_do_is_written_down_too(stand_in: StandIn, path: Path) -> None:
    site = {**backend_environment(audit=str(path)), **access_key(stand_in, "operator")}
    assert run(site, "test", "analytics").returncode == 0
    assert run(site, "flush").returncode == 0
    assert run(site, "list").returncode in (0, 1)  # the latter where something is wrong with a warehouse
    written = events(stand_in, path)
    found = [(event["event"], event.get("conn_id"), event["process"]) for event in written]
    # The module is the command, in the process of these tests.
    process = found[0][2]
    assert found == [
        ("minted", "analytics", process),
        ("served", "analytics", process),
        ("tested", "analytics", process),
        ("flushed", None, process),
    ]
    assert {event["requested_by"] for event in written} == {pwd.getpwuid(os.getuid()).pw_name}
    assert written[2]["message"] == "connected to database dwh"


def test_a_standard_output_has_the_result_of_a_command_alone(stand_in: StandIn) -> None:
    site = {**backend_environment(audit="stdout"), **access_key(stand_in, "operator")}
    done = commands.run("test", "analytics", environment={**os.environ, **site})
    assert done.returncode == 0, done.stderr
    assert '{"when"' not in done.stdout
    assert done.stderr.count('{"when"') == 3
