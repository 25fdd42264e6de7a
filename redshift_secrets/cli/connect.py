"""`redshift-secrets test`: connect as a task would and time each step."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Callable
from importlib import resources
from typing import Any

from redshift_secrets.errors import RedshiftSecretsError
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.model import ConnectionFields
from redshift_secrets.settings.db_user import Dag

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""https://www.postgresql.org/docs/current/protocol-message-formats.html"""

_CONNECT_SECONDS = 10


def run(broker: Broker, conn_id: str, dag: Dag, *, echo: Callable[[str], None]) -> bool | None:
    """Return whether `conn_id` connects for a task of `dag`, `None` when no tag claims it, printing as it goes.

    Raises `RedshiftSecretsError` when discovery or the mint fails.
    """
    steps = _Steps(echo)
    steps.time("discovery", lambda: broker.snapshot(broker.deadline()))
    fields = steps.time("mint", lambda: broker.connection(conn_id, dag.team, dag))
    if fields is None:
        return None
    echo(fields.description)
    try:
        raw = steps.time("TCP", lambda: socket.create_connection((fields.host, fields.port), timeout=_CONNECT_SECONDS))
        with raw:
            steps.time("TLS", lambda: _start_tls(raw, fields))
        connection = steps.time("login (a new TCP and TLS with it)", lambda: _connect(fields))
        try:
            row = steps.time("query", lambda: _who(connection))
        finally:
            connection.close()
    except RedshiftSecretsError:
        raise
    except Exception as error:  # every driver and socket error ends this command the same way
        echo(f"failed: {type(error).__name__}: {_text_of(error, fields.password)}")
        return False
    echo(f"logged in to database {row[1]} as {row[0]}")
    return True


class _Steps:
    def __init__(self, echo: Callable[[str], None]) -> None:
        self._echo = echo

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        """Call `work`, print how long it took, also when it fails, and return its result."""
        start = time.perf_counter()
        try:
            return work()
        finally:
            self._echo(f"{name:<34}{(time.perf_counter() - start) * 1000:9.1f} ms")


def _start_tls(raw: socket.socket, fields: ConnectionFields) -> None:
    """Do the handshake the way redshift_connector does: the system's CAs and the bundle that the driver carries."""
    raw.sendall(_SSL_REQUEST)
    if raw.recv(1) != b"S":
        raise ConnectionError(f"{fields.host}:{fields.port} does not offer TLS, so it is not Redshift")
    context = ssl.create_default_context()
    context.load_verify_locations(str(resources.files("redshift_connector") / "files" / "redshift-ca-bundle.crt"))
    context.check_hostname = fields.extra.get("sslmode") == "verify-full"
    context.wrap_socket(raw, server_hostname=fields.host).close()


def _connect(fields: ConnectionFields) -> Any:
    import redshift_connector

    # The same arguments as RedshiftSQLHook.get_conn: the fields, and all of extra word for word.
    arguments: dict[str, Any] = {"host": fields.host, "port": fields.port, "database": fields.schema}
    if fields.password is not None:
        arguments |= {"user": fields.login, "password": fields.password}
    return redshift_connector.connect(**{"timeout": _CONNECT_SECONDS, **arguments, **fields.extra})


def _who(connection: Any) -> Any:
    cursor = connection.cursor()
    cursor.execute("select current_user, current_database()")
    return cursor.fetchone()


def _text_of(error: Exception, password: str | None) -> str:
    text = str(error)
    return text.replace(password, "***") if password else text
