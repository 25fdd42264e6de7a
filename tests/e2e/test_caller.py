"""Two Airflows that share a host or a fleet and differ in caller, settings or team never get each other's credentials."""

from __future__ import annotations

import datetime
import functools
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.local.stand_in import StandIn
from redshift_secrets.lookup import wiring
from tests.e2e.patience import PATIENCE_SECONDS
from tests.e2e.processes import Process, access_key, all_at_once, fleet, host
from tests.support.helpers import forget_memory

pytestmark = pytest.mark.attempt("get a password that was minted for another caller")

ROLES = [f"arn:aws:iam::123456789012:role/{name}" for name in ("reader", "writer")]
WAREHOUSES = {
    "roles": [{"arn": arn} for arn in ROLES],
    "clusters": [
        {
            "identifier": "prod",
            "database": {"name": "dwh", "users": ["etl"], "groups": ["loaders", "readers"]},
            "tags": {
                "airflow:conn-id": "as-user as-identity as-identity-too of-red of-blue",
                **{f"airflow:db-user/{conn_id}": "etl" for conn_id in ("as-user", "of-red", "of-blue")},
                "airflow:auth/as-identity": "iam",
                "airflow:auth/as-identity-too": "iam",
                "airflow:duration/as-identity-too": "1800",
                "airflow:team/of-red": "red",
                "airflow:team/of-blue": "blue",
            },
        }
    ],
}


@dataclass(frozen=True)
class Site:
    """An Airflow: its settings, the environment of its processes, and the user that its connection should log in as."""

    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    conn_id: str = "as-identity"
    team: str | None = None
    login: str = "IAM:airflow"

    def look_up(self, cache: dict[str, Any]) -> tuple[str, str]:
        """Look up in a new process; return user and password."""

        def call() -> tuple[str, str]:
            connection = new_backend(cache, **self.settings).get_connection(self.conn_id, self.team)
            return connection.login, connection.password

        (outcome,) = all_at_once([Process(call, self.environment)])
        assert isinstance(outcome, tuple), outcome
        return outcome


def new_backend(cache: dict[str, Any], **settings: Any) -> RedshiftSecretsBackend:
    """Return the backend of a new process."""
    forget_memory()
    return RedshiftSecretsBackend(
        regions="eu-west-1", cache=cache, **{"aws_timeout_seconds": PATIENCE_SECONDS, **settings}
    )


def by_access_key(stand_in: StandIn, _folder: Path) -> list[Site]:
    return [Site(environment=access_key(stand_in, user), login=f"IAM:{user}") for user in ("alice", "bob")]


def by_role(_stand_in: StandIn, _folder: Path) -> list[Site]:
    return [Site({"role_arn": arn}, login=f"IAMR:{arn.rpartition('/')[2]}") for arn in ROLES]


def profiles(stand_in: StandIn, folder: Path) -> tuple[dict[str, str], list[str]]:
    """Return the environment of a process whose access keys are in a file with two profiles, and the profiles."""
    lines = []
    for user in ("carol", "dave"):
        key = access_key(stand_in, user)
        lines += [f"[{user}]", *(f"{name.lower()} = {value}" for name, value in key.items())]
    file = folder / "credentials"
    file.write_text("\n".join(lines), encoding="utf-8")
    no_keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    return {"AWS_SHARED_CREDENTIALS_FILE": str(file), **no_keys}, ["carol", "dave"]


def by_profile_of_the_settings(stand_in: StandIn, folder: Path) -> list[Site]:
    environment, users = profiles(stand_in, folder)
    return [Site({"profile_name": user}, environment, login=f"IAM:{user}") for user in users]


def by_profile_of_the_environment(stand_in: StandIn, folder: Path) -> list[Site]:
    environment, users = profiles(stand_in, folder)
    return [Site(environment={**environment, "AWS_PROFILE": user}, login=f"IAM:{user}") for user in users]


def by_variable_in_a_path(stand_in: StandIn, folder: Path) -> list[Site]:
    environment, users = profiles(stand_in, folder)
    keys = (folder / "credentials").read_text(encoding="utf-8")
    sites = []
    for user in users:
        (folder / user).mkdir()
        (folder / user / "keys").write_text(keys.replace(f"[{user}]", "[default]"), encoding="utf-8")
        path = {"AWS_SHARED_CREDENTIALS_FILE": f"{folder}/$TENANT/keys", "TENANT": user}
        sites.append(Site(environment={**environment, **path}, login=f"IAM:{user}"))
    return sites


