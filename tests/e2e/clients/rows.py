"""What the tests of clients share: a row of `docs/clients.md` for each, made of what the test found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

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

WHO = "SELECT current_user, current_setting('application_name')"
TASK = {"AIRFLOW_CTX_DAG_ID": "sales", "AIRFLOW_CTX_TASK_ID": "load"}
TASK_NAME = "airflow/sales/load"


def client(name: str) -> pytest.MarkDecorator:
    """A test of this client, which makes its row."""
    return pytest.mark.client(name)


class Row:
    """What a test finds about its client."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._ran: list[str] = []
        self._extra = "nothing"
        self._user = "-"
        self._named = "-"
        self._limits = "-"

    def ran(self, what: str) -> None:
        """This was run, and came out as it should."""
        self._ran.append(what)

    def extra(self, connection: Any, because: str = "") -> None:
        """The client works with the `extra` of this connection."""
        keys = sorted(set(connection.extra_dejson) - {"application_name"})
        self._extra = (", ".join(f"`{key}`" for key in keys) + because) if keys else "nothing"

    def who(self, found: Sequence[Any]) -> None:
        """What the warehouse answered the client to `WHO`."""
        user, application = found
        self._user = f"`{user}`"
        self._named = f"`{application}`" if application == TASK_NAME else "no"

    def cannot(self, limits: str) -> None:
        """What real Redshift has and PostgreSQL behind the gateway has not, as far as this client uses it."""
        self._limits = limits

    def cells(self) -> tuple[str, ...]:
        """The row."""
        return (self._name, "; ".join(self._ran), self._extra, self._user, self._named, self._limits)
