"""A real Airflow under a sub path, with users of each kind, in front of the stand-in."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from redshift_secrets.local.stand_in import StandIn
from tests.integration.site import airflow_site, aws_rights
from tests.support.airflow_parts import backend_environment
from tests.support.airflow_site import AirflowSite, airflow_version

FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
TEAMS = airflow_version() >= (3, 2)
USERS = {"admin": "admin", "op": "op", "viewer": "viewer", **({"fin": "op:finance"} if TEAMS else {})}
_ADD_USERS = """
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

with get_application_builder() as builder:
    for name, role in {users}.items():
        assert builder.sm.add_user(name, name, name, name + "@example.com", builder.sm.find_role(role), password=name)
"""
"""What `airflow users create` does, once for all of them: each command takes its time to start."""
_DATABASE = {"name": "dwh", "users": ["etl"]}
WAREHOUSES: dict[str, Any] = {
    "clusters": [
        {
            "identifier": "prod",
            "database": _DATABASE,
            "tags": {"airflow:conn-id": "analytics reports", "airflow:db-user": "etl"},
        },
        {
            "identifier": "sleepy",
            "status": "paused",
            "database": _DATABASE,
            "tags": {"airflow:conn-id": "nightly nightly_raw", "airflow:db-user": "etl"},
        },
        {
            "identifier": "copy",
            "database": _DATABASE,
            "tags": {"airflow:conn-id": "reports", "airflow:db-user": "etl", "airflow:durationn": "900"},
        },
        {
            "identifier": "ledgers",
            "database": _DATABASE,
            "tags": {"airflow:conn-id": "ledger", "airflow:db-user": "etl", "airflow:team": "finance"},
        },
    ],
    "workgroups": [{"name": "adhoc", "database": _DATABASE, "tags": {"airflow:conn-id": "exploration"}}],
}


@contextlib.contextmanager
def site_with_page(stand_in: StandIn) -> Iterator[AirflowSite]:
    """Start an API server with SimpleAuthManager, in which everybody's password is their name."""
    environment = {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in USERS.items()),
        "AIRFLOW__CORE__MULTI_TEAM": str(TEAMS),
    }
    with airflow_site(stand_in, **environment) as site:
        site.environment["AIRFLOW__API__BASE_URL"] = f"{site.url}/behind/a-proxy"
        (site.home / "passwords.json").write_text(json.dumps({name: name for name in USERS}))
        if TEAMS:
            site.airflow("teams", "create", "finance")
        site.environment |= {**backend_environment(), **aws_rights(stand_in, "airflow")}
        site.start("api-server")
        site.wait_until_ready()
        yield site


@contextlib.contextmanager
def site_with_fab(stand_in: StandIn, *roles: str) -> Iterator[AirflowSite]:
    """Start an API server with the FAB auth manager and one user for each of its roles, in lower case, also as the password."""
    with airflow_site(stand_in, AIRFLOW__CORE__AUTH_MANAGER=FAB) as site:
        site.run("python", "-c", _ADD_USERS.format(users={role.lower(): role for role in roles}))
        site.environment |= {**backend_environment(), **aws_rights(stand_in, "airflow")}
        site.start("api-server")
        site.wait_until_ready()
        yield site
