"""Whatever a DAG author spells, another team's connection comes from no tier, and is asked of AWS by its own team alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from tests.support.helpers import forget_memory
from tests.support.redis_servers import KEY, RedisServer
from tests.support.spellings import CONN_ID, SPELLINGS, TEAM

MINT = "redshift:GetClusterCredentials"
WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {"name": "dwh", "users": ["etl"]},
            "tags": {"airflow:conn-id": f"{CONN_ID} shared", "airflow:db-user": "etl", f"airflow:team/{CONN_ID}": TEAM},
        }
    ]
}


@pytest.fixture(scope="module")
def running() -> Iterator[StandIn]:
    with StandIn(config.parse(WAREHOUSES)) as stand_in:
        yield stand_in


@pytest.fixture
def stand_in(running: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    running.aws.calls.clear()
    return running


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    with RedisServer() as server:
        yield server.url


def backend_of(cache: dict[str, Any], pattern: str | None) -> RedshiftSecretsBackend:
    forget_memory()
    # The order of a pattern that ends in $ is a trap: it lets a newline through.
    return RedshiftSecretsBackend(regions=["eu-west-1"], connections_lookup_pattern=pattern, cache=cache)


@pytest.mark.parametrize("pattern", [None, ".*", "^.*payroll$"])
@pytest.mark.parametrize("tier", ["process", "host", "fleet"])
def test_no_spelling_gets_it_out_of_any_tier(
    stand_in: StandIn, tier: str, pattern: str | None, redis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = {"host": tier == "host", **({"redis_url": redis, "key": KEY} if tier == "fleet" else {})}
    theirs = backend_of(cache, pattern)
    assert theirs.get_connection(CONN_ID, team_name=TEAM).login == "IAM:etl"
    others = theirs if tier == "process" else backend_of(cache, pattern)
    stand_in.aws.calls.clear()
    for team in ("marketing", "Finance", "finance--", "", None):
        for spelling in SPELLINGS:
            assert others.get_connection(spelling, team_name=team) is None, (team, spelling)
    assert others.get_connection(CONN_ID, team_name=TEAM).login == "IAM:etl"
    assert MINT not in stand_in.aws.calls.by_operation()


def test_two_teams_with_the_same_user_on_one_warehouse_share_no_credential(stand_in: StandIn) -> None:
    backend = backend_of({}, None)
    backend.get_connection(CONN_ID, team_name=TEAM)
    backend.get_connection("shared", team_name="marketing")
    assert stand_in.aws.calls.by_operation()[MINT] == 2
