"""How a refusal reaches the person, where Airflow would lose it on the way.

An exception of a secrets backend sends Airflow on to its next backend, unless it is one that it takes for final (task SDK
1.2.2 and newer, which come with Airflow 3.2.2). The next one is in the end its metadata database, with whatever old
password is there. https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/secrets-backend/index.html
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from redshift_secrets.airflow import compat
from redshift_secrets.errors import CannotServeError

EXPLAIN_PREFIX = "redshift-secrets.told."
"""Before a conn_id, it asks the API server for the connection, or for the reason why there is none; see `server_side`."""

_CONN_TYPE = "redshift-secrets-refusal"


class RefusedConnection:
    """Stands where a Connection was asked for and refused, on an Airflow that takes no exception for final.

    Airflow finds what it looks at itself while it searches (nothing secret, nothing to cache), so the search ends here.
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


def refused(conn_id: str, refusal: str) -> RefusedConnection:
    """Raise what this Airflow takes for a final no; on one that knows none, return what is as good."""
    final = compat.final_refusal(refusal)
    if final is not None:
        raise final from None
    return RefusedConnection(conn_id, refusal)


def as_connection(conn_id: str, refusal: str, connection_class: Any) -> Any:
    """Return a Connection that carries a refusal through the Execution API and nothing that anyone could log in with."""
    return connection_class(conn_id=conn_id, conn_type=_CONN_TYPE, extra=json.dumps({"refusal": refusal}))


def of_connection(conn_type: str, extra: str | None) -> str | None:
    """Return the refusal that a Connection carries, `None` where it is an ordinary one."""
    return str(json.loads(extra or "{}").get("refusal")) if conn_type == _CONN_TYPE else None
