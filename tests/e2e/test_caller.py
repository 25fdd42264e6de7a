"""Two Airflows that share a host or a fleet and differ in caller, settings or team never get each other's credentials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.local.stand_in import StandIn
from tests.e2e.patience import PATIENCE_SECONDS
from tests.e2e.processes import Process, access_key, all_at_once, fleet, host
from tests.support.helpers import forget_memory

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
