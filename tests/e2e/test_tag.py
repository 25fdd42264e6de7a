"""`redshift-secrets tag` and `untag` as a user runs them, on a terminal and in scripts."""

from __future__ import annotations

import functools
import json
import os
import pty
import shlex
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from cryptography.fernet import Fernet

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.local.stand_in import StandIn
from tests.e2e import commands
from tests.support.airflow_parts import backend_environment
from tests.support.helpers import forget_memory

pytestmark = pytest.mark.airflow

Run = Callable[..., subprocess.CompletedProcess[str]]

WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {"name": "dwh", "users": ["etl"]},
            "tags": {"owner": "data"},
            "vpc_endpoints": ["inside"],
        },
        {"identifier": "twin"},
    ],
    "workgroups": [{"name": "adhoc"}, {"name": "twin"}],
}


@pytest.fixture
def environment(stand_in: StandIn) -> dict[str, str]:
    return {**os.environ, **backend_environment(managed_conn_ids="^(analytics|bi|new)")}


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    return functools.partial(commands.run, environment=environment)


@pytest.fixture
def arns(stand_in: StandIn) -> Iterator[dict[str, str]]:
    """ARNs by identifier; afterwards the tags are as they were."""
    states = stand_in.aws._inventory.all()
    yield {state.arn.split(":")[2] + " " + _name(state.config): state.arn for state in states}
    for state in states:
        now = stand_in.aws._inventory.all()
        found = next(each for each in now if each.arn == state.arn)
        stand_in.aws._inventory.change_tags(state.arn, remove=list(found.tags))
        stand_in.aws._inventory.change_tags(state.arn, add=state.tags)


def _name(config: Any) -> str:
    return str(getattr(config, "identifier", None) or config.name)


def tags(stand_in: StandIn, arn: str) -> dict[str, str]:
    return dict(next(state.tags for state in stand_in.aws._inventory.all() if state.arn == arn))


