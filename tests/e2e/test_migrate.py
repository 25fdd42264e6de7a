"""`redshift-secrets migrate` on a real metadata database, a Secrets Manager and a Parameter Store, in a shell and on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.airflow.stored import file_connections
from redshift_secrets.local.stand_in import StandIn
from tests.e2e import commands
from tests.support.airflow_parts import backend_environment
from tests.support.airflow_site import airflow_version
from tests.support.helpers import forget_memory
from tests.support.terminals import OnATerminal

pytestmark = pytest.mark.airflow

WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {
                "name": "dwh",
                "users": ["etl", "bi"],
                "groups": ["loaders"],
                "sql": "ALTER GROUP loaders ADD USER etl",
            },
            "custom_domain": "127.0.0.14",
            "vpc_endpoints": ["from-vpc"],
            "tags": {"owner": "data"},
        },
        {
            "identifier": "marketing",
            "region": "us-east-1",
            "database": {"name": "mkt", "users": ["etl"]},
            "tags": {"airflow:conn-id": "campaigns", "airflow:db-user": "etl"},
        },
    ],
    "workgroups": [{"name": "adhoc", "database": "scratch"}],
}
PLANTED = "pl@nted/pass word+=:?&#%"
SECRETS = ("pl@nted", "pl%40nted", "planted-key")

Run = Callable[..., subprocess.CompletedProcess[str]]


class Site:
    """A stand-in with connections stored in every place, and the environment of an Airflow that has them."""

    def __init__(self, stand_in: StandIn, home: Path) -> None:
        self.stand_in = stand_in
        self.arns = {
            getattr(state.config, "identifier", None) or state.config.name: state.arn
            for state in stand_in.aws._inventory.all()
        }
        for name, user in (("prod", "etl"), ("prod", "bi"), ("marketing", "etl")):
            stand_in.tokens.mint(warehouse=self.arns[name], user=user, role=user, duration=None, password=PLANTED)
        self.home = home
        self.environment = {
            **os.environ,
            **stand_in.environment(),
            **backend_environment(regions=["eu-west-1", "us-east-1"], managed_conn_ids=None),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__CORE__FERNET_KEY": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LWtleTE=",
            "AIRFLOW_CONN_FROM_ENV": self.uri("prod", "bi"),
        }

    def address(self, name: str, endpoint: str = "default") -> tuple[str, int]:
        found = self.stand_in.gateway.address_of(self.arns[name], endpoint)
        assert found is not None
        return found

    def typed(self, name: str, user: str = "etl", endpoint: str = "default", **more: Any) -> dict[str, Any]:
        host, port = self.address(name, endpoint)
        return {
            "conn_type": "redshift", "host": host, "port": port, "login": user, "password": PLANTED, "schema": "dwh", **more,
        }  # fmt: skip

    def uri(self, name: str, user: str) -> str:
        host, port = self.address(name)
        return (
            f"redshift://{user}:pl%40nted%2Fpass%20word%2B%3D%3A%3F%26%23%25@{host}:{port}/dwh?application_name=typed"
        )

    def stored(self) -> dict[str, dict[str, Any]]:
        """Return the connections in the metadata database, of the kinds that people have."""
        iam = {"conn_type": "redshift", "schema": "dwh", "login": "etl"}
        return {
            "analytics": self.typed("prod", extra=json.dumps({"timeout": 30})),
            "analytics_old": self.typed("prod", extra=json.dumps({"timeout": 30})),
            "bi": self.typed("prod", "bi", conn_type="postgres", extra=json.dumps({"sslmode": "require"})),
            "campaigns": self.typed("marketing", schema="mkt"),
            "by-domain": self.typed("prod", endpoint="custom-domain"),
            "by-vpc": self.typed(
                "prod", endpoint="vpc:from-vpc", conn_type="postgres", extra=json.dumps({"options": "-c search_path=x"})
            ),
            "by-iam": {
                **iam,
                "extra": json.dumps(
                    {
                        "iam": True,
                        "cluster_identifier": "prod",
                        "region": "eu-west-1",
                        "profile": "data",
                        "secret_access_key": "planted-key",
                    }
                ),
            },
            "serverless": {
                **iam,
                "login": "",
                "schema": "scratch",
                "extra": json.dumps({"iam": True, "is_serverless": True, "serverless_work_group": "adhoc"}),
            },
            "serverless_typed": self.typed("adhoc", schema="scratch"),
            "load-1": self.typed("prod"),
            "gone": {**iam, "host": "gone.abc.eu-west-1.redshift.amazonaws.com", "password": PLANTED},
            "smtp_default": {"conn_type": "smtp", "host": "mail.example", "password": PLANTED},
            "app_db": {"conn_type": "postgres", "host": "db.example", "password": PLANTED},
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return commands.run(*arguments, environment=self.environment)

    def airflow(self, *arguments: str) -> str:
        done = commands.run(
            *arguments, command=(str(Path(commands.COMMAND[0]).parent / "airflow"),), environment=self.environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def site(running: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment().items():
            patch.setenv(name, value)
        patch.setattr(boto3, "DEFAULT_SESSION", None)
        home = tmp_path_factory.mktemp("airflow")
        patch.setenv("TESTS_HOST_STORE", str(home / "store"))
        made = Site(running, home)
        made.airflow("db", "migrate")
        path = home / "to-import.json"
        path.write_text(json.dumps(made.stored()))
        made.airflow("connections", "import", str(path))
        with contextlib.closing(sqlite3.connect(home / "airflow.db")) as database, database:
            # The page in Airflow accepts it, and the command does not.
            database.execute("update connection set conn_id = 'load#1' where conn_id = 'load-1'")
        host, port = made.address("prod")
        secret = {"engine": "redshift", "server": host, "port": port, "user": "etl", "pass": PLANTED, "database": "dwh"}
        boto3.client("secretsmanager", "eu-west-1").create_secret(
            Name="airflow/connections/from_secret", SecretString=json.dumps(secret)
        )
        ssm = boto3.client("ssm", "eu-west-1")
        for name in ("team/from_parameter", "from_env"):
            ssm.put_parameter(Name=f"/airflow/connections/{name}", Value=made.uri("prod", "bi"), Type="SecureString")
        yield made


@pytest.fixture(autouse=True)
def tags_as_before(stand_in: StandIn) -> Iterator[None]:
    before = stand_in.aws._inventory.all()
    yield
    now = {state.arn: state for state in stand_in.aws._inventory.all()}
    for state in before:
        stand_in.aws._inventory.change_tags(state.arn, remove=list(now[state.arn].tags))
        stand_in.aws._inventory.change_tags(state.arn, add=state.tags)


EVERYWHERE = tuple("--from=database --from=environment --from=secrets-manager --from=parameter-store".split())


def planned(site: Site, *arguments: str) -> dict[str, Any]:
    done = site.run("migrate", "plan", "-o", "json", *arguments)
    assert done.returncode == 0, done.stderr
    assert not [secret for secret in SECRETS if secret in done.stdout + done.stderr]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.attempt("read a stored password in what `migrate` prints")
def test_every_kind_of_stored_connection_is_planned(site: Site) -> None:
    found = planned(site, *EVERYWHERE)
    rows = {row["conn_id"]: row for row in found["connections"]}
    states = {name: row["state"] for name, row in rows.items()}
    assert states == {
        "analytics": "move", "analytics_old": "move", "bi": "move", "campaigns": "served", "by-domain": "move", "by-vpc": "move",
        "by-iam": "move", "serverless": "move", "serverless_typed": "cannot", "load#1": "cannot", "gone": "cannot",
        "smtp_default": "other", "app_db": "other", "from_env": "move", "from_secret": "move", "team/from_parameter": "move",
    }  # fmt: skip
    assert rows["analytics"]["tags"] == {"db-user": "etl", "extra.timeout": "30"}
    assert rows["analytics_old"]["same_as"] == "analytics"
    assert rows["bi"]["tags"] == {"db-user": "bi", "conn-type": "postgres"}
    assert rows["bi"]["differences"] == ["sslmode require becomes verify-full"]
    assert rows["by-domain"]["tags"] == {"db-user": "etl", "endpoint": "custom-domain"}
    assert rows["by-vpc"]["tags"] == {"db-user": "etl", "conn-type": "postgres", "endpoint": "vpc:from-vpc"}
    assert "'options'" in rows["by-vpc"]["differences"][0]
    assert rows["by-iam"]["warehouse"] == "prod"
    assert "profile data in extra is not used" in rows["by-iam"]["differences"][0]
    assert (rows["serverless"]["user"], rows["serverless"]["arn"]) == ("(IAM identity)", site.arns["adhoc"])
    assert "set role_arn" in rows["serverless_typed"]["reasons"][0]
    assert rows["from_env"]["places"] == ["parameter /airflow/connections/from_env", "variable AIRFLOW_CONN_FROM_ENV"]
    assert rows["from_secret"]["places"] == ["secret airflow/connections/from_secret"]
    assert found["managed_conn_ids"]["now"] == "^(campaigns)$"
    assert found["read"] == {
        "Secrets Manager under airflow/connections": 1,
        "Parameter Store under airflow/connections": 2,
        "the environment": 1,
        "the metadata database": 13,
    }


@pytest.mark.parametrize("form", ["json", "yaml", "env --serialization-format json"])
def test_a_file_that_this_airflow_exports_has_what_its_database_has(site: Site, form: str) -> None:
    suffix, *more = form.split()
    path = site.home / f"exported.{suffix}"
    site.airflow("connections", "export", str(path), "--file-format", suffix, *more)
    found = {each.conn_id: each for each in file_connections(path)}
    path.unlink()
    typed = site.stored()
    assert sorted(found) == sorted({*typed, "load#1"} - {"load-1"})
    for conn_id, each in found.items():
        stored = typed[conn_id.replace("#", "-")]
        assert (each.conn_type, each.host, each.schema) == tuple(
            stored.get(name, "") for name in ("conn_type", "host", "schema")
        )
        assert (each.login, each.port, each.has_password) == (
            stored.get("login", ""),
            stored.get("port"),
            "password" in stored,
        )
        assert each.extra.keys() == json.loads(stored.get("extra", "{}")).keys()
        assert not [secret for secret in SECRETS if secret in repr(each) + repr(dict(each.extra))]


def run_printed(text: str) -> None:
    """Do what the printed `aws` commands do."""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        words = shlex.split(line)
        options = dict(zip(words[3::2], words[4::2], strict=True))
        client = boto3.Session().client(words[1], region_name=options["--region"])
        tags = json.loads(options["--tags"])
        if words[1] == "redshift":
            client.create_tags(ResourceName=options["--resource-name"], Tags=tags)
        else:
            client.tag_resource(resourceArn=options["--resource-arn"], tags=tags)


def test_from_the_plan_to_the_last_command(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The printed tags serve what is stored: the logins are the same, and a lookup gives the same connection."""
    printed = site.run("migrate", "plan", "--print", "aws", *EVERYWHERE)
    assert printed.returncode == 0, printed.stderr
    run_printed(printed.stdout)
    then = planned(site, *EVERYWHERE)
    assert {row["state"] for row in then["connections"]} == {"served", "cannot", "other"}
    assert then["changes"] == []

    done = site.run("migrate", "check", "-o", "json", *EVERYWHERE)
    logins = {row["conn_id"]: row for row in json.loads(done.stdout)}
    assert done.returncode == 1  # there is no profile data here
    assert {name for name, row in logins.items() if row["login"] != "the same"} == {"by-iam"}, logins
    assert logins["analytics"]["found"] == "user etl, database dwh, groups loaders, roles not known"
    assert not [secret for secret in SECRETS if secret in done.stdout + done.stderr]
    assert site.run("migrate", "check", "--conn-id", "bi", "--conn-id", "analytics").returncode == 0

    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)
    forget_memory()
    backend = RedshiftSecretsBackend(**json.loads(site.environment["AIRFLOW__SECRETS__BACKEND_KWARGS"]))
    for conn_id, stored in site.stored().items():
        served = backend.get_connection(conn_id)
        if conn_id in ("analytics", "bi", "campaigns", "by-domain", "by-vpc"):
            assert (served.conn_type, served.host, served.port, served.schema) == (
                stored["conn_type"],
                stored["host"],
                stored["port"],
                stored["schema"],
            )
            assert served.login == f"IAM:{stored['login']}"

    done = site.run(
        "migrate", "finish", "--conn-id", "analytics", "--conn-id", "from_secret", "--conn-id", "from_env", *EVERYWHERE
    )
    commands_to_run = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert commands_to_run == [
        "airflow connections delete analytics",
        "aws ssm delete-parameter --name /airflow/connections/from_env --region eu-west-1",
        "unset AIRFLOW_CONN_FROM_ENV  # and where it is set for Airflow's processes",
        "aws secretsmanager delete-secret --secret-id airflow/connections/from_secret --recovery-window-in-days 30 --region eu-west-1",
    ]
    assert f"redshift-secrets untag {site.arns['prod']} --conn-id analytics" in done.stdout
    assert '"managed_conn_ids": "^(' in done.stdout
    assert not [secret for secret in SECRETS if secret in done.stdout + done.stderr]


