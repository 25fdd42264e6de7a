"""No spelling of a conn_id gets another team's connection out of any tier, or makes AWS mint for it."""

from __future__ import annotations

from typing import Any

import pytest

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.airflow.refusals import EXPLAIN_PREFIX
from redshift_secrets.local.stand_in import StandIn
from tests.e2e.conftest import MINT
from tests.e2e.patience import PATIENCE_SECONDS
from tests.e2e.processes import fleet
from tests.support.airflow_parts import Refusal, used
from tests.support.helpers import forget_memory
from tests.support.spellings import CONN_ID, SPELLINGS, TEAM

pytestmark = pytest.mark.attempt("get the connection of another team")

WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {"name": "dwh", "users": ["etl"]},
            "tags": {"airflow:conn-id": f"{CONN_ID} shared", "airflow:db-user": "etl", f"airflow:team/{CONN_ID}": TEAM},
        }
    ]
}


def new_backend(cache: dict[str, Any], pattern: str | None = None) -> RedshiftSecretsBackend:
    forget_memory()
    return RedshiftSecretsBackend(
        regions=["eu-west-1"],
        managed_conn_ids=pattern,
        cache=cache,
        aws_timeout_seconds=PATIENCE_SECONDS,
    )


def answer(backend: RedshiftSecretsBackend, conn_id: str, team: str | None) -> Any:
    """Return the connection, `None`, or the text of the refusal."""
    try:
        return used(backend.get_connection(conn_id, team_name=team))
    except Refusal as error:
        return str(error)


@pytest.mark.parametrize("pattern", [None, ".*", "^.*payroll$"])  # a `$` lets a newline at the end through
@pytest.mark.parametrize("tier", ["process", "host", "fleet"])
def test_no_spelling_gets_the_connection_of_another_team(
    stand_in: StandIn, tier: str, pattern: str | None, redis: str
) -> None:
    cache = {"host": tier == "host", **(fleet(redis) if tier == "fleet" else {})}
    own = new_backend(cache, pattern)
    assert own.get_connection(CONN_ID, team_name=TEAM).login == "IAM:etl"
    others = own if tier == "process" else new_backend(cache, pattern)
    stand_in.aws.calls.clear()
    for team in ("marketing", "finances", "finance--", "", None):
        for spelling in SPELLINGS:
            found = answer(others, spelling, team)
            # What nobody claims, or can claim, is refused. Questions are always answered, with "not managed" for anybody else's.
            refused = any(reason in str(found) for reason in ("no warehouse claims it", "no tag can claim it"))
            missing = pattern is not None and spelling != CONN_ID and refused
            assert found is None or missing or spelling.startswith(EXPLAIN_PREFIX), (team, spelling)
            assert (getattr(found, "host", None), getattr(found, "password", None)) == (None, None), (team, spelling)
    for spelling in (TEAM, TEAM.upper()):
        assert others.get_connection(CONN_ID, team_name=spelling).login == "IAM:etl"
    assert MINT not in stand_in.aws.calls.by_operation()


def test_two_teams_with_the_same_user_on_one_warehouse_share_no_credential(stand_in: StandIn) -> None:
    backend = new_backend({})
    backend.get_connection(CONN_ID, team_name=TEAM)
    backend.get_connection("shared", team_name="marketing")
    assert stand_in.aws.calls.by_operation()[MINT] == 2
