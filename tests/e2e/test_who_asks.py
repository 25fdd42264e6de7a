"""Bound to who asks: two askers that share a host or a fleet and differ in one thing never get each other's credential."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from tests.e2e.processes import Process, all_at_once, fleet, host, key_of
from tests.support.helpers import forget_memory
from tests.support.redis_servers import RedisServer

ROLES = [f"arn:aws:iam::123456789012:role/{name}" for name in ("reader", "writer")]
WAREHOUSES = {
    "roles": [{"arn": arn} for arn in ROLES],
    "clusters": [
        {
            "identifier": "prod",
            "database": {"name": "dwh", "users": ["etl"], "groups": ["loaders", "readers"]},
            "tags": {
                "airflow:conn-id": "as-user as-identity of-red of-blue",
                "airflow:db-user": "etl",
                "airflow:auth/as-identity": "iam",
                "airflow:team/of-red": "red",
                "airflow:team/of-blue": "blue",
            },
        }
    ],
}


@dataclass(frozen=True)
class Asker:
    """An Airflow of its own: its settings and its environment, and as whom AWS should know it."""

    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    conn_id: str = "as-identity"
    team: str | None = None
    login: str = "IAM:airflow"

    def ask(self, cache: dict[str, Any]) -> tuple[str, str]:
        """Look up in a process of its own, and return user and password."""

        def look_up() -> tuple[str, str]:
            forget_memory()
            backend = RedshiftSecretsBackend(regions="eu-west-1", cache=cache, **self.settings)
            connection = backend.get_connection(self.conn_id, self.team)
            return connection.login, connection.password

        (outcome,) = all_at_once([Process(look_up, self.environment)])
        assert isinstance(outcome, tuple), outcome
        return outcome


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[StandIn, str]]:
    with StandIn(config.parse(WAREHOUSES)) as stand_in, RedisServer() as redis:
        yield stand_in, redis.url


@pytest.fixture
def stand_in(running: tuple[StandIn, str], monkeypatch: pytest.MonkeyPatch) -> StandIn:
    for name, value in running[0].environment().items():
        monkeypatch.setenv(name, value)
    running[0].aws.calls.clear()
    return running[0]


def by_access_key(stand_in: StandIn, _folder: Path) -> list[Asker]:
    return [Asker(environment=key_of(stand_in, user), login=f"IAM:{user}") for user in ("alice", "bob")]


def by_role(_stand_in: StandIn, _folder: Path) -> list[Asker]:
    return [Asker({"role_arn": arn}, login=f"IAMR:{arn.rpartition('/')[2]}") for arn in ROLES]


def profiles(stand_in: StandIn, folder: Path) -> tuple[dict[str, str], list[str]]:
    """The environment of a process that has its keys from a file with two profiles."""
    lines = []
    for user in ("carol", "dave"):
        key = key_of(stand_in, user)
        lines += [f"[{user}]", *(f"{name.lower()} = {value}" for name, value in key.items())]
    file = folder / "credentials"
    file.write_text("\n".join(lines), encoding="utf-8")
    no_keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    return {"AWS_SHARED_CREDENTIALS_FILE": str(file), **no_keys}, ["carol", "dave"]


def by_profile_of_the_settings(stand_in: StandIn, folder: Path) -> list[Asker]:
    environment, users = profiles(stand_in, folder)
    return [Asker({"profile_name": user}, environment, login=f"IAM:{user}") for user in users]


def by_profile_of_the_environment(stand_in: StandIn, folder: Path) -> list[Asker]:
    environment, users = profiles(stand_in, folder)
    return [Asker(environment={**environment, "AWS_PROFILE": user}, login=f"IAM:{user}") for user in users]


def by_db_groups(_stand_in: StandIn, _folder: Path) -> list[Asker]:
    return [Asker({"db_groups": groups}, conn_id="as-user", login="IAM:etl") for groups in ("loaders", "readers")]


def by_duration(_stand_in: StandIn, _folder: Path) -> list[Asker]:
    return [Asker({"duration_seconds": seconds}, conn_id="as-user", login="IAM:etl") for seconds in (900, 1800)]


def by_team(_stand_in: StandIn, _folder: Path) -> list[Asker]:
    return [Asker(conn_id=f"of-{team}", team=team, login="IAM:etl") for team in ("red", "blue")]


DIFFER = [
    by_access_key,
    by_role,
    by_profile_of_the_settings,
    by_profile_of_the_environment,
    by_db_groups,
    by_duration,
    by_team,
]


@pytest.mark.parametrize("tier", ["host", "fleet"])
@pytest.mark.parametrize("differ", DIFFER, ids=lambda differ: differ.__name__)
def test_two_askers_share_nothing_and_each_finds_its_own(
    stand_in: StandIn,
    running: tuple[StandIn, str],
    tmp_path: Path,
    differ: Callable[[StandIn, Path], list[Asker]],
    tier: str,
) -> None:
    cache = {"host": tier != "fleet", **({} if tier == "host" else fleet(running[1]))}
    one, other = differ(stand_in, tmp_path)
    first = one.ask(cache)
    second = other.ask(cache)
    assert (first[0], second[0]) == (one.login, other.login)
    assert first[1] != second[1]
    stand_in.aws.calls.clear()
    # Each one is a new process on a host that both have used: nobody has put the other's in its place.
    assert (one.ask(cache), other.ask(cache)) == (first, second)
    minting = [name for name in stand_in.aws.calls.by_operation() if "Credentials" in name]
    assert minting == []


def test_the_groups_are_those_of_who_asked(stand_in: StandIn, running: tuple[StandIn, str], tmp_path: Path) -> None:
    for asker in by_db_groups(stand_in, tmp_path):
        user, password = asker.ask(fleet(running[1]))
        (token,) = [token for token in stand_in.tokens.minted() if token.password == password]
        assert (token.user, ",".join(token.db_groups)) == (user, asker.settings["db_groups"])


def test_a_team_gets_nothing_of_another_one_out_of_any_tier(stand_in: StandIn, running: tuple[StandIn, str]) -> None:
    cache = fleet(running[1])
    red = by_team(stand_in, Path())[0]
    red.ask(cache)

    def as_blue() -> Any:
        forget_memory()
        backend = RedshiftSecretsBackend(regions="eu-west-1", cache=cache)
        return [backend.get_connection(red.conn_id, team) for team in ("blue", None)]

    assert all_at_once([Process(as_blue)]) == [[None, None]]


def test_one_asker_on_two_hosts_shares_through_the_fleet_alone(
    stand_in: StandIn, running: tuple[StandIn, str], tmp_path: Path
) -> None:
    for asker in by_role(stand_in, tmp_path):
        found = {
            Asker(asker.settings, host(tmp_path, name)).ask(fleet(running[1])) for name in ("one-host", "another-host")
        }
        assert len(found) == 1, json.dumps(sorted(found)[0][0])
