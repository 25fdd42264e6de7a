"""Clients that read names from the Connection and open no session with it.

They need the host names of AWS, which no host of this machine has. So the simulated AWS runs alone here, and its warehouses
have addresses like real ones.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import boto3
import pytest
from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.providers.amazon.aws.operators.redshift_data import RedshiftDataOperator
from airflow.providers.openlineage.sqlparser import SQLParser
from airflow.sdk.execution_time.context import ConnectionAccessor

from redshift_secrets.local import config
from redshift_secrets.local.aws import SimulatedAws
from redshift_secrets.local.tokens import TokenRegistry
from tests.e2e.clients.rows import Row, client

WAREHOUSES = {
    "clusters": [
        {"identifier": "prod", "database": "dwh", "tags": {"airflow:conn-id": "lake", "airflow:db-user": "etl"}}
    ],
    "workgroups": [{"name": "adhoc", "database": "scratch", "tags": {"airflow:conn-id": "serverless"}}],
}


class Addresses:
    """https://docs.aws.amazon.com/redshift/latest/mgmt/configuring-connections.html and
    https://docs.aws.amazon.com/redshift/latest/mgmt/serverless-connecting.html"""

    def address_of(self, warehouse_arn: str, endpoint: str) -> tuple[str, int] | None:
        name = warehouse_arn.split(":")[-1]
        if "serverless" in warehouse_arn:
            return "adhoc.123456789012.eu-west-1.redshift-serverless.amazonaws.com", 5439
        return f"{name}.abc123xyz789.eu-west-1.redshift.amazonaws.com", 5439


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch, airflow: None) -> Iterator[SimulatedAws]:
    aws = SimulatedAws(
        config.parse(WAREHOUSES), TokenRegistry(time.time), endpoints=Addresses(), clock=time.time, port=0
    )
    aws.start()
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    yield aws
    aws.stop()


@client("OpenLineage")
def test_openlineage(row: Row) -> None:
    names = []
    for conn_id in ("lake", "serverless"):
        hook = RedshiftSQLHook(conn_id)
        info = hook.get_openlineage_database_info(hook.conn)
        names.append(SQLParser.create_namespace(info))
        assert info.database == hook.conn.schema
    assert names[0] == "redshift://prod.eu-west-1:5439"
    row.ran(f"namespaces: a cluster is `{names[0]}`, a workgroup `{names[1]}`")
    row.extra(hook.conn)
    row.cannot("hosts of this name: nothing was logged in to")


def data_operator(**names: str) -> RedshiftDataOperator:
    operator = RedshiftDataOperator(
        task_id="query", sql="SELECT 1", aws_conn_id=None, wait_for_completion=False, region_name="eu-west-1", **names
    )
    operator.render_template_fields({"conn": ConnectionAccessor()})  # type: ignore[typeddict-unknown-key]
    return operator


@client("`RedshiftDataOperator`")
def test_redshift_data_operator(row: Row) -> None:
    operator = data_operator(
        cluster_identifier="{{ conn.lake.host.split('.')[0] }}",
        database="{{ conn.lake.schema }}",
        db_user="{{ conn.lake.login.split(':')[1] }}",
    )
    operator.execute({})  # type: ignore[typeddict-item]
    described = boto3.client("redshift-data").describe_statement(Id=operator.statement_id)
    assert [described[name] for name in ("ClusterIdentifier", "Database", "DbUser", "QueryString")] == [
        "prod",
        "dwh",
        "etl",
        "SELECT 1",
    ]
    row.ran("a statement, on a cluster with `cluster_identifier`, `database` and `db_user` out of the Connection")
    rendered = data_operator(
        workgroup_name="{{ conn.serverless.host.split('.')[0] }}", database="{{ conn.serverless.schema }}"
    )
    assert (rendered.workgroup_name, rendered.database) == ("adhoc", "scratch")
    row.ran("`workgroup_name` likewise")
    row.extra(RedshiftSQLHook("lake").conn)
    row.cannot("the Data API's answers: nothing runs the statement. It takes no password; the worker needs its rights")
