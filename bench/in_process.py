"""Rows about lookups that a process answers from its memory."""

from __future__ import annotations

from collections.abc import Sequence

from bench import loopback, processes
from bench.figures import Effort, Line, paired

_PEER = "airflow.secrets.environment_variables.EnvironmentVariablesBackend"
_CONN_ID = "analytics"
_LIMITS = {True: 0.25, False: 0.10}


def found(effort: Effort) -> Sequence[Line]:
    """One process constructs this backend and Airflow's `EnvironmentVariablesBackend`, sets the Connection class of
    tasks on both, and looks up `analytics` once with each. Then it calls `get_connection("analytics")` in batches of
    about 20 ms, alternating between this backend and the peer; a time is that of a batch divided by its number of
    lookups. The variable contains the same connection as JSON, which Airflow parses faster than a URI. The second line
    is the same with the Connection class of the API server, a SQLAlchemy model.
    """
    return [
        _line("lookup already in process memory, against `EnvironmentVariablesBackend` finding", effort, "task", True),
        _line("- the same with the API server's Connection", effort, "server", True),
    ]


def missed(effort: Effort) -> Sequence[Line]:
    """As above, for a conn_id that neither has: no tag, no variable. The catalog of this backend is fresh, and
    neither of its patterns is set, so it cannot rule out the conn_id.
    """
    return [_line("miss with a fresh catalog, against `EnvironmentVariablesBackend` missing", effort, "task", False)]


def passwords(effort: Effort) -> Sequence[Line]:
    """One process registers a thousand passwords of 340 characters with Airflow's maskers, one a minute, each valid for
    fifty minutes, on a clock of its own. A time is the mean of the ten registrations up to the fiftieth and up to the
    thousandth, in the same process. The second line is the time to mask a log line of 490 characters after them.
    """
    with loopback.loopback([]) as site:
        report = processes.ask("passwords", {"rounds": effort.rounds(10, 2)}, site.environment(site.new_host(), {}))
    return [
        paired(
            "the thousandth password registered, with fifty unexpired, against the fiftieth",
            report["thousandth"],
            report["fiftieth"],
            limit=1.5,
        ),
        paired("- masking one log line after it", report["line_thousandth"], report["line_fiftieth"], limit=None),
    ]


def _line(work: str, effort: Effort, connection: str, found: bool) -> Line:
    with loopback.loopback([loopback.tagged("prod", _CONN_ID)]) as site:
        environment = site.environment(site.new_host(), loopback.typed_in([_CONN_ID]))
        request = {
            "own": {"path": loopback.BACKEND, "kwargs": {"regions": ["eu-west-1"]}},
            "peer": {"path": _PEER, "kwargs": {}},
            "conn_id": _CONN_ID if found else "not_managed",
            "found": found,
            "connection": connection,
            "rounds": effort.rounds(50, 10),
        }
        report = processes.ask("batches", request, environment)
    own, peer = ([nanoseconds * 1e-9 for nanoseconds in report[side]] for side in ("own", "peer"))
    return paired(work, own, peer, limit=_LIMITS[found] if connection == "task" else None)