def by_boto_config(stand_in: StandIn, folder: Path) -> list[Site]:
    environment, users = profiles(stand_in, folder)
    keys = (folder / "credentials").read_text(encoding="utf-8")
    sites = []
    for user in users:
        (folder / user).write_text(keys.replace(f"[{user}]", "[Credentials]"), encoding="utf-8")
        path = {"AWS_SHARED_CREDENTIALS_FILE": "", "BOTO_CONFIG": f"{folder}/{user}"}
        sites.append(Site(environment={**environment, **path}, login=f"IAM:{user}"))
    return sites


def by_variable_that_a_program_reads(stand_in: StandIn, folder: Path) -> list[Site]:
    environment, users = profiles(stand_in, folder)
    for user in users:
        key = access_key(stand_in, user)
        answer = {
            "Version": 1,
            "AccessKeyId": key["AWS_ACCESS_KEY_ID"],
            "SecretAccessKey": key["AWS_SECRET_ACCESS_KEY"],
        }
        (folder / f"{user}.json").write_text(json.dumps(answer), encoding="utf-8")
    (folder / "program").write_text(f"#!/bin/sh\ncat {folder}/$TENANT.json\n", encoding="utf-8")
    (folder / "program").chmod(0o700)
    (folder / "config").write_text(f"[default]\ncredential_process = {folder}/program\n", encoding="utf-8")
    files = {"AWS_SHARED_CREDENTIALS_FILE": "", "AWS_CONFIG_FILE": str(folder / "config")}
    return [Site(environment={**environment, **files, "TENANT": user}, login=f"IAM:{user}") for user in users]


def by_db_groups(_stand_in: StandIn, _folder: Path) -> list[Site]:
    return [Site({"db_groups": groups}, conn_id="as-user", login="IAM:etl") for groups in ("loaders", "readers")]


def by_duration(_stand_in: StandIn, _folder: Path) -> list[Site]:
    return [Site({"duration_seconds": seconds}, conn_id="as-user", login="IAM:etl") for seconds in (900, 1800)]


def by_team(_stand_in: StandIn, _folder: Path) -> list[Site]:
    return [Site(conn_id=f"of-{team}", team=team, login="IAM:etl") for team in ("red", "blue")]


DIFFER = [
    by_access_key,
    by_role,
    by_profile_of_the_settings,
    by_profile_of_the_environment,
    by_variable_in_a_path,
    by_boto_config,
    by_variable_that_a_program_reads,
    by_db_groups,
    by_duration,
    by_team,
]


@pytest.mark.parametrize("tier", ["host", "fleet"])
@pytest.mark.parametrize("differ", DIFFER, ids=lambda differ: differ.__name__)
def test_two_sites_share_nothing_and_each_finds_its_own_credential(
    stand_in: StandIn,
    redis: str,
    tmp_path: Path,
    differ: Callable[[StandIn, Path], list[Site]],
    tier: str,
) -> None:
    cache = {"host": tier != "fleet", **({} if tier == "host" else fleet(redis))}
    one, other = differ(stand_in, tmp_path)
    first = one.look_up(cache)
    second = other.look_up(cache)
    assert (first[0], second[0]) == (one.login, other.login)
    assert first[1] != second[1]
    stand_in.aws.calls.clear()
    # New processes on a host that both have used: neither has overwritten the entry of the other.
    assert (one.look_up(cache), other.look_up(cache)) == (first, second)
    minting = [name for name in stand_in.aws.calls.by_operation() if "Credentials" in name]
    assert minting == []


def test_the_groups_are_those_of_the_site(stand_in: StandIn, redis: str, tmp_path: Path) -> None:
    for site in by_db_groups(stand_in, tmp_path):
        user, password = site.look_up(fleet(redis))
        (token,) = [token for token in stand_in.tokens.minted() if token.password == password]
        assert (token.user, ",".join(token.db_groups)) == (user, site.settings["db_groups"])


def test_a_team_gets_nothing_of_another_team_from_any_tier(stand_in: StandIn, redis: str) -> None:
    cache = fleet(redis)
    red = by_team(stand_in, Path())[0]
    red.look_up(cache)

    def as_blue() -> Any:
        backend = new_backend(cache)
        return [backend.get_connection(red.conn_id, team) for team in ("blue", None)]

    assert all_at_once([Process(as_blue)]) == [[None, None]]


def test_two_hosts_of_a_site_share_through_the_fleet(stand_in: StandIn, redis: str, tmp_path: Path) -> None:
    for site in by_role(stand_in, tmp_path):
        hosts = [Site(site.settings, host(tmp_path, name)) for name in ("one-host", "another-host")]
        found = {each.look_up(fleet(redis)) for each in hosts}
        assert len(found) == 1