def test_one_at_a_time(site: Site) -> None:
    done = site.run("migrate", "plan", "--conn-id", "bi", "--print", "aws")
    assert [shlex.split(line)[6] for line in done.stdout.splitlines() if not line.startswith("#")] == ["eu-west-1"]
    run_printed(done.stdout)
    assert site.run("migrate", "check", "--conn-id", "bi").returncode == 0
    done = site.run("migrate", "plan", "--conn-id", "nowhere")
    assert (done.returncode, "no connection is stored under 'nowhere'" in done.stderr) == (1, True)


def test_a_login_that_differs_is_named_and_ends_with_1(site: Site) -> None:
    client = boto3.Session().client("redshift", region_name="eu-west-1")
    tags = [{"Key": "airflow:conn-id", "Value": "analytics"}, {"Key": "airflow:db-user", "Value": "bi"}]
    client.create_tags(ResourceName=site.arns["prod"], Tags=tags)
    done = site.run("migrate", "check", "--conn-id", "analytics")
    assert done.returncode == 1
    assert (
        "analytics: differs, user etl is stored, and bi by tags; groups loaders is stored, and none by tags"
        in done.stdout
    )
    done = site.run("migrate", "finish", "--conn-id", "analytics")
    assert "# differs, look at it first: airflow connections delete analytics" in done.stdout


