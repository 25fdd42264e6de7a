"""What `renewing` does not change; what it does is in `tests/e2e/test_long_tasks.py`."""

from __future__ import annotations

import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.sdk import Connection
from sqlalchemy import create_engine, text

from redshift_secrets import renewing


class FileHook(DbApiHook):
    """A hook for a database without user and password."""

    conn_name_attr = "file_conn_id"

    @classmethod
    def get_connection(cls, conn_id: str) -> Connection:
        return Connection(conn_id=conn_id, login="nobody")

    def get_sqlalchemy_engine(self, engine_kwargs=None):
        return create_engine("sqlite://")


def test_an_engine_whose_connection_has_no_password_logs_in_as_before():
    with renewing(FileHook(file_conn_id="file")).get_sqlalchemy_engine().connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1


def test_only_libpq_is_told_how_to_check_the_server(monkeypatch: pytest.MonkeyPatch):
    connection = Connection(conn_id="file", extra='{"sslmode": "verify-full"}')
    monkeypatch.setattr(FileHook, "get_connection", staticmethod(lambda _conn_id: connection))
    with renewing(FileHook(file_conn_id="file")).get_sqlalchemy_engine().connect() as session:
        assert session.execute(text("SELECT 1")).scalar_one() == 1


def test_only_a_hook_for_a_database_is_accepted():
    with pytest.raises(TypeError, match=r"takes a hook for a database \(a DbApiHook\), not a str"):
        renewing("analytics")
