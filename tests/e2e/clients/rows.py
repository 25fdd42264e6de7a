"""A row of `docs/clients.md` for each client, generated from what its test found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from airflow.sdk.definitions.connection import Connection

from tests.support.tables import Table

TABLE = Table(
    "clients.md",
    "clients",
    (
        "client",
        "what ran",
        "`extra` it needs",
        "logged in as",
        "the task is named",
        "what the stand-in cannot show",
    ),
)

QUERY = "SELECT current_user, current_setting('application_name')"
TASK = {"AIRFLOW_CTX_DAG_ID": "sales", "AIRFLOW_CTX_TASK_ID": "load"}
TASK_NAME = "airflow/sales/load"


def client(name: str) -> pytest.MarkDecorator:
    """Mark a test of this client, which generates its row."""
    return pytest.mark.client(name)


class Row:
    """The findings of a test about its client."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._ran: list[str] = []
        self._extra = "nothing"
        self._user = "-"
        self._named = "-"
        self._limits = "-"

    def ran(self, what: str) -> None:
        """Record what was run with the right result."""
        self._ran.append(what)

    def extra(self, connection: Any, because: str = "") -> None:
        """Record that the client works with the `extra` of this connection."""
        keys = sorted(set(connection.extra_dejson) - {"application_name"})
        self._extra = (", ".join(f"`{key}`" for key in keys) + because) if keys else "nothing"

    def user(self, found: Sequence[Any]) -> None:
        """Record the result of the query `QUERY`."""
        user, application = found
        self._user = f"`{user}`"
        self._named = f"`{application}`" if application == TASK_NAME else "no"

    def hook(self, hook: Any, because: str = "") -> None:
        """Record the user and the `extra` with which the client logs in through this hook."""
        self.user(hook.get_first(QUERY))
        self.extra(Connection.get(hook.get_conn_id()), because)

    def cannot(self, limits: str) -> None:
        """Record what this client uses of Redshift that the PostgreSQL behind the gateway does not have."""
        self._limits = limits

    def cells(self) -> tuple[str, ...]:
        """Return the row."""
        return (self._name, "; ".join(self._ran), self._extra, self._user, self._named, self._limits)
