"""`db_user = etl_{dag_id}`: each DAG logs in as its own database user, which is created and put into groups at login."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook

from redshift_secrets.local.stand_in import StandIn
from tests.e2e.commands import run
from tests.e2e.conftest import MINT
from tests.support.airflow_parts import Refusal, as_in_a_new_process, backend_environment
from tests.support.redis_servers import KEY

pytestmark = pytest.mark.airflow

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


@pytest.fixture(autouse=True)
def airflow(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An Airflow with a database user for each DAG."""
    environment = backend_environment(
        db_user="etl_{dag_id}",
        auto_create=True,
        db_groups="loaders",
        # Not Airflow's key: that is in a file which other tests make Airflow write, and is read once in a process.
        cache={"path": str(tmp_path), "key": KEY},
    )
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    as_in_a_new_process()
    yield
    as_in_a_new_process()


def in_dag(monkeypatch: pytest.MonkeyPatch, dag_id: str, task_id: str = "load") -> None:
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", dag_id)
    monkeypatch.setenv("AIRFLOW_CTX_TASK_ID", task_id)


def user_and_group(conn_id: str) -> list[str]:
    groups = "SELECT groname FROM pg_group, pg_user WHERE usesysid = ANY (grolist) AND usename = current_user"
    [[user, group]] = RedshiftSQLHook(redshift_conn_id=conn_id).get_records(f"SELECT current_user, ({groups})")
    return [user, group]


@pytest.mark.parametrize("conn_id", ["analytics", "by-driver"])
def test_each_dag_logs_in_as_its_own_user(conn_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for dag_id in ("sales", "stock.daily", "sales"):
        in_dag(monkeypatch, dag_id)
        assert user_and_group(conn_id) == [f"etl_{dag_id}", "loaders"]


def test_a_driver_that_the_hook_would_send_to_another_region_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    in_dag(monkeypatch, "sales")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    as_in_a_new_process()
    with pytest.raises(Refusal, match="RedshiftSQLHook mints in the default region of this process, us-east-1"):
        user_and_group("by-driver")
    assert user_and_group("analytics") == ["etl_sales", "loaders"]


def test_all_tasks_of_a_dag_share_a_credential(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    for task_id, dag_id in (("a", "sales"), ("b", "sales"), ("a", "stock"), ("b", "stock")):
        in_dag(monkeypatch, dag_id, task_id)
        as_in_a_new_process()  # which finds the credential in the host store
        assert user_and_group("analytics")[0] == f"etl_{dag_id}"
    assert stand_in.aws.calls.by_operation().get(MINT, 0) == 2


def test_a_tag_names_one_user_for_every_dag(monkeypatch: pytest.MonkeyPatch) -> None:
    in_dag(monkeypatch, "sales")
    assert RedshiftSQLHook(redshift_conn_id="reporting").get_first("SELECT current_user")[0] == "bi"


@pytest.mark.parametrize(
    ("dag_id", "reason"),
    [
        (None, "setting db_user = etl_{dag_id} needs the DAG"),
        ("Sales", "for dag_id 'Sales': it must be in lower case"),
        ("s" * 61, "it must be a database user as AWS accepts it: 1 to 64"),
    ],
    ids=["no DAG", "upper case", "too long"],
)
def test_a_dag_whose_id_makes_no_database_user_is_refused_without_a_mint(
    dag_id: str | None, reason: str, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dag_id is not None:
        in_dag(monkeypatch, dag_id)
    monkeypatch.setenv("AIRFLOW_CONN_ANALYTICS", "redshift://old@old.internal")  # must not be used instead
    with pytest.raises(Refusal) as refused:
        RedshiftSQLHook(redshift_conn_id="analytics").get_first("SELECT 1")
    assert str(refused.value).startswith("connection 'analytics' cannot be served: ")
    assert reason in str(refused.value)
    assert stand_in.aws.calls.by_operation().get(MINT, 0) == 0


def test_the_commands_say_that_the_user_depends_on_the_dag() -> None:
    assert "etl_{dag_id}" in run("list", "-o", "plain").stdout
    assert "etl_{dag_id}" in run("show", "analytics").stdout
    refused = run("test", "analytics")
    assert (refused.returncode, "needs the DAG" in refused.stdout) == (1, True)
    done = run("test", "analytics", "--dag-id", "sales")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "logged in to database dev as etl_sales")


def test_the_cache_commands_say_that_the_credentials_of_dags_are_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    in_dag(monkeypatch, "sales")
    user_and_group("analytics")
    row = next(line for line in run("cache", "-o", "plain").stdout.splitlines() if "analytics" in line)
    assert "one for each DAG" in row
    refused = run("flush", "analytics")
    assert (refused.returncode, "'analytics' has a credential for each DAG" in refused.stderr) == (1, True)
    assert run("flush").returncode == 0
