"""How a refusal reaches the user, where Airflow would lose it on the way.

An exception of a secrets backend sends Airflow on to its next backend, unless it is one that Airflow takes for final (task
SDK 1.2.2 and newer, which come with Airflow 3.2.2). The last one is its metadata database, with whatever old password is
there. https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/secrets-backend/index.html
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from msgspec.structs import replace

from redshift_secrets.airflow.configuration import importable, in_task
from redshift_secrets.errors import CannotServeError, one_line
from redshift_secrets.model import ConnectionFields

EXPLAIN_PREFIX = "redshift-secrets.explain."
"""Before a conn_id, it asks the API server for the connection, or for the reason why there is none; see `server_side`."""

_NONCE_BYTES = 16
_ANSWERS = "redshift-secrets.answers"
"""The key of `extra` that names the question which a Connection answers."""
_DESCRIBED = "redshift-secrets.described"
"""The key of `extra` that says where a Connection comes from: the Execution API has no field for it."""
_CONN_TYPE = "redshift-secrets-refusal"


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
    message = one_line(message)
    return refusal(message) if http is None else _as_forbidden(refusal, http.HTTPException)(message)


def refuse(conn_id: str, refusal: str) -> RefusedConnection:
    """Raise what this Airflow takes for final; where it has no such exception, return an object that raises when used."""
    final = final_refusal(refusal)
    if final is not None:
        raise final from None
    return RefusedConnection(conn_id, one_line(refusal))


def refusals_are_lost() -> bool:
    """Whether the text of a final refusal may never reach the user who asked, so that it has to be logged."""
    return authoritative_refusal() is None or serves_http()


def serves_http() -> bool:
    """Whether this process may be an API server, and no task's."""
    return _http_exceptions() is not None


def new_question(conn_id: str) -> str:
    """Return the conn_id under which a worker asks the server for `conn_id`, or for the reason of a refusal.

    No two are the same, so that nobody can have put a connection under it into the metadata database or the environment. It
    is one segment of the URL, in which an Execution API before Airflow 3.4 finds no slash: escaped as in RFC 6901.
    """
    segment = conn_id.replace("~", "~0").replace("/", "~1")
    return f"{EXPLAIN_PREFIX}{os.urandom(_NONCE_BYTES).hex()}.{segment}"


def asked_conn_id(conn_id: str) -> str | None:
    """Return the conn_id that a question asks for, `None` where `conn_id` is no question."""
    if not conn_id.startswith(EXPLAIN_PREFIX):
        return None
    asked = conn_id.removeprefix(EXPLAIN_PREFIX)
    nonce, _, rest = asked.partition(".")
    return rest.replace("~1", "/").replace("~0", "~") if len(nonce) == 2 * _NONCE_BYTES else asked


def mark(fields: ConnectionFields, question: str) -> ConnectionFields:
    """Return the fields of the Connection that answers a question."""
    return replace(fields, extra={**fields.extra, _ANSWERS: question, _DESCRIBED: fields.description})


def to_connection(question: str, refusal: str | None, connection_class: Any) -> Any:
    """Return a Connection that carries a refusal through the Execution API and nothing that anyone could log in with.

    Without a refusal it says that the conn_id is not managed: where Airflow got no answer at all, it would go on to its metadata
    database.
    """
    said = {} if refusal is None else {"refusal": one_line(refusal)}
    extra = json.dumps({**said, _ANSWERS: question})
    return as_answer(connection_class(conn_id=question, conn_type=_CONN_TYPE, extra=extra), question)


def as_answer(connection: Any, question: str) -> Any:
    """Return a Connection as the answer to a question, which Airflow's own cache does not keep: nobody asks it again."""
    connection.conn_id = question  # a constructor may drop one that is longer than those of people
    connection.get_uri = lambda: None
    return connection


def read_answer(connection: Any, question: str) -> tuple[str | None, str | None] | None:
    """Return the refusal, or the connection's own `extra` as JSON; `None` where the conn_id is not managed.

    A server without this backend hands out whatever it has, so what does not name the question as its own is no answer.
    """
    try:
        extra = json.loads(connection.extra)
        if connection.conn_id != question or extra.pop(_ANSWERS) != question:
            return None
        if connection.conn_type != _CONN_TYPE:
            extra.pop(_DESCRIBED, None)
            return None, json.dumps(extra) if extra else None
        return (str(extra["refusal"]), None) if "refusal" in extra else None
    except Exception:  # whatever it is, it was not made here
        return None


def description_of_answer(connection: Any) -> str:
    """Return where a Connection comes from that answers a question, as the server says."""
    described = json.loads(connection.extra).get(_DESCRIBED)
    return one_line(str(described or f"user {connection.login}"))


def _http_exceptions() -> Any:
    """The exceptions of a process that may serve HTTP; `None` in a task's, which may have been forked from one."""
    return None if in_task() else sys.modules.get("starlette.exceptions")


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
