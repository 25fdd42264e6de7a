"""A real Airflow in front of the stand-in, whose metadata database is a real PostgreSQL; who has which AWS rights.

    with StandIn(config.parse(WAREHOUSES)) as stand_in, airflow_site(stand_in) as airflow:
        airflow.start("api-server", changes={**resolves(), **rights_of(stand_in, "server")})
        airflow.start("scheduler", "dag-processor")
        run_id = airflow.trigger("some_dag")
        assert airflow.wait_for_run("some_dag", run_id) == "success"

What is started without `resolves` does not know us, and without `rights_of` it has no AWS credentials at all.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redshift_secrets.local.config import DEFAULT_ACCOUNT, Database
from redshift_secrets.local.postgres import PostgresServer
from redshift_secrets.local.stand_in import StandIn
from tests.support.airflow_site import AirflowSite, airflow_version

ROOT = Path(__file__).parents[2]
DAGS = Path(__file__).parent / "dags"
MINT = "redshift:GetClusterCredentials"
MINT_WITH_IAM = "redshift:GetClusterCredentialsWithIAM"

from_airflow_3 = pytest.mark.skipif(airflow_version() < (3, 0), reason="Airflow 2 has no Execution API")


def resolves(**settings: Any) -> dict[str, str]:
    """Return the environment of a process in which we are the secrets backend, with these settings."""
    return {
        "AIRFLOW__SECRETS__BACKEND": "redshift_secrets.RedshiftSecretsBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"regions": ["eu-west-1"], **settings}),
    }


WORKERS_ASK_THE_SERVER = {"AIRFLOW__WORKERS__SECRETS_BACKEND": "redshift_secrets.ServerSideBackend"}
"""What a configuration for all processes has besides us where only servers have AWS rights; see docs/deploy.md."""


def rights_of(stand_in: StandIn, role: str) -> dict[str, str]:
    """Return the environment of a process that calls AWS as this role, `IAMR:<role>` in a database with `auth = iam`."""
    arn = f"arn:aws:sts::{DEFAULT_ACCOUNT}:assumed-role/{role}/airflow"
    key_id, secret, token = stand_in.aws.add_access_key(arn)
    assert token is not None
    return {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token}


@contextlib.contextmanager
def airflow_site(stand_in: StandIn, dags: Path = DAGS, /, **environment: str) -> Iterator[AirflowSite]:
    """Make an Airflow of which nothing runs yet. None of its processes has AWS credentials or us, unless `environment`
    or `start` says so."""
    shared = {name: value for name, value in stand_in.environment().items() if "_KEY" not in name}
    shared["PYTHONPATH"] = str(ROOT)  # for the triggerer, which does not look into the folder of DAGs
    with tempfile.TemporaryDirectory(prefix="redshift-secrets-metadata-") as folder:
        server = PostgresServer("the metadata database", Database("airflow"), "airflow", Path(folder))
        try:
            server.start()
            assert server.socket is not None
            url = f"postgresql+psycopg2://airflow@/airflow?host={server.socket.parent}"
            with AirflowSite(dags, {**shared, **environment}, database_url=url) as airflow:
                yield airflow
        finally:
            server.stop()


def forget(airflow: AirflowSite) -> None:
    """Take away what is kept on the site's host, as if it had just been started."""
    shutil.rmtree(airflow.home / "run" / "redshift-secrets", ignore_errors=True)


def run(airflow: AirflowSite, dag_id: str, **conf: Any) -> tuple[str, str]:
    """Run a DAG to its end; return the run_id and the state it ended in."""
    run_id = airflow.trigger(dag_id, conf)
    return run_id, airflow.wait_for_run(dag_id, run_id)
