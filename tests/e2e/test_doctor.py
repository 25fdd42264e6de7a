"""`redshift-secrets doctor` as a user runs it: on a terminal, in a pipe, for a program, with AWS silent and with secrets everywhere."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy
from airflow.models import Connection
from cryptography.fernet import Fernet
from sqlalchemy.orm import Session

from redshift_secrets.local.stand_in import StandIn
from redshift_secrets.operations.doctor import CHECKS
from tests.e2e import commands
from tests.support.airflow_parts import VERSION, backend_environment, from_airflow_3_0
from tests.support.terminals import OnATerminal

pytestmark = pytest.mark.airflow

Run = Callable[..., subprocess.CompletedProcess[str]]

ROLE = "arn:aws:iam::222222222222:role/airflow-remote"
WAREHOUSES = {
    "roles": [{"arn": ROLE}],
    "clusters": [
        {
            "identifier": "prod",
            "database": {"name": "dwh", "users": ["etl"]},
            "tags": {"airflow:conn-id": "analytics", "airflow:db-user": "etl"},
        },
        {"identifier": "remote", "account": "222222222222", "tags": {"airflow:conn-id": "remote"}},
        {"identifier": "bare", "region": "eu-west-3"},
    ],
    "workgroups": [{"name": "adhoc", "tags": {"airflow:conn-id": "adhoc"}}],
}
SETTINGS = {
    "regions": ["eu-west-1", "eu-west-3"],
    "db_user": "etl",
    "managed_conn_ids": "^(analytics|adhoc|remote|old)",
}


@pytest.fixture
def environment(stand_in: StandIn, tmp_path: Path) -> dict[str, str]:
    return {**os.environ, **backend_environment(**SETTINGS), "AIRFLOW_HOME": str(tmp_path)}


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    return functools.partial(commands.run, environment=environment)


def verdicts(done: subprocess.CompletedProcess[str], check: str) -> list[tuple[str, str]]:
    """Return the verdicts of a check and their texts."""
    found = json.loads(done.stdout)
    assert [each["check"] for each in found] == sorted((each["check"] for each in found), key=CHECKS.index)
    return [(each["verdict"], each["message"]) for each in found if each["check"] == check]


def test_a_site_that_serves(run: Run, stand_in: StandIn, environment: dict[str, str]) -> None:
    environment |= backend_environment(**SETTINGS, accounts=[{"role_arn": ROLE}])
    done = run("doctor", "-o", "json")
    found = json.loads(done.stdout)
    assert {each["verdict"] for each in found} <= {"ok", "warning"}, done.stdout
    assert done.returncode == 0
    assert {each["check"] for each in found} == set(CHECKS)
    assert verdicts(done, "caller") == [("ok", "arn:aws:iam::123456789012:user/airflow (from environment variables)")]
    assert (
        "warning",
        "in eu-west-3 as arn:aws:iam::123456789012:user/airflow: 1 cluster and 0 workgroups seen, 0 carry airflow:conn-id",
    ) in verdicts(done, "warehouses")
    assert f"in eu-west-1 as {ROLE}: 1 cluster and 0 workgroups seen, 1 carries airflow:conn-id" in done.stdout
    assert "3 of 3 logins minted, of 3 warehouses" in done.stdout
    assert len(stand_in.tokens.minted()) == 3
    for token in stand_in.tokens.minted():
        assert token.password not in done.stdout + done.stderr
    assert verdicts(done, "tls")[0][1].startswith("3 endpoints of warehouses accept connections")


@pytest.mark.parametrize("columns", [80, 200])
def test_on_a_terminal(environment: dict[str, str], columns: int) -> None:
    terminal = OnATerminal([*commands.COMMAND, "doctor"], environment, columns)
    assert terminal.end() == 0, terminal.raw
    assert re.search(
        r"(listing|reaching AWS|trying permissions|minting|connecting) \d+ of \d+", terminal.raw
    )  # and gone in the end
    assert "\x1b[32mok" in terminal.raw
    *shown, summary = terminal.shown.rstrip("\n").split("\n")
    assert not re.search(r"\d of \d+$", terminal.shown, re.MULTILINE)
    assert re.fullmatch(r"\d warnings?", summary)
    for line in shown:
        assert len(line) <= columns or " " not in line.strip()
    # A line that was broken begins again further in.
    joined = re.sub(r"\n +", " ", "\n".join(shown)).split("\n")
    assert {line.split()[0] for line in joined} == set(CHECKS)
    assert {line.split()[1] for line in joined} <= {"ok", "warning"}
    assert re.search(
        r"^warehouses +ok +in eu-west-1 as arn:aws:iam::123456789012:user/airflow: 1 cluster and 1 workgroup seen, 2 carry"
        r" airflow:conn-id$",
        "\n".join(joined),
        re.MULTILINE,
    )
    assert any(line.startswith("    ") for line in shown)


def test_ctrl_c_ends_at_once_while_aws_is_silent(environment: dict[str, str], stand_in: StandIn) -> None:
    stand_in.aws.faults.add(operation="*", kind="black_hole")
    terminal = OnATerminal([*commands.COMMAND, "doctor"], environment, 80)
    terminal.await_text("reaching AWS")
    terminal.interrupt()
    if not terminal.has_ended(15):
        terminal.interrupt()  # Python drops one that comes while it runs a finalizer
    assert terminal.end(30) == 130, terminal.raw
    assert "Traceback" not in terminal.raw


def test_a_metadata_database_and_an_airflow_cfg(run: Run, environment: dict[str, str], tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/metadata.db"
    engine = sqlalchemy.create_engine(database)
    Connection.metadata.create_all(engine, tables=[Connection.__table__])
    with Session(engine) as session:
        for conn_id in ("analytics", "old_dwh", "other_db"):
            session.add(Connection(conn_id=conn_id, conn_type="redshift", login="me", password="planted"))
        session.commit()
    engine.dispose()
    kwargs = environment.pop("AIRFLOW__SECRETS__BACKEND_KWARGS")
    del environment["AIRFLOW__SECRETS__BACKEND"]
    config = f"""
