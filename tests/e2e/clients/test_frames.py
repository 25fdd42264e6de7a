"""Data frames through the hooks."""

from __future__ import annotations

import pytest
from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.providers.postgres.hooks.postgres import PostgresHook

from tests.e2e.clients.rows import QUERY, Row, checked, client

NUMBERS = "SELECT n, n * 2 AS twice FROM generate_series(1, 3) AS n"


@pytest.mark.attempt("pose as a warehouse")
@client("pandas, `get_df` of `RedshiftSQLHook`")
@pytest.mark.filterwarnings("ignore:pandas only supports SQLAlchemy")
def test_pandas(row: Row) -> None:
    hook = RedshiftSQLHook("analytics")
    frame = hook.get_df(NUMBERS, df_type="pandas")
    assert list(frame.columns) == ["n", "twice"]
    assert frame["twice"].tolist() == [2, 4, 6]
    row.ran('`get_df(..., df_type="pandas")`')
    row.user(hook.get_df(QUERY, df_type="pandas").iloc[0].tolist())
    row.extra(hook.conn)
    row.trusts(lambda conn_id: RedshiftSQLHook(conn_id).get_df(QUERY, df_type="pandas"))


@client("pandas, `get_df` of `PostgresHook`")
def test_pandas_through_an_engine(row: Row) -> None:
    hook = PostgresHook("analytics")
    assert hook.get_df(NUMBERS, df_type="pandas")["twice"].tolist() == [2, 4, 6]
    row.ran('`get_df(..., df_type="pandas")`; it uses the engine of the hook')
    row.user(hook.get_df(QUERY, df_type="pandas").iloc[0].tolist())
    row.trusts(lambda conn_id: PostgresHook(conn_id).get_df(QUERY, df_type="pandas"), "", "-pg", unless=checked())


@pytest.mark.attempt("pose as a warehouse")
@client("polars, `get_df` of both hooks")
def test_polars(row: Row) -> None:
    hook = RedshiftSQLHook("analytics")
    for each in (hook, PostgresHook("analytics")):
        frame = each.get_df(NUMBERS, df_type="polars")
        assert frame.columns == ["n", "twice"]
        assert frame["twice"].to_list() == [2, 4, 6]
    row.ran('`get_df(..., df_type="polars")`')
    row.user(hook.get_df(QUERY, df_type="polars").row(0))
    row.extra(hook.conn)
    row.trusts(lambda conn_id: RedshiftSQLHook(conn_id).get_df(QUERY, df_type="polars"))
    row.trusts(lambda conn_id: PostgresHook(conn_id).get_df(QUERY, df_type="polars"), "", "-pg")
