"""The audit of a real Airflow: each connection that a task gets is a line with the task, and no line has a password."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redshift_secrets.local.stand_in import StandIn
from tests.integration.site import WORKERS_ASK_THE_SERVER, airflow_site, aws_rights, run
from tests.support.airflow_parts import backend_environment
from tests.support.airflow_site import AirflowSite, airflow_version

pytestmark = pytest.mark.airflow

Event = dict[str, Any]
TASKS = {"operator": "analytics", "hook": "analytics", "by_iam": "by-iam", "template": "analytics"}
"""The tasks of the DAG `lookups` and their connections."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "audit.jsonl"


def events(path: Path, stand_in: StandIn, **wanted: object) -> list[Event]:
    """Return the events that have these fields; `None` is for one that is missing."""
    content = path.read_text("utf-8")
    assert [minted for minted in stand_in.tokens.minted() if minted.password in content] == []
    found = [json.loads(line) for line in content.splitlines()]
    return [event for event in found if all(event.get(name) == value for name, value in wanted.items())]


@pytest.fixture(scope="class")
def airflow(stand_in: StandIn, path: Path) -> Iterator[AirflowSite]:
    backend = backend_environment(db_user="etl_{dag_id}", catalog_ttl_seconds=3600, audit=str(path))
    with airflow_site(stand_in) as site:
        site.start("api-server", "dag-processor")
        site.start("scheduler", changes={**backend, **aws_rights(stand_in, "worker")})
        site.start("triggerer", changes={**backend, **aws_rights(stand_in, "triggerer")})
        site.wait_until_ready()
        yield site


class TestWorkersThatResolve:
    def test_each_task_leaves_its_lines(self, airflow: AirflowSite, stand_in: StandIn, path: Path) -> None:
        run_id, state = run(airflow, "lookups")
        assert state == "success", airflow.last_lines()
        for task_id, conn_id in TASKS.items():
            served = events(path, stand_in, event="served", dag_id="lookups", task_id=task_id, run_id=run_id)
            assert {(event["conn_id"], event["process"], event["try_number"]) for event in served} == {
                (conn_id, "task", 1)
            }
            assert all("map_index" not in event for event in served)
            assert {event["warehouse"].rpartition(":")[2] for event in served} == {"prod"}
        minted = {event["conn_id"]: event for event in events(path, stand_in, event="minted")}
        assert minted.keys() == {"analytics", "by-iam"}
        for conn_id, mint in minted.items():
            assert mint["request_id"]
            assert "assumed-role/worker" in mint["caller"]
            same = events(path, stand_in, event="served", conn_id=conn_id, password=mint["password"])
            assert {event["request_id"] for event in same} == {mint["request_id"]}

    def test_each_mapped_task_is_told_apart(self, airflow: AirflowSite, stand_in: StandIn, path: Path) -> None:
        run_id, state = run(airflow, "mapped", tasks=3)
        assert state == "success", airflow.last_lines()
        served = events(path, stand_in, event="served", run_id=run_id, task_id="log_in")
        assert sorted({event["map_index"] for event in served}) == [0, 1, 2]

    def test_a_trigger_has_the_task_that_waits_for_it(
        self, airflow: AirflowSite, stand_in: StandIn, path: Path
    ) -> None:
        run_id, state = run(airflow, "deferrable")
        assert state == "success", airflow.last_lines()
        served = events(path, stand_in, event="served", process="triggerer")
        assert len(served) == 3
        if airflow_version() >= (3, 3):
            assert {(event["dag_id"], event["task_id"], event["run_id"]) for event in served} == {
                ("deferrable", "defers", run_id)
            }

    def test_a_command_that_is_refused_is_a_line(self, airflow: AirflowSite, stand_in: StandIn, path: Path) -> None:
        backend = backend_environment(db_user="etl_{dag_id}", catalog_ttl_seconds=3600, audit=str(path))
        changes = {**backend, **aws_rights(stand_in, "worker")}
        airflow.completed("airflow", "connections", "get", "by-dag", changes=changes)
        refused = events(path, stand_in, event="refused")
        assert {(event["conn_id"], event["process"]) for event in refused} == {("by-dag", "connections")}
        assert "cannot be served" in refused[0]["message"]

    def test_the_command_says_which_task_used_which_warehouse_as_whom(
        self, airflow: AirflowSite, stand_in: StandIn, path: Path
    ) -> None:
        rows = json.loads(airflow.run("redshift-secrets", "audit", str(path), "-o", "json"))
        used = {
            (row["dag_id"], row["task_id"], row["conn_id"], row["user"]) for row in rows if row["event"] == "served"
        }
        assert {("lookups", "hook", "analytics", "IAM:etl"), ("lookups", "by_iam", "by-iam", "IAMR:worker")} <= used


@pytest.mark.skipif(airflow_version() < (3, 0), reason="Airflow 2 has no Execution API")
def test_where_the_server_resolves_its_lines_have_no_task(stand_in: StandIn, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    settings = backend_environment(
        connections_lookup_pattern="^(analytics|by-iam|data/analytics)$", catalog_ttl_seconds=3600, audit=str(path)
    )
    with airflow_site(stand_in, **settings, **WORKERS_ASK_THE_SERVER) as site:
        site.start("scheduler", "dag-processor")
        site.start("api-server", changes=aws_rights(stand_in, "server"))
        site.wait_until_ready()
        _, state = run(site, "lookups")
        assert state == "success", site.last_lines()
    served = events(path, stand_in, event="served")
    assert {event["conn_id"] for event in served} == {"analytics", "by-iam", "data/analytics"}
    assert {event["process"] for event in served} == {"api-server"}
    assert [event for event in served if "task_id" in event] == []