class InstanceMetadata:
    """A metadata service that gives the keys of one of two users; a POST from anywhere exchanges them. They expire so soon
    that they are replaced with the next call."""

    def __init__(self, stand_in: StandIn) -> None:
        self.keys = [access_key(stand_in, user) for user in ("alice", "bob")]
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self._answer("token")

            def do_POST(self) -> None:
                service.keys.reverse()
                self._answer("")

            def do_GET(self) -> None:
                in_5_minutes = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=5)
                key = service.keys[0]
                answer = {
                    "Code": "Success",
                    "AccessKeyId": key["AWS_ACCESS_KEY_ID"],
                    "SecretAccessKey": key["AWS_SECRET_ACCESS_KEY"],
                    "Token": None,
                    "Expiration": in_5_minutes.isoformat(),
                }
                self._answer("role" if self.path.endswith("/") else json.dumps(answer))

            def _answer(self, body: str) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.environment = {
            "AWS_ACCESS_KEY_ID": "",
            "AWS_SECRET_ACCESS_KEY": "",
            "AWS_EC2_METADATA_DISABLED": "false",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_METADATA_SERVICE_TIMEOUT": str(PATIENCE_SECONDS),
            "NO_PROXY": "127.0.0.1",
        }

    def exchange(self) -> None:
        """Give the other user's keys from now on. Works in any process."""
        endpoint = self.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(endpoint, b"").close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def instance(stand_in: StandIn) -> Iterator[InstanceMetadata]:
    service = InstanceMetadata(stand_in)
    yield service
    service.close()


def in_new_process(instance: InstanceMetadata, call: Callable[[], Any]) -> Any:
    (outcome,) = all_at_once([Process(call, instance.environment)])
    return outcome


def login_or_refusal(backend: RedshiftSecretsBackend, conn_id: str) -> str:
    try:
        return str(backend.get_connection(conn_id).login)
    except Exception as error:
        return str(error)


def test_an_instance_profile_that_was_exchanged(instance: InstanceMetadata, monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(conn_id: str) -> str:
        return login_or_refusal(new_backend({}), conn_id)

    assert in_new_process(instance, lambda: look_up("as-identity")) == "IAM:alice"
    instance.exchange()
    # It is known for a quarter of an hour who this host is, unless a call shows that it is somebody else.
    assert in_new_process(instance, lambda: look_up("as-identity")) == "IAM:alice"
    later = lambda: time.time() + 901  # noqa: E731
    for name in ("create_tiers", "create_broker", "LazyAwsClient"):
        monkeypatch.setattr(wiring, name, functools.partial(getattr(wiring, name), clock=later))
    assert in_new_process(instance, lambda: look_up("as-identity")) == "IAM:bob"


def test_a_call_that_shows_that_the_instance_profile_was_exchanged(instance: InstanceMetadata) -> None:
    def look_up_both() -> list[str]:
        backend = new_backend({})
        return [login_or_refusal(backend, conn_id) for conn_id in ("as-identity-too", "as-identity-too", "as-identity")]

    assert in_new_process(instance, lambda: new_backend({}).get_connection("as-identity").login) == "IAM:alice"
    instance.exchange()
    refusal, *logins = in_new_process(instance, look_up_both)
    assert "another AWS identity" in refusal
    assert logins == ["IAM:bob", "IAM:bob"]


@pytest.mark.parametrize("host_store", [True, False])
def test_a_process_that_becomes_another_caller_leaves_nothing_in_the_fleet_for_the_one_before(
    instance: InstanceMetadata, redis: str, host_store: bool, tmp_path: Path
) -> None:
    cache = {**fleet(redis), "host": host_store}

    def change() -> list[str]:
        backend = new_backend(cache)
        before = login_or_refusal(backend, "as-identity")
        instance.exchange()
        return [before, login_or_refusal(backend, "as-identity-too"), login_or_refusal(backend, "as-identity-too")]

    before, refusal, after = in_new_process(instance, change)
    assert (before, after) == ("IAM:alice", "IAM:bob")
    assert "another AWS identity" in refusal
    instance.exchange()
    instance.environment |= host(tmp_path, "another-host")
    for conn_id in ("as-identity", "as-identity-too"):
        found = in_new_process(instance, lambda conn_id=conn_id: login_or_refusal(new_backend(cache), conn_id))
        assert found == "IAM:alice"