[database]
sql_alchemy_conn = {database}
[secrets]
backend = redshift_secrets.RedshiftSecretsBackend
backend_kwargs = {kwargs}
"""
    (tmp_path / "airflow.cfg").write_text(config, encoding="utf-8")
    del environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    environment |= {"AIRFLOW_CONN_ADHOC": "redshift://me:planted@old/", "AIRFLOW_CONN_OTHER": "http://me:planted@x/"}
    environment |= {"AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS": '{"regions": []}'}
    done = run("doctor", "-o", "json", "--region", "eu-west-1")
    assert done.returncode == 1
    configuration = verdicts(done, "configuration")
    file = tmp_path / "airflow.cfg"
    assert configuration[0] == ("ok", f"[secrets] backend = redshift_secrets.RedshiftSecretsBackend, from {file}")
    assert any(text.startswith(f"from {file}: aws_timeout_seconds = 300; cache = {{") for _, text in configuration)
    assert ("ok", "from --region: regions = eu-west-1") in configuration
    if VERSION >= (3, 0):
        assert (
            "warning",
            "AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS has no effect: [workers] secrets_backend is not set. Remove it",
        ) in (configuration)
    shadowed, refused = verdicts(done, "stored")
    assert shadowed[0] == "warning"
    assert "2 stored connections no longer used" in shadowed[1]
    assert "AIRFLOW_CONN_ADHOC in environment variables; 'analytics' in the metadata database" in shadowed[1]
    assert refused[0] == "problem"
    assert "1 stored connection refused" in refused[1]
    assert "'old_dwh' in the metadata database" in refused[1]
    assert "planted" not in done.stdout + done.stderr


@from_airflow_3_0
def test_a_worker_that_asks_the_api_server(run: Run, environment: dict[str, str]) -> None:
    environment |= {
        "AIRFLOW__SECRETS__BACKEND": "",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": "",
        "AIRFLOW__WORKERS__SECRETS_BACKEND": "redshift_secrets.ServerSideBackend",
    }
    done = run("doctor", "-o", "json")
    assert done.returncode == 0
    ((status, message),) = verdicts(done, "airflow")
    assert status == "warning"
    assert "Run doctor where the API server runs" in message


@pytest.mark.parametrize("output", ["terminal", "json"])
def test_no_secret_of_the_settings_or_the_environment_is_shown(
    run: Run, environment: dict[str, str], stand_in: StandIn, output: str
) -> None:
    key = "planted" + 35 * "n" + "A="
    Fernet(key)
    environment |= backend_environment(
        **SETTINGS,
        role_arn=ROLE,
        external_id="planted-external-id",
        accounts=[{"role_arn": ROLE.replace("remote", "other"), "external_id": "planted-external-id-2"}],
        config={"proxies": {"https": "http://me:planted-proxy@127.0.0.1:1"}, "retries": {"total_max_attempts": 1}},
        extra={"sslpassword": "planted-extra"},
        cache={"key": key, "redis_url": "redis://me:planted%2Fredis@127.0.0.1:1/0"},
        fallback=[{"backend": "a.module.Vault", "backend_kwargs": {"token": "planted-token"}}],
    )
    secret = environment["AWS_SECRET_ACCESS_KEY"]
    environment |= {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg2://me:planted-database@127.0.0.1:1/airflow",
        "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
        "AIRFLOW_CONN_ANALYTICS": "redshift://me:planted-connection@h/",
        "HTTPS_PROXY": "http://me:planted-proxy@127.0.0.1:1",
    }
    if output == "terminal":
        terminal = OnATerminal([*commands.COMMAND, "doctor"], environment, 200)
        assert terminal.end() == 1
        text = terminal.raw
    else:
        done = run("doctor", "-o", output)
        assert done.returncode == 1
        text = done.stdout + done.stderr
    assert "external_id = ***" in text
    assert "external_id: ***" in text
    assert "redis://127.0.0.1:1/0" in text
    assert "the metadata database (postgresql at 127.0.0.1:1) cannot be read: OperationalError" in text
    for planted in ("planted", secret, environment["AIRFLOW__CORE__FERNET_KEY"]):
        assert planted not in text
