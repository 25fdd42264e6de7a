"""Airflow's operators and sensors."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import redshift_connector
from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.providers.amazon.aws.transfers.redshift_to_s3 import RedshiftToS3Operator
from airflow.providers.amazon.aws.transfers.s3_to_redshift import S3ToRedshiftOperator
from airflow.providers.common.sql.operators.sql import SQLColumnCheckOperator, SQLExecuteQueryOperator
from airflow.providers.common.sql.sensors.sql import SqlSensor
from airflow.sdk.definitions.connection import Connection
from airflow.sdk.exceptions import AirflowException

from tests.e2e.clients.rows import QUERY, Row, client

CONTEXT: Any = {}


@pytest.mark.parametrize("conn_id", ["analytics", "as-postgres"])
def test_sql_execute_query_operator_takes_either_connection_type(conn_id: str) -> None:
    operator = SQLExecuteQueryOperator(task_id="query", conn_id=conn_id, sql=QUERY, do_xcom_push=True)
    assert [row[0] for row in operator.execute(CONTEXT)] == ["etl"]


@pytest.mark.attempt("pose as a warehouse")
@client("`SQLExecuteQueryOperator`")
def test_sql_execute_query_operator(row: Row) -> None:
    query = SQLExecuteQueryOperator(task_id="query", conn_id="analytics", sql=QUERY, do_xcom_push=True)
    row.user(query.execute(CONTEXT)[0])
    row.ran("a query")
    several = SQLExecuteQueryOperator(
        task_id="several",
        conn_id="analytics",
        sql="CREATE TABLE IF NOT EXISTS operated (n int); DELETE FROM operated; INSERT INTO operated VALUES (7)",
        split_statements=True,
    )
    several.execute(CONTEXT)
    assert RedshiftSQLHook("analytics").get_first("SELECT n FROM operated")[0] == 7
    row.ran("several statements; of connection type `redshift` and `postgres`")
    row.extra(Connection.get("analytics"))
    row.trusts(
        lambda conn_id: SQLExecuteQueryOperator(task_id="q", conn_id=conn_id, sql=QUERY).execute(CONTEXT), "", "-pg"
    )


@pytest.mark.attempt("pose as a warehouse")
@client("`SQLColumnCheckOperator`")
def test_sql_column_check_operator(row: Row) -> None:
    RedshiftSQLHook("analytics").run(["DROP TABLE IF EXISTS checked", "CREATE TABLE checked AS SELECT 1 AS n"])

    def check(maximum: int, conn_id: str = "analytics") -> SQLColumnCheckOperator:
        mapping = {"n": {"null_check": {"equal_to": 0}, "max": {"leq_to": maximum}}}
        return SQLColumnCheckOperator(task_id="check", conn_id=conn_id, table="checked", column_mapping=mapping)

    check(1).execute(CONTEXT)
    row.ran("checks that hold")
    failing = check(0)
    with pytest.raises(AirflowException, match="have failed"):
        failing.execute(CONTEXT)
    row.ran("one that fails")
    row.hook(failing.get_db_hook())
    row.trusts(lambda conn_id: check(1, conn_id).execute(CONTEXT), "", "-pg")


@pytest.mark.attempt("pose as a warehouse")
@client("`SqlSensor`")
def test_sql_sensor(row: Row) -> None:
    def sensor(sql: str, conn_id: str = "analytics") -> SqlSensor:
        return SqlSensor(task_id="wait", conn_id=conn_id, sql=sql)

    assert sensor("SELECT 1").poke(CONTEXT)
    assert not sensor("SELECT 0").poke(CONTEXT)
    row.ran("`poke`, which looks the connection up each time")
    row.hook(sensor("SELECT 1")._get_hook())
    row.trusts(lambda conn_id: sensor("SELECT 1", conn_id).poke(CONTEXT), "", "-pg")


def statement(operator: Any) -> str:
    """Return the SQL that an operator sends; PostgreSQL rejects it, since it does not know S3."""
    sent: list[str] = []
    execute = redshift_connector.Cursor.execute

    def recording(cursor: Any, sql: str, *rest: Any) -> Any:
        sent.append(" ".join(sql.split()))
        return execute(cursor, sql, *rest)

    with (
        mock.patch.object(redshift_connector.Cursor, "execute", recording),
        pytest.raises(redshift_connector.ProgrammingError, match="syntax error"),
    ):
        operator.execute(CONTEXT)
    return sent[-1]


@pytest.fixture
def transfer(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments of a transfer; its AWS connection has the role that Redshift itself reads and writes S3 as."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_COPY_ROLE", '{"conn_type": "aws", "extra": {"role_arn": "arn:aws:iam::1:role/copy"}}'
    )
    return {"aws_conn_id": "copy_role", "s3_bucket": "lake"}


@pytest.mark.attempt("pose as a warehouse")
@client("`S3ToRedshiftOperator`")
def test_s3_to_redshift(row: Row, transfer: dict[str, Any]) -> None:
    def operator(conn_id: str) -> S3ToRedshiftOperator:
        return S3ToRedshiftOperator(
            task_id="load",
            redshift_conn_id=conn_id,
            **transfer,
            schema="public",
            table="sales",
            s3_key="sales.csv",
            copy_options=["csv"],
        )

    assert statement(operator("analytics")) == (
        "COPY public.sales FROM 's3://lake/sales.csv' credentials 'aws_iam_role=arn:aws:iam::1:role/copy' csv;"
    )
    row.ran("logs in and sends its `COPY`; S3 is read as the role of `aws_conn_id`")
    row.hook(RedshiftSQLHook("analytics"))
    row.trusts(lambda conn_id: operator(conn_id).execute(CONTEXT))
    row.cannot("`COPY` from S3: PostgreSQL refuses its syntax")


@pytest.mark.attempt("pose as a warehouse")
@client("`RedshiftToS3Operator`")
def test_redshift_to_s3(row: Row, transfer: dict[str, Any]) -> None:
    def operator(conn_id: str) -> RedshiftToS3Operator:
        return RedshiftToS3Operator(
            task_id="unload", redshift_conn_id=conn_id, **transfer, select_query="SELECT 1", s3_key="sales"
        )

    assert statement(operator("analytics")) == (
        "UNLOAD ($$SELECT 1$$) TO 's3://lake/sales' credentials 'aws_iam_role=arn:aws:iam::1:role/copy' ;"
    )
    row.ran("logs in and sends its `UNLOAD`; S3 is written as the role of `aws_conn_id`")
    row.hook(RedshiftSQLHook("analytics"))
    row.trusts(lambda conn_id: operator(conn_id).execute(CONTEXT))
    row.cannot("`UNLOAD` to S3: PostgreSQL refuses its syntax")