def on_a_terminal(environment: dict[str, str], answer: str, *arguments: str) -> tuple[int, str]:
    """Return the exit code and output of a command that is asked on a terminal."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer.encode())
        done = subprocess.run(
            [*commands.COMMAND, *arguments],
            env=environment,
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("key", ["", Fernet.generate_key().decode()], ids=["same key", "another key"])
def test_a_conn_id_is_there_right_after_it_was_tagged(
    key: str,
    run: Run,
    stand_in: StandIn,
    environment: dict[str, str],
    arns: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment["AIRFLOW__CORE__FERNET_KEY"] = ""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = json.loads(environment["AIRFLOW__SECRETS__BACKEND_KWARGS"])
    forget_memory()
    with pytest.raises(Exception, match="no warehouse claims it"):
        # Where Airflow does not know a refusal, its use raises.
        _ = RedshiftSecretsBackend(**settings).get_connection("analytics").host
    environment["AIRFLOW__CORE__FERNET_KEY"] = key
    done = run("tag", "prod", "--conn-id", "analytics", "--db-user", "etl", "--yes")
    assert done.returncode == 0, done.stderr
    assert "+ airflow:conn-id = analytics\n+ airflow:db-user = etl\n" in done.stdout
    assert "host: cleared the catalog\n" in done.stdout, done.stdout
    assert tags(stand_in, arns["redshift prod"]) == {
        "owner": "data",
        "airflow:conn-id": "analytics",
        "airflow:db-user": "etl",
    }
    forget_memory()
    assert RedshiftSecretsBackend(**settings).get_connection("analytics").login == "IAM:etl"
    assert run("tag", "prod", "--conn-id", "analytics").stdout.endswith("nothing to change\n")
    assert run("untag", "prod", "--yes").returncode == 0
    assert tags(stand_in, arns["redshift prod"]) == {"owner": "data"}


def test_a_workgroup_by_its_name_and_by_its_arn(run: Run, stand_in: StandIn, arns: dict[str, str]) -> None:
    arn = arns["redshift-serverless adhoc"]
    assert run("tag", "adhoc", "--conn-id", "analytics bi", "--yes").returncode == 0
    assert run("tag", arn, "--conn-id", "bi", "--database", "other", "--yes").returncode == 0
    assert tags(stand_in, arn) == {"airflow:conn-id": "analytics bi", "airflow:database/bi": "other"}
    assert run("untag", arn, "--conn-id", "bi", "--yes").returncode == 0
    assert tags(stand_in, arn) == {"airflow:conn-id": "analytics"}


def test_a_name_of_two_warehouses(run: Run, stand_in: StandIn, arns: dict[str, str]) -> None:
    done = run("tag", "twin", "--conn-id", "analytics", "--yes")
    assert done.returncode == 1
    assert arns["redshift twin"] in done.stderr
    assert arns["redshift-serverless twin"] in done.stderr
    assert run("tag", arns["redshift twin"], "--conn-id", "analytics", "--yes").returncode == 0
    done = run("tag", "prod", "--conn-id", "analytics", "--conn-id", "smtp", "--dry-run")
    assert done.returncode == 0
    assert "warning: 'analytics' is also claimed by cluster twin" in done.stderr
    assert "warning: 'smtp' is outside managed_conn_ids" in done.stderr


@pytest.mark.parametrize("answer", ["y\n", "n\n"])
def test_it_asks_on_a_terminal(
    environment: dict[str, str], stand_in: StandIn, arns: dict[str, str], answer: str
) -> None:
    code, shown = on_a_terminal(environment, answer, "tag", "prod", "--conn-id", "new")
    assert "+ airflow:conn-id = new" in shown
    assert "Write this?" in shown
    assert (code == 0) is (answer == "y\n")
    assert ("airflow:conn-id" in tags(stand_in, arns["redshift prod"])) is (answer == "y\n")


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("tag", "prod", "--conn-id", "new"), 2, "no terminal to ask on; add --yes"),
        (("tag", "prod"), 2, "needs --conn-id, or a field to set"),
        (("tag", "prod", "--conn-id", "new", "--extra", "timeout", "--yes"), 2, "must be KEY=VALUE"),
        (("tag", "prod", "--conn-id", "new", "--duration", "fast", "--yes"), 1, "must be a whole number"),
        (("tag", "prod", "--db-user", "etl", "--yes"), 1, "claims no conn_id yet"),
        (("tag", "nowhere", "--conn-id", "new", "--yes"), 1, "there is no warehouse 'nowhere'"),
        (("untag", "prod", "--conn-id", "new", "--yes"), 1, "does not claim 'new'"),
    ],
)
def test_what_is_not_written(
    run: Run, stand_in: StandIn, arns: dict[str, str], arguments: tuple[str, ...], code: int, reason: str
) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert reason in done.stderr
    assert tags(stand_in, arns["redshift prod"]) == {"owner": "data"}


def test_a_denied_call_is_said_as_in_lookups(run: Run, stand_in: StandIn, arns: dict[str, str]) -> None:
    stand_in.aws.faults.add(operation="redshift:CreateTags", kind="access_denied")
    done = run("tag", "prod", "--conn-id", "new", "--yes")
    assert done.returncode == 1
    assert f"Grant redshift:CreateTags on {arns['redshift prod']}" in done.stderr
    assert "written\n" not in done.stdout


def test_the_printed_command_does_the_same(run: Run, stand_in: StandIn, arns: dict[str, str]) -> None:
    done = run("tag", "prod", "--conn-id", "new", "--print", "aws")
    words = shlex.split(done.stdout)
    assert tags(stand_in, arns["redshift prod"]) == {"owner": "data"}
    assert words[:3] == ["aws", "redshift", "create-tags"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    boto3.Session().client("redshift", region_name=options["--region"]).create_tags(
        ResourceName=options["--resource-name"], Tags=json.loads(options["--tags"])
    )
    assert tags(stand_in, arns["redshift prod"]) == {"owner": "data", "airflow:conn-id": "new"}


def test_a_restriction_goes_after_what_it_restricts(run: Run, stand_in: StandIn, arns: dict[str, str]) -> None:
    assert run("tag", "prod", "--conn-id", "analytics bi", "--yes").returncode == 0
    assert run("tag", "prod", "--conn-id", "bi", "--team", "finance", "--yes").returncode == 0
    stand_in.aws.faults.add(operation="redshift:DeleteTags", kind="access_denied")
    done = run("untag", "prod", "--conn-id", "bi", "--yes")
    assert done.returncode == 1
    assert "written in part\n" in done.stdout
    assert "host: cleared the catalog" in done.stdout
    assert "airflow:conn-id was written, and airflow:team/bi was not removed: redshift:DeleteTags" in done.stderr
    assert tags(stand_in, arns["redshift prod"])["airflow:conn-id"] == "analytics"


@pytest.mark.parametrize(
    ("endpoint", "code", "said"),
    [("inside", 0, "+ airflow:endpoint = vpc:inside"), ("outside", 1, "no Redshift-managed VPC endpoint of that name")],
)
def test_a_vpc_endpoint_is_looked_for(run: Run, arns: dict[str, str], endpoint: str, code: int, said: str) -> None:
    done = run("tag", "prod", "--conn-id", "bi", "--db-user", "etl", "--endpoint", f"vpc:{endpoint}", "--dry-run")
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert "inside" in done.stdout + done.stderr
