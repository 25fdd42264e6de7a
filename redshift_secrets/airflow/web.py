"""What the page needs of Airflow's API server: who is signed in, and what they may do with connections.

Imports FastAPI and Airflow's web application, so only the page itself imports this module. An endpoint of a plugin without `SignedIn`
is open to everybody.
https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/auth-manager/index.html
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol, TypeVar
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import ConnectionDetails
from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends

from redshift_secrets.airflow import configuration
from redshift_secrets.airflow.configuration import importable

SignedIn = Annotated[Any, Depends(get_user)]
"""The user of a request, by Airflow's cookie or a bearer token; 401 without one."""

Right = Literal["GET", "PUT"]
"""To read connections, or to edit them."""


class HasTeam(Protocol):
    """Anything about one conn_id; `team` is the only team it belongs to, in lower case, `None` where it is every team's."""

    @property
    def conn_id(self) -> str: ...

    @property
    def team(self) -> str | None: ...


Row = TypeVar("Row", bound=HasTeam)

_KNOWS_TEAMS = any(field.name == "team_name" for field in dataclasses.fields(ConnectionDetails))


def may(user: Any, right: Right) -> bool:
    """Return whether a user has a right to connections at all."""
    return bool(get_auth_manager().is_authorized_connection(method=right, user=user))


def allowed(user: Any, right: Right, rows: Sequence[Row]) -> list[Row]:
    """Return the rows whose conn_id, with the team that it belongs to, the auth manager gives a user this right to."""
    manager, names = get_auth_manager(), _team_names()
    answers: dict[tuple[str, str | None], bool] = {}
    for row in rows:
        conn_id, team = row.conn_id, row.team
        if (conn_id, team) not in answers:
            of_team = {"team_name": names.get(team, team)} if _KNOWS_TEAMS and team is not None else {}
            details = ConnectionDetails(conn_id=conn_id, **of_team)
            answers[conn_id, team] = manager.is_authorized_connection(method=right, details=details, user=user)
    return [row for row in rows if answers[row.conn_id, row.team]]


def public_host() -> str:
    """Return host and port of the address that browsers use, by `[api] base_url`; empty where that is not set."""
    conf = configuration.conf()
    url = conf.get("api", "base_url", fallback="") if conf is not None else ""
    return urlsplit(url or "").netloc.lower()


def _team_names() -> dict[str | None, str]:
    """The names of Airflow's teams by what a tag says, where letter case does not count."""
    models = importable("airflow.models.team") if configuration.has_teams() else []
    return {name.lower(): name for model in models for name in model.Team.get_all_team_names()}
