"""A real Airflow in front of the stand-in, with a real PostgreSQL as its metadata database, and AWS rights for its processes.

    with StandIn(config.parse(WAREHOUSES)) as stand_in, airflow_site(stand_in) as airflow:
        airflow.start("api-server", changes={**backend_environment(), **aws_rights(stand_in, "server")})
        airflow.start("scheduler", "dag-processor")
        run_id = airflow.trigger("some_dag")
        assert airflow.wait_for_run("some_dag", run_id) == "success"

A process without `backend_environment` does not have this backend, and one without `aws_rights` has no AWS credentials.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redshift_secrets.local.config import DEFAULT_ACCOUNT, Database
from redshift_secrets.local.postgres import PostgresServer
from redshift_secrets.local.stand_in import StandIn
from tests.support.airflow_runs import TaskKey
from tests.support.airflow_site import AirflowSite, airflow_version

ROOT = Path(__file__).parents[2]
DAGS = Path(__file__).parent / "dags"
MINT = "redshift:GetClusterCredentials"
MINT_WITH_IAM = "redshift:GetClusterCredentialsWithIAM"
LIST = "redshift:DescribeClusters"

PATIENCE_SECONDS = 900.0
"""How long a test waits for Airflow before it fails."""

from_airflow_3 = pytest.mark.skipif(airflow_version() < (3, 0), reason="Airflow 2 has no Execution API")


WORKERS_ASK_THE_SERVER = {"AIRFLOW__WORKERS__SECRETS_BACKEND": "redshift_secrets.ServerSideBackend"}
"""The rest of the configuration where only servers have AWS rights; see docs/deploy.md."""


def aws_rights(stand_in: StandIn, role: str) -> dict[str, str]:
    """Return the environment of a process that calls AWS as this role, `IAMR:<role>` in a database with `auth = iam`."""
    arn = f"arn:aws:sts::{DEFAULT_ACCOUNT}:assumed-role/{role}/airflow"
    key_id, secret, token = stand_in.aws.add_access_key(arn)
    assert token is not None
    return {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token}


@contextlib.contextmanager
def airflow_site(stand_in: StandIn, dags: Path = DAGS, /, **environment: str) -> Iterator[AirflowSite]:
    """Set up an Airflow, of which nothing runs yet. Its processes have neither AWS credentials nor this backend, unless
    `environment` or `start` gives them."""
    shared = {name: value for name, value in stand_in.environment().items() if "_KEY" not in name}
    shared["PYTHONPATH"] = str(ROOT)  # for the triggerer, which does not read the folder of DAGs
    with tempfile.TemporaryDirectory(prefix="redshift-secrets-metadata-") as folder:
        server = PostgresServer("the metadata database", Database("airflow"), "airflow", Path(folder))
        try:
            server.start()
            assert server.socket is not None
            url = f"postgresql+psycopg2://airflow@/airflow?host={server.socket.parent}"
            with AirflowSite(
                dags, {**shared, **environment}, database_url=url, patience_seconds=PATIENCE_SECONDS
            ) as airflow:
                yield airflow
        finally:
            server.stop()


def forget(airflow: AirflowSite) -> None:
    """Remove the host store, as if the host had just been started."""
    shutil.rmtree(airflow.host_store, ignore_errors=True)


def run(airflow: AirflowSite, dag_id: str, **conf: Any) -> tuple[str, str]:
    """Run a DAG to its end; return the run_id and the final state."""
    run_id = airflow.trigger(dag_id, conf)
    return run_id, airflow.wait_for_run(dag_id, run_id)


RENDERED_FIELDS = ("rendered_", "rtif_")
"""The begin of the tables with rendered templates, the second one since Airflow 3.4."""


def rows_of_tables(airflow: AirflowSite, *prefixes: str) -> bytes:
    """Return all that is in the tables whose names begin so, with what is stored as bytes in clear."""
    tables = airflow.query("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    return b"\n".join(
        bytes(value) if isinstance(value, (bytes, memoryview)) else str(value).encode()
        for (table,) in tables
        if table.startswith(prefixes)
        for row in airflow.query(f'SELECT * FROM "{table}"')
        for value in row
    )


def check_every_kind_of_lookup(airflow: AirflowSite, stand_in: StandIn, role: str) -> list[str]:
    """Run the DAG `lookups`, whose connections a process with the AWS rights of `role` resolves; return the tasks' logs."""
    stand_in.aws.calls.clear()
    run_id, state = run(airflow, "lookups")
    assert state == "success", airflow.last_lines()
    results = airflow.results("lookups", run_id)
    assert results[TaskKey("hook")] == "etl"
    assert results[TaskKey("slash")] == "etl"
    assert results[TaskKey("by_iam")] == f"IAMR:{role}"
    assert results[TaskKey("template")] == "IAM:etl dwh redshift localhost"
    calls = stand_in.aws.calls.by_operation()
    assert (calls[MINT], calls[MINT_WITH_IAM]) == (1, 1)
    assert (calls[LIST], calls["resourcegroupstaggingapi:GetResources"]) == (1, 1)
    return [airflow.log("lookups", run_id, task.task_id) for task in results]


def check_lines_of_served_connections(logs: list[str]) -> None:
    """Each task says once of each of its connections where it leads, as whom, and for how long."""
    line = re.compile(
        r"connection ('[^']+') is served.*: (?:cluster|Serverless workgroup) \S+ \(account \d+, \S+\).*user \S+"
    )
    for log in logs:
        served = line.findall(log)
        assert served, log
        assert len(served) == len(set(served)), log
