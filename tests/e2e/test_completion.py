"""A shell completes commands, options and conn_ids: a real bash, on a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from redshift_secrets.local.stand_in import StandIn
from tests.e2e import commands
from tests.support.airflow_parts import backend_environment
from tests.support.terminals import OnATerminal

pytestmark = pytest.mark.airflow

WAREHOUSES = {"clusters": [{"identifier": "prod", "tags": {"airflow:conn-id": "analytics bi/reporting"}}]}


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The environment of a user's shell, who has nothing of this package at home."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "AIRFLOW_"))}
    return {**kept, "PATH": path, "HOME": str(tmp_path), "AIRFLOW_HOME": str(tmp_path / "airflow")}


def completed(shell: dict[str, str], line: str) -> subprocess.CompletedProcess[str]:
    """Complete the last word of a line as bash would ask for it, in a process that writes what it imports to standard error."""
    asked = {
        "_REDSHIFT_SECRETS_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
        "PYTHONPROFILEIMPORTTIME": "1",
    }
    return subprocess.run(
        commands.COMMAND, env={**shell, **asked}, capture_output=True, text=True, timeout=300, check=False
    )


def test_bash_offers_the_conn_ids_of_the_last_list(stand_in: StandIn, shell: dict[str, str]) -> None:
    Path(shell["AIRFLOW_HOME"]).mkdir()
    environment = {**os.environ, **backend_environment(), "AIRFLOW_HOME": shell["AIRFLOW_HOME"]}
    assert commands.run("list", environment=environment).returncode == 0
    assert (Path(shell["AIRFLOW_HOME"]) / ".redshift-secrets-conn-ids").read_text() == "analytics\nbi/reporting\n"

    installing = OnATerminal(["bash", "-i"], shell, 80)
    installing.type("redshift-secrets --install-completion; exit\n")
    assert installing.end() == 0, installing.raw
    bash = OnATerminal(["bash", "-i"], shell, 80)
    for typed, shown in (
        ("redshift-secrets show ana\t", "show analytics "),
        ("redshift-secrets test bi\t", "test bi/reporting "),
        ("redshift-secrets exec analyt\t", "exec analytics "),
        ("redshift-secrets migr\t", "redshift-secrets migrate "),
        ("redshift-secrets show --no-c\t", "show --no-cache "),
    ):
        bash.type(f"\x15{typed}")  # Ctrl-U empties the line
        bash.await_text(shown)
    bash.type("\x15exit\n")
    bash.end()


def test_it_loads_neither_airflow_nor_boto3_and_asks_nobody(shell: dict[str, str]) -> None:
    home = Path(shell["AIRFLOW_HOME"])
    home.mkdir()
    (home / ".redshift-secrets-conn-ids").write_text("analytics\nadhoc\nbi\n")
    done = completed(shell, "redshift-secrets show a")
    assert (done.returncode, done.stdout.split()) == (0, ["analytics", "adhoc"])
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in loaded
    assert not {"airflow", "boto3", "botocore"} & loaded


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_nothing_is_offered_and_nothing_said_where_nothing_is_known(
    shell: dict[str, str], content: bytes | None
) -> None:
    home = Path(shell["AIRFLOW_HOME"])
    if content is not None:
        home.mkdir()
        (home / ".redshift-secrets-conn-ids").write_bytes(content)
    done = completed(shell, "redshift-secrets show a")
    assert (done.returncode, done.stdout.strip()) == (0, "")
    assert not [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
