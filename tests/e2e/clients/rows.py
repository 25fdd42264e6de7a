"""A row of `docs/clients.md` for each client, generated from what its test found."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from airflow.sdk.definitions.connection import Connection

from tests.e2e.clients.wrong import WrongServers
from tests.support.tables import Table

TABLE = Table(
    "clients.md",
    "clients",
    (
        "client",
        "what ran",
        "`extra` it works with",
        "logged in as",
        "the task is named",
        "sends the password to a wrong server",
        "what the stand-in cannot show",
    ),
)

QUERY = "SELECT current_user, current_setting('application_name')"
TASK = {"AIRFLOW_CTX_DAG_ID": "sales", "AIRFLOW_CTX_TASK_ID": "load"}
TASK_NAME = "airflow/sales/load"


def client(name: str) -> pytest.MarkDecorator:
    """Mark a test of this client, which generates its row."""
    return pytest.mark.client(name)


def checked() -> dict[str, str]:
    """Return what makes libpq check the server where it is told nothing else."""
    return {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": os.environ["PGSSLROOTCERT"]}


class Row:
    """The findings of a test about its client."""

    def __init__(self, name: str, wrong: WrongServers) -> None:
        self._name = name
        self._wrong = wrong
        self._ran: list[str] = []
        self._extra = "nothing"
        self._user = "-"
        self._named = "-"
        self._tricked: set[str] | None = None
        self._remedy: str | None = None
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

    def trusts(self, connect: Callable[[str], object], *suffixes: str, unless: Mapping[str, str] | None = None) -> None:
        """Record to which wrong servers a client sends the password that connects with `connect(conn_id)`, and that it sends it
        to none with the environment variables of `unless`. Several ways to connect add up."""
        kinds = suffixes or ("",)
        found = self._wrong.that_get_the_password(connect, *kinds)
        if unless is None:
            self._tricked = found | (self._tricked or set())
            return
        assert found, "it needs no environment variable"
        with pytest.MonkeyPatch.context() as patch:
            for name, value in unless.items():
                patch.setenv(name, value)
            assert self._wrong.that_get_the_password(connect, *kinds) == set()
        self._remedy = f"{', '.join(sorted(found))}: set {' and '.join(f'`{name}`' for name in unless)}"

    def sends_no_password_to_wrong_servers(self) -> bool:
        """Whether that was tried and found, with nothing in the environment to help."""
        return self._trusted() == "never"

    def _trusted(self) -> str:
        if self._remedy is not None:
            return self._remedy
        return "-" if self._tricked is None else ", ".join(sorted(self._tricked)) or "never"

    def cannot(self, limits: str) -> None:
        """Record what this client uses of Redshift that the PostgreSQL behind the gateway does not have."""
        self._limits = limits

    def cells(self) -> tuple[str, ...]:
        """Return the row."""
        return (self._name, "; ".join(self._ran), self._extra, self._user, self._named, self._trusted(), self._limits)
