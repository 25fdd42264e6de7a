"""How a refusal reaches the user, where Airflow would lose it on the way.

An exception of a secrets backend sends Airflow on to its next backend, unless it is one that Airflow takes for final (task
SDK 1.2.2 and newer, which come with Airflow 3.2.2). The last one is its metadata database, with whatever old password is
there. https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/secrets-backend/index.html
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from redshift_secrets.airflow.configuration import importable
from redshift_secrets.errors import CannotServeError, one_line

EXPLAIN_PREFIX = "redshift-secrets.explain."
"""Before a conn_id, it asks the API server for the connection, or for the reason why there is none; see `server_side`."""

_CONN_TYPE = "redshift-secrets-refusal"
_LONGEST = 4000
"""Characters of a refusal: some of them name many warehouses."""


class RefusedConnection:
    """Returned instead of a refused Connection where Airflow takes no exception for final.

    Airflow finds what it reads itself while it searches (nothing secret, nothing to cache), so the search ends here.
    Whoever then uses it, for its host, its user or anything else, gets the refusal as an error.
    """

    password = None
    extra = None

    def __init__(self, conn_id: str, refusal: str) -> None:
        self.conn_id = conn_id
        self._refusal = refusal

    def get_uri(self) -> str:
        """Return what Airflow's own cache does not keep."""
        return ""

    def __getattr__(self, name: str) -> NoReturn:
        # Python itself asks for names with underscores, to copy, pickle or show an object.
        if name.startswith("_"):
            raise AttributeError(name)
        raise CannotServeError(self._refusal)

    def __repr__(self) -> str:
        return f"<refused connection {self.conn_id}>"


def authoritative_refusal() -> Callable[[str], Exception] | None:
    """Return the exception that Airflow takes for final (task SDK 1.2.2 and newer), or `None` on older ones."""
    for module in importable("airflow.sdk.exceptions"):
        refusal: Callable[[str], Exception] | None = getattr(module, "AirflowSecretsBackendAccessDenied", None)
        return refusal
    return None


def final_refusal(message: str) -> Exception | None:
    """Return the exception that ends Airflow's search for a connection, or `None` where this Airflow has none.

    Where an API server may be asking, it is a 403 as well: Airflow's Execution API turns any other exception into a 500,
    which a task retries for half a minute.
    """
    refusal = authoritative_refusal()
    if refusal is None:
        return None
    http = _http_exceptions()
    message = one_line(message, _LONGEST)
    return refusal(message) if http is None else _as_forbidden(refusal, http.HTTPException)(message)


def refuse(conn_id: str, refusal: str) -> RefusedConnection:
    """Raise what this Airflow takes for final; where it has no such exception, return an object that raises when used."""
    final = final_refusal(refusal)
    if final is not None:
        raise final from None
    return RefusedConnection(conn_id, one_line(refusal, _LONGEST))


def refusals_are_lost() -> bool:
    """Whether the text of a final refusal may never reach the user who asked, so that it has to be logged."""
    return authoritative_refusal() is None or serves_http()


def serves_http() -> bool:
    """Whether this process may be an API server, and no task's."""
    return _http_exceptions() is not None


def to_connection(conn_id: str, refusal: str, connection_class: Any) -> Any:
    """Return a Connection that carries a refusal through the Execution API and nothing that anyone could log in with."""
    return connection_class(
        conn_id=conn_id, conn_type=_CONN_TYPE, extra=json.dumps({"refusal": one_line(refusal, _LONGEST)})
    )


def from_connection(conn_type: str, extra: str | None) -> str | None:
    """Return the refusal that a Connection carries, `None` for an ordinary one."""
    return str(json.loads(extra or "{}").get("refusal")) if conn_type == _CONN_TYPE else None


def _http_exceptions() -> Any:
    """The exceptions of a process that may serve HTTP; `None` in a task's, which may have been forked from one."""
    in_task = hasattr(sys.modules.get("airflow.sdk.execution_time.task_runner"), "SUPERVISOR_COMMS")
    return None if in_task else sys.modules.get("starlette.exceptions")


@functools.cache
def _as_forbidden(refusal: Any, http_exception: Any) -> Callable[[str], Exception]:
    def init(self: Any, message: str) -> None:
        self.status_code, self.detail, self.headers = 403, message, None

    # Logs show it under the name of Airflow's own exception, and pickles load it as that.
    members = {
        "__init__": init,
        "__str__": lambda self: str(self.detail),
        "__reduce__": lambda self: (refusal, (self.detail,)),
    }
    made: Callable[[str], Exception] = type(refusal.__name__, (refusal, http_exception), members)
    return made
