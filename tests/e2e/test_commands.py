"""`redshift-secrets` as a user runs it: real processes, real exit codes."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from redshift_secrets.local.stand_in import StandIn
from tests.e2e import commands
from tests.support.airflow_parts import backend_environment, from_airflow_3_0, from_airflow_3_2
from tests.support.terminals import OnATerminal

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
        {"identifier": "misspelt", "tags": {"airflow:con-id": "finance"}},
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
        "team": None,
        "state": "available",
        "problems": rows["analytics", "cluster prod"]["problems"],
    }
    assert "did you mean 'db-user'" in rows["analytics", "cluster prod"]["problems"][0]
    assert rows["bi/reporting", "cluster prod"]["user"] == "bi"
    assert "must be a whole number" in rows["broken", "cluster prod"]["problems"][0]
    assert "also claimed by cluster rival" in rows["shared", "cluster prod"]["problems"][-1]
    assert "also claimed by cluster prod" in rows["shared", "cluster rival"]["problems"][-1]
    assert rows["sleeping", "cluster asleep"]["state"] == "paused"
    assert rows["sleeping", "cluster asleep"]["problems"] == ["does not accept logins now: paused"]
    assert rows["adhoc", "workgroup adhoc"]["problems"] == []
    assert rows["adhoc", "workgroup adhoc"]["state"] == "available"
    assert rows["adhoc", "workgroup adhoc"]["user"] == "(IAM identity)"


def test_what_airflow_logs_is_not_among_the_json(run: Run, environment: dict[str, str]) -> None:
    environment["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "DEBUG"
    assert json.loads(run("list", "-o", "json").stdout)


@pytest.mark.parametrize(
    ("options", "shown"), [((), ["a warning"]), (("--verbose",), ["a remark", "a warning", "a late one"])]
)
def test_of_what_libraries_log_while_airflow_is_loaded_warnings_are_shown(
    environment: dict[str, str], tmp_path: Path, options: tuple[str, ...], shown: list[str]
) -> None:
    lines = "import logging", "log = logging.getLogger('a.library')", "log.info('a remark')", "log.warning('a warning')"
    (tmp_path / "config").mkdir(exist_ok=True)
    late = (
        "import atexit, warnings",
        "atexit.register(warnings.warn, 'a late one', FutureWarning)",
    )  # Airflow is loaded then
    (tmp_path / "config" / "of_this_site.py").write_text("\n".join([*lines, *late, "ARGUMENTS = {}"]))
    environment |= {
        # Loaded once logging is configured.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS": "of_this_site.ARGUMENTS",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
    }
    done = commands.run("list", *options, environment=environment)
    assert re.findall("a remark|a warning|a late one", done.stderr) == shown
    assert "conn_ids of 4 warehouses" in done.stderr


def test_list_as_yaml_and_plain(run: Run) -> None:
    plain = run("list", "--output", "plain")
    assert plain.returncode == 1
    assert (
        plain.stdout.splitlines()[0].split()
        == "conn_id warehouse account region database user auth team state problems".split()
    )
    assert "\x1b" not in plain.stdout + plain.stderr
    rows = yaml.safe_load(run("list", "-o", "yaml").stdout)
    assert {row["conn_id"] for row in rows} >= {"analytics", "adhoc"}


LIST_AT_80 = """\
   conn_id       warehouse        database  user            auth     state
   adhoc         workgroup adhoc  dev       (IAM identity)  iam      available
!  analytics     cluster prod     dwh       etl             db-user  available
!  bi/reporting  cluster prod     dwh       bi              db-user  available
!  broken        cluster prod     dwh       etl             db-user  available
!  for-libpq     cluster prod     dwh       etl             db-user  available
!  nobody        cluster prod     dwh       never_created   db-user  available
!  shared        cluster prod     dwh       etl             db-user  available
!  shared        cluster rival    dev       (IAM identity)  iam      available
!  sleeping      cluster asleep   dev       (IAM identity)  iam      paused
the same for all: account 123456789012, region eu-west-1
! analytics, bi/reporting, broken, for-libpq, nobody, shared: tag
  airflow:db-usr: unknown field 'db-usr' (did you mean 'db-user'?); the tag is
  ignored (on cluster prod (account 123456789012, eu-west-1))
! broken: tag airflow:duration/broken must be a whole number of seconds, not
  'fast' (on cluster prod (account 123456789012, eu-west-1))
! shared: also claimed by cluster rival (account 123456789012, eu-west-1)
! shared: also claimed by cluster prod (account 123456789012, eu-west-1)
! sleeping: does not accept logins now: paused
tag airflow:con-id: unknown field 'con-id' (did you mean 'conn-id'?); the tag
  is ignored (on cluster misspelt (account 123456789012, eu-west-1))
