"""Two teams of one Airflow, whose tasks ask the API server, which knows the team of a task.

https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/multi-team.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from redshift_secrets.airflow.refusals import EXPLAIN_PREFIX
from redshift_secrets.local.stand_in import StandIn
from tests.integration.site import airflow_site, aws_rights, run
from tests.support.airflow_parts import backend_environment
from tests.support.airflow_site import AirflowSite, TaskKey, airflow_version
from tests.support.spellings import CONN_ID, SPELLINGS, TEAM

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.skipif(airflow_version() < (3, 2), reason="teams came with Airflow 3.2"),
]

TEAMS = Path(__file__).parent / "teams"
QUESTIONS = [each for each in SPELLINGS if each.startswith(EXPLAIN_PREFIX)]
WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {"name": "dwh", "users": ["etl"]},
            "tags": {
                "airflow:conn-id": f"{CONN_ID} shared",
                "airflow:db-user": "etl",
                f"airflow:team/{CONN_ID}": TEAM,
            },
        }
    ]
}


def bundle(team: str) -> dict[str, object]:
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    return {"name": team, "classpath": local, "kwargs": {"path": str(TEAMS / team)}, "team_name": team}


@pytest.fixture(
    scope="module",
    params=[
        "a worker without this backend",
        pytest.param("a worker that resolves too", marks=pytest.mark.heavy),
    ],
)
def airflow(request: pytest.FixtureRequest, stand_in: StandIn) -> Iterator[AirflowSite]:
    bundles = json.dumps([bundle(TEAM), bundle("marketing")])
    environment = {
        "AIRFLOW__CORE__MULTI_TEAM": "True",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": bundles,
    }
    with airflow_site(stand_in, **environment) as site:
        for team in (TEAM, "marketing"):
            site.airflow("teams", "create", team)
        planted = {each: {"conn_type": "redshift", "host": "evil.internal", "login": "evil"} for each in QUESTIONS}
        (site.home / "planted.json").write_text(json.dumps(planted))
        site.airflow("connections", "import", str(site.home / "planted.json"))
        resolver = {**backend_environment(), **aws_rights(stand_in, "airflow")}
        site.start("api-server", changes=resolver)
        site.start("dag-processor")
        site.start("scheduler", changes=resolver if "resolves" in request.param else {})
        site.wait_until_ready()
        yield site


def found_by(airflow: AirflowSite, team: str) -> dict[str, str | None]:
    """Return what a task of the team gets for each spelling: the user it would log in as, or the kind of error."""
    # PostgreSQL stores no NUL, not even in the conf of a run.
    conn_ids = [each for each in SPELLINGS if "\x00" not in each]
    run_id, state = run(airflow, f"lookups_of_{team}", conn_ids=[*conn_ids, "shared"])
    assert state == "success", airflow.last_lines()
    found: dict[str, str | None] = airflow.results(f"lookups_of_{team}", run_id)[TaskKey("look_up")]
    return found


def test_only_tasks_of_the_team_get_its_connection_however_it_is_spelled(airflow: AirflowSite) -> None:
    own, others = found_by(airflow, TEAM), found_by(airflow, "marketing")
    assert (own[CONN_ID], own["shared"]) == ("IAM:etl", "IAM:etl")
    assert {conn_id for conn_id, login in others.items() if login == "IAM:etl"} == {"shared"}
    # A question is answered by this backend, whatever the metadata database has under that name.
    assert {others.pop(each) for each in QUESTIONS} == {None}
    assert {login for conn_id, login in others.items() if conn_id != "shared"} == {"AirflowNotFoundException"}
