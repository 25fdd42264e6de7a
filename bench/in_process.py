"""Rows about lookups that a process answers from its own memory."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bench import loopback, processes
from bench.figures import Effort, Line, paired

_PEER = "airflow.secrets.environment_variables.EnvironmentVariablesBackend"
_CONN_ID = "analytics"
_LIMITS = {True: 0.25, False: 0.10}


def found(effort: Effort) -> Sequence[Line]:
    """One process constructs our backend and Airflow's `EnvironmentVariablesBackend`, gives both the Connection class that
    tasks get, and looks `analytics` up once with each. Then it calls `get_connection("analytics")` in batches of about
    20 ms, ours and the peer's in turn; a time is that of a batch divided by its lookups. The variable holds the same
    connection as JSON, which Airflow reads faster than a URI. The second line is the same with the Connection class of the
    API server, a SQLAlchemy model.
    """
    return [
        _line("lookup already in process memory, against `EnvironmentVariablesBackend` finding", effort, "task", True),
        _line("- the same with the API server's Connection", effort, "server", True),
    ]


def missed(effort: Effort) -> Sequence[Line]:
    """As above, for a conn_id that neither has: no tag, no variable. The catalog of our backend is fresh, and
    `connections_lookup_pattern` is not set, so that it cannot rule the conn_id out.
    """
    return [_line("miss with a fresh catalog, against `EnvironmentVariablesBackend` missing", effort, "task", False)]


def _line(work: str, effort: Effort, connection: str, found: bool) -> Line:
    with loopback.loopback([loopback.tagged("prod", _CONN_ID)]) as site:
        variable = json.dumps(
            {
                "conn_type": "redshift",
                "description": "cluster prod (account 123456789012, eu-west-1)",
                "host": "localhost",
                "port": 5439,
                "schema": "dev",
                "login": "IAM:etl",
                "password": "p" * 116,
            }
        )
        environment = site.environment(site.new_host(), {f"AIRFLOW_CONN_{_CONN_ID.upper()}": variable})
        request = {
            "ours": {"path": loopback.OURS, "kwargs": {"regions": ["eu-west-1"]}},
            "peer": {"path": _PEER, "kwargs": {}},
            "conn_id": _CONN_ID if found else "not_ours",
            "found": found,
            "connection": connection,
            "rounds": effort.rounds(50, 10),
        }
        report = processes.ask("batches", request, environment)
    ours, peer = ([nanoseconds * 1e-9 for nanoseconds in report[who]] for who in ("ours", "peer"))
    return paired(work, ours, peer, limit=_LIMITS[found] if connection == "task" else None)
