"""`db_user = etl_{dag_id}`: each DAG logs in as a database user of its own, created and put into groups as it comes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook

from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from tests.support import airflow_parts
from tests.support.airflow_parts import Refusal, as_in_a_new_process
from tests.support.redis_servers import KEY

COMMAND = str(Path(sys.executable).parent / "redshift-secrets")
MINT = "redshift:GetClusterCredentials"
WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {"users": ["bi"], "groups": ["loaders"]},
            "tags": {
                "airflow:conn-id": "analytics reporting by-driver",
                "airflow:db-user/reporting": "bi",
                "airflow:auto-create/reporting": "false",
                "airflow:auth/by-driver": "connector",
            },
        }
    ]
}


@pytest.fixture(scope="module")
def running() -> Iterator[StandIn]:
    with StandIn(config.parse(WAREHOUSES)) as stand_in:
        yield stand_in


@pytest.fixture(autouse=True)
def stand_in(running: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    """An Airflow with a user for each DAG, in front of the stand-in."""
    environment = {
        **running.environment(),
        **airflow_parts.backend_environment(
            db_user="etl_{dag_id}",
            auto_create=True,
            db_groups="loaders",
            # A key of its own: that of Airflow is in a file that other tests have Airflow write, and is read once by a process.
            cache={"path": str(tmp_path), "key": KEY},
        ),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    as_in_a_new_process()
    running.aws.calls.clear()
    yield running
    as_in_a_new_process()


def in_dag(monkeypatch: pytest.MonkeyPatch, dag_id: str, task_id: str = "load") -> None:
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", dag_id)
    monkeypatch.setenv("AIRFLOW_CTX_TASK_ID", task_id)


def who(conn_id: str) -> list[str]:
    groups = "SELECT groname FROM pg_group, pg_user WHERE usesysid = ANY (grolist) AND usename = current_user"
    [[user, group]] = RedshiftSQLHook(redshift_conn_id=conn_id).get_records(f"SELECT current_user, ({groups})")
    return [user, group]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments], env=os.environ, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("conn_id", ["analytics", "by-driver"])
def test_each_dag_is_its_own_user(conn_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for dag_id in ("sales", "stock.daily", "sales"):
        in_dag(monkeypatch, dag_id)
        assert who(conn_id) == [f"etl_{dag_id}", "loaders"]


def test_a_dag_costs_one_mint_for_all_its_tasks_and_processes(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task_id, dag_id in (("a", "sales"), ("b", "sales"), ("a", "stock"), ("b", "stock")):
        in_dag(monkeypatch, dag_id, task_id)
        as_in_a_new_process()  # a backend of its own, as in a new process: what it finds is in the host's store
        assert who("analytics")[0] == f"etl_{dag_id}"
    assert stand_in.aws.calls.by_operation().get(MINT, 0) == 2


def test_a_tag_still_names_one_user_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    in_dag(monkeypatch, "sales")
    assert RedshiftSQLHook(redshift_conn_id="reporting").get_first("SELECT current_user")[0] == "bi"


DAGS_THAT_DO_NOT_FIT = pytest.mark.parametrize(
    ("dag_id", "told"),
    [
        (None, "setting db_user = etl_{dag_id} needs the DAG"),
        ("Sales", "setting db_user = etl_{dag_id} makes no database user for dag_id 'Sales': it must be in lower case"),
        ("s" * 61, "it must be a database user as AWS accepts it: 1 to 64"),
    ],
)


@DAGS_THAT_DO_NOT_FIT
def test_without_a_dag_that_fits_it_is_refused_and_nothing_is_minted(
    dag_id: str | None, told: str, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dag_id is not None:
        in_dag(monkeypatch, dag_id)
    monkeypatch.setenv("AIRFLOW_CONN_ANALYTICS", "redshift://old@old.internal")  # which must not be used instead
    with pytest.raises(Refusal) as refused:
        RedshiftSQLHook(redshift_conn_id="analytics").get_first("SELECT 1")
    assert str(refused.value).startswith("connection 'analytics' cannot be served: ")
    assert told in str(refused.value)
    assert stand_in.aws.calls.by_operation().get(MINT, 0) == 0


def test_the_commands_say_that_the_user_depends_on_the_dag() -> None:
    assert "etl_{dag_id}" in run("list", "-o", "plain").stdout
    assert "etl_{dag_id}" in run("show", "analytics").stdout
    refused = run("test", "analytics")
    assert (refused.returncode, "needs the DAG" in refused.stderr) == (1, True)
    done = run("test", "analytics", "--dag-id", "sales")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "logged in to database dev as etl_sales")


def test_the_store_keeps_no_list_of_dags_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    in_dag(monkeypatch, "sales")
    who("analytics")
    row = next(line for line in run("cache", "-o", "plain").stdout.splitlines() if "analytics" in line)
    assert "one for each DAG" in row
    refused = run("flush", "analytics")
    assert (refused.returncode, "'analytics' has a credential for each DAG" in refused.stderr) == (1, True)
    assert run("flush").returncode == 0