8 conn_ids of 4 warehouses, 7 with a problem; looked as
  arn:aws:iam::123456789012:user/airflow in eu-west-1; asked AWS
"""

LIST_AT_200 = """\
   conn_id       warehouse        account       region     database  user            auth     team  state
   adhoc         workgroup adhoc  123456789012  eu-west-1  dev       (IAM identity)  iam            available
!  analytics     cluster prod     123456789012  eu-west-1  dwh       etl             db-user        available
"""

SHOW_AT_80 = """\
field          value
conn_id        bi/reporting
    tag on arn:aws:redshift:eu-west-1:123456789012:cluster:prod
warehouse      cluster prod (account 123456789012, eu-west-1)
    found with this process's AWS credentials
state          available
    AWS
"""


def test_list_at_a_terminal_of_80_columns(environment: dict[str, str]) -> None:
    terminal = OnATerminal([*commands.COMMAND, "list", "--no-cache"], environment, 80)
    assert terminal.end() == 1
    assert terminal.shown == LIST_AT_80
    assert "\x1b[1m" in terminal.raw  # the header is bold


def test_list_at_a_terminal_of_200_columns_without_colours(environment: dict[str, str]) -> None:
    terminal = OnATerminal(["env", "NO_COLOR=1", *commands.COMMAND, "list", "-o", "wide"], environment, 200)
    assert terminal.end() == 1
    assert terminal.shown.startswith(LIST_AT_200)
    assert "\x1b[1m" not in terminal.raw


def test_list_filters(run: Run) -> None:
    def listed(*arguments: str) -> tuple[int, list[str]]:
        done = run("list", "-o", "json", *arguments)
        return done.returncode, [row["conn_id"] for row in json.loads(done.stdout)]

    assert listed("a*") == (1, ["adhoc", "analytics"])
    assert listed("adhoc") == (0, ["adhoc"])
    assert listed("--problem", "s*", "adhoc") == (1, ["shared", "shared", "sleeping"])
    assert listed("--problem", "adhoc") == (0, [])
    assert listed("--account", "222222222222") == (3, [])
    assert listed("--account", "") == (3, [])  # of a variable that is not set
    assert listed("--region", "eu-west-1", "adhoc") == (0, ["adhoc"])
    assert listed("--region", "eu-west-3") == (0, [])
    assert listed("x*") == (3, [])
    assert "no tag claims a conn_id 'analytcs' (did you mean 'analytics'?)" in run("list", "analytcs", "adhoc").stderr
    said = run("list", "--account", "222222222222").stderr
    assert "no conn_id is claimed in account 222222222222; there are some in: 123456789012" in said
    assert "looked as arn:aws:iam::123456789012:user/airflow in eu-west-1" in said
    said = run("list", "adhoc", "--region", "eu-west-3").stderr
    assert "no tag claims a conn_id 'adhoc'" in said
    assert "nothing matches --region eu-west-3" in run("list", "--region", "eu-west-3").stderr


def test_what_was_listed_comes_from_the_host_store_unless_aws_is_to_be_asked(run: Run, stand_in: StandIn) -> None:
    assert "; asked AWS" in run("list").stderr
    stand_in.aws.calls.clear()
    assert re.search(r"from the host store, \d+ s old \(--no-cache asks AWS\)", run("list").stderr)
    assert stand_in.aws.calls.by_operation().keys() <= {"sts:GetCallerIdentity"}
    assert "from the host store" in run("show", "adhoc").stderr
    assert "asked AWS" in run("show", "adhoc", "--no-cache").stderr
    steps = [json.loads(run("test", "analytics", "-o", "json").stdout)[0]["steps"] for _ in range(2)]
    tiers = [{step["name"]: step["tier"] for step in each} for each in steps]
    assert [each["catalog"] for each in tiers] == ["host", "host"]
    assert [each["credential"] for each in tiers] == ["aws", "host"]
    assert {each["TLS"] for each in tiers} == {None}


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
    (claim,) = json.loads(done.stdout)
    fields = claim["fields"]
    assert fields["user"] == {"value": "bi", "source": "tag airflow:db-user/bi/reporting"}
    assert fields["database"] == {"value": "dwh", "source": "default: the cluster's own database"}
    assert (fields["auth"]["value"], fields["auto_create"]["value"]) == ("db-user", False)
    assert isinstance(fields["port"]["value"], int)
    assert "did you mean 'db-user'" in done.stderr


def test_show_of_two_claims_is_one_document(run: Run) -> None:
    for form, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        claims = read(run("show", "shared", "-o", form).stdout)
        assert [each["arn"].rpartition(":")[2] for each in claims] == ["prod", "rival"]


def test_show_at_a_terminal_of_80_columns(environment: dict[str, str]) -> None:
    terminal = OnATerminal([*commands.COMMAND, "show", "bi/reporting"], environment, 80)
    assert terminal.end() == 0
    assert terminal.shown.startswith(SHOW_AT_80)
    assert max(map(len, terminal.shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("conn_id", "code", "reason"),
    [
        ("broken", 1, "must be a whole number"),
        ("shared", 1, "claimed by 2 warehouses"),
        ("sleeping", 1, "paused"),
        ("nowhere", 3, "no tag claims the conn_id 'nowhere'"),
        ("analitics", 3, "(did you mean 'analytics'?)"),
        ("finance", 3, "tag airflow:con-id: unknown field 'con-id' (did you mean 'conn-id'?)"),
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
    for step in ("catalog", "credential", "TCP", "TLS", "login", "query"):
        assert re.search(rf"^{step}.* \d+\.\d ms( .*)?$", done.stdout, re.MULTILINE), step
    assert f"logged in to database dwh as {user}" in done.stdout
    for token in stand_in.tokens.minted():
        assert token.password not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("conn_id", "code", "reason"),
    [
        (
            "nobody",
            1,
            'CREATE USER "never_created" PASSWORD DISABLE, or have AWS create it at login: tag auto-create = true',
        ),
        ("sleeping", 1, "is paused"),
        ("shared", 1, "cluster rival"),
        ("nowhere", 3, "no tag claims"),
    ],
)
def test_test_says_why_it_does_not_connect(run: Run, conn_id: str, code: int, reason: str) -> None:
    done = run("test", conn_id)
    assert done.returncode == code
    assert reason in done.stdout + done.stderr


def test_of_what_no_tag_claims_there_are_no_steps(run: Run) -> None:
    done = run("test", "analitics")
    assert (done.returncode, done.stdout) == (3, "")
    assert "no tag claims the conn_id 'analitics' in eu-west-1 (did you mean 'analytics'?)" in done.stderr


def test_test_all(run: Run) -> None:
    done = run("test", "--all")
    assert done.returncode == 1
    assert "analytics: logged in to database dwh as etl" in done.stdout
    assert re.search(r"^nobody: failed: localhost:\d+: .*CREATE USER", done.stdout, re.MULTILINE)
    assert "{" not in done.stdout
    assert "4 of 8 connect" in done.stderr
    found = {each["conn_id"]: each for each in json.loads(run("test", "--all", "-o", "json").stdout)}
    assert (found["adhoc"]["connected"], found["adhoc"]["failure"]) == (True, None)
    assert found["sleeping"]["connected"] is False
    assert run("test").returncode == 2


@pytest.mark.parametrize(
    ("changes", "code", "sentence"),
    [
        (
            {"AIRFLOW__SECRETS__BACKEND": "redshift_secrets.RedshiftSecretBackend"},
            2,
            "(did you mean 'redshift_secrets.RedshiftSecretsBackend'?)",
        ),
        (
            {
                "AIRFLOW__SECRETS__BACKEND_KWARGS": '{"regions": ["eu-west-1"], "fallback": [{"backend":'
                ' "airflow.secrets.local_filesystem.LocalFilesytemBackend"}]}'
            },
            1,
            "setting fallback: airflow.secrets.local_filesystem has no 'LocalFilesytemBackend' (did you mean"
            " 'LocalFilesystemBackend'?)",
        ),
    ],
)
def test_a_misspelled_class_is_one_sentence(
    run: Run, environment: dict[str, str], changes: dict[str, str], code: int, sentence: str
) -> None:
    environment.update(changes)
    done = run("list")
    assert (done.returncode, done.stderr.count(sentence)) == (code, 1)


@from_airflow_3_2
def test_the_same_from_the_command_line_of_airflow(run: Run) -> None:
    airflow = (str(Path(commands.COMMAND[0]).with_name("airflow")), "redshift-secrets")
    done = run("list", "adhoc", "-o", "json", command=airflow)
    assert (done.returncode, [row["conn_id"] for row in json.loads(done.stdout)]) == (0, ["adhoc"])


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
    assert "\n    backend = redshift_secrets.RedshiftSecretsBackend\n" in done.stderr


@from_airflow_3_0
def test_the_backend_of_the_workers_is_found_too(run: Run, environment: dict[str, str]) -> None:
    environment["AIRFLOW__WORKERS__SECRETS_BACKEND"] = environment.pop("AIRFLOW__SECRETS__BACKEND")
    environment["AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS"] = environment.pop("AIRFLOW__SECRETS__BACKEND_KWARGS")
    done = run("list", "-o", "json")
    assert any(row["conn_id"] == "analytics" for row in json.loads(done.stdout))
