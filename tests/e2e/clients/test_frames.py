"""Data frames through the hooks."""

from __future__ import annotations

import pytest
from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from airflow.providers.postgres.hooks.postgres import PostgresHook

from tests.e2e.clients.rows import QUERY, Row, client

NUMBERS = "SELECT n, n * 2 AS twice FROM generate_series(1, 3) AS n"


@client("pandas, `get_df` of both hooks")
@pytest.mark.filterwarnings("ignore:pandas only supports SQLAlchemy")
def test_pandas(row: Row) -> None:
    hook = RedshiftSQLHook("analytics")
    for each in (hook, PostgresHook("analytics")):
        frame = each.get_df(NUMBERS, df_type="pandas")
        assert list(frame.columns) == ["n", "twice"]
        assert frame["twice"].tolist() == [2, 4, 6]
    row.ran('`get_df(..., df_type="pandas")`')
    row.user(hook.get_df(QUERY, df_type="pandas").iloc[0].tolist())
    row.extra(hook.conn)


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