def test_a_database_that_cannot_be_read_is_one_sentence_and_leaves_the_rest(site: Site) -> None:
    environment = {
        **site.environment,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{site.home}/nowhere/airflow.db",
    }
    done = commands.run("migrate", "plan", "-o", "json", environment=environment)
    assert done.returncode == 4
    assert [row["conn_id"] for row in json.loads(done.stdout)["connections"]] == ["from_env"]
    assert done.stderr.count("the metadata database (sqlite) cannot be read: OperationalError: unable to open") == 1


@pytest.mark.skipif(airflow_version() < (3, 0), reason="Airflow 2.11 writes warnings of its own on a terminal")
@pytest.mark.parametrize("columns", [80, 200])
def test_on_a_terminal(site: Site, columns: int) -> None:
    terminal = OnATerminal([*commands.COMMAND, "migrate", "plan", *EVERYWHERE], site.environment, columns)
    assert terminal.end() == 0
    shown = terminal.shown
    assert not [secret for secret in SECRETS if secret in shown]
    # That text is to be copied.
    assert all(len(line) <= columns for line in shown.splitlines() if '"managed_conn_ids"' not in line)
    snapshot = Path(__file__).parent / "snapshots" / f"migrate-plan-{columns}.txt"
    if os.environ.get("WRITE_SNAPSHOTS"):
        snapshot.parent.mkdir(exist_ok=True)
        snapshot.write_text(shown)
    assert shown == snapshot.read_text()
