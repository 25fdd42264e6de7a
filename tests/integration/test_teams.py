"""Two teams of one Airflow, whose tasks ask the API server, which knows the team of a task.

https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/multi-team.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.airflow.refusals import EXPLAIN_PREFIX
from redshift_secrets.local.stand_in import StandIn
from tests.integration.site import airflow_site, aws_rights, run
from tests.support.airflow_parts import backend_environment
from tests.support.airflow_runs import TaskKey
from tests.support.airflow_site import AirflowSite, airflow_version
from tests.support.redis_servers import RedisServer
from tests.support.spellings import CONN_ID, SPELLINGS, TEAM

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.skipif(airflow_version() < (3, 2), reason="teams came with Airflow 3.2"),
]

AUDIT = "audit.jsonl"
TEAMS = Path(__file__).parent / "teams"
_UNUSED = "does not use the fleet store"
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
    with RedisServer() as redis, airflow_site(stand_in, **environment) as site:
        for team in (TEAM, "marketing"):
            site.airflow("teams", "create", team)
        planted = {each: {"conn_type": "redshift", "host": "evil.internal", "login": "evil"} for each in QUESTIONS}
        (site.home / "planted.json").write_text(json.dumps(planted))
        site.airflow("connections", "import", str(site.home / "planted.json"))
        cache = {"redis_url": redis.url, "key": Fernet.generate_key().decode()}
        backend = backend_environment(cache=cache, audit=str(site.home / AUDIT))
        resolver = {**backend, **aws_rights(stand_in, "airflow")}
        site.start("api-server", changes=resolver)
        site.start("dag-processor")
        site.start("scheduler", changes=resolver if "resolves" in request.param else {})
        site.wait_until_ready()
        yield site
        with redis.admin() as admin:
            assert admin.dbsize() > 0  # the API server uses it
        assert _UNUSED not in (site.home / "api-server.log").read_text()


def found_by(airflow: AirflowSite, team: str) -> tuple[dict[str, str | None], str]:
    """Return what a task of the team gets for each spelling, the user it would log in as or the kind of error, and its log."""
    # PostgreSQL stores no NUL, not even in the conf of a run.
    conn_ids = [each for each in SPELLINGS if "\x00" not in each]
    run_id, state = run(airflow, f"lookups_of_{team}", conn_ids=[*conn_ids, "shared"])
    assert state == "success", airflow.last_lines()
    found: dict[str, str | None] = airflow.results(f"lookups_of_{team}", run_id)[TaskKey("look_up")]
    return found, airflow.log(f"lookups_of_{team}", run_id, "look_up")


@pytest.mark.attempt("get the connection of another team")
def test_only_tasks_of_the_team_get_its_connection_however_it_is_spelled(
    airflow: AirflowSite, request: pytest.FixtureRequest
) -> None:
    (own, log), (others, _) = found_by(airflow, TEAM), found_by(airflow, "marketing")
    # A worker that has its URL and key does not use the fleet store.
    assert log.count(_UNUSED) == ("resolves" in request.node.name)
    assert (own[CONN_ID], own["shared"]) == ("IAM:etl", "IAM:etl")
    assert {conn_id for conn_id, login in others.items() if login == "IAM:etl"} == {"shared"}
    # A question is answered by this backend, whatever the metadata database has under that name.
    assert {others.pop(each) for each in QUESTIONS} == {None}
    assert {login for conn_id, login in others.items() if conn_id != "shared"} == {"AirflowNotFoundException"}


def test_the_audit_has_the_team_that_asked(airflow: AirflowSite, request: pytest.FixtureRequest) -> None:
    for team in (TEAM, "marketing"):
        found_by(airflow, team)
    events = map(json.loads, (airflow.home / AUDIT).read_text("utf-8").splitlines())
    by_server = [event for event in events if event["event"] == "served" and event["process"] == "api-server"]
    of_all = set() if "resolves" in request.node.name else {("shared", TEAM), ("shared", "marketing")}
    assert {(event["conn_id"], event["team"]) for event in by_server} == {(CONN_ID, TEAM), *of_all}
