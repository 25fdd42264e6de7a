"""What went wrong between here and a session in the database, as a sentence with host, port and what to do.

Drivers give a dictionary of PostgreSQL's error fields, or a text of several lines that names what they tried.
https://www.postgresql.org/docs/current/protocol-error-fields.html
"""

from __future__ import annotations

import re
import socket
import ssl

from redshift_secrets.errors import one_line
from redshift_secrets.model import ConnectionFields, ConnectionSpec

_NO_USER = r"password authentication failed for user|role \".*\" does not exist|user \".*\" does not exist"
_NO_DATABASE = r"database \".*\" does not exist"
_NO_RIGHT = r"permission denied for database|does not have CONNECT privilege"
_TOO_MANY = r"too many (clients|connections)|connection limit|remaining connection slots"
_NOT_OPEN = r"no pg_hba.conf entry|not yet accepting connections|starting up|shutting down"
_OF_LIBPQ: dict[str, type[OSError]] = {
    r"failed to resolve host|could not translate host name": socket.gaierror,
    r"failed: connection refused": ConnectionRefusedError,
    r"connection timeout expired|failed: (connection timed out|timeout expired)": TimeoutError,
}


def explain(error: Exception, fields: ConnectionFields, spec: ConnectionSpec | None) -> str:
    """Return what is wrong and what to do about it. `spec` is what the tags and settings say, where that is known."""
    where = f"{fields.host}:{fields.port}"
    cause = network_cause(error)
    if isinstance(cause, ssl.SSLError):
        return f"{where}: {_of_tls(cause, fields)}"
    if cause is not None:
        return _of_network(cause, where)
    return f"{where}: {_of_server(server_message(error, fields.password), fields, spec)}"


def network_cause(error: Exception) -> OSError | None:
    """Return what has gone wrong on the way to the server, `None` where that has answered."""
    # redshift_connector raises errors of its own with it as an argument, libpq's have its text alone.
    found = next((each for each in (error, *error.args) if isinstance(each, OSError)), None)
    if found is not None:
        return found
    kind = next((kind for pattern, kind in _OF_LIBPQ.items() if re.search(pattern, str(error), re.IGNORECASE)), None)
    return None if kind is None else kind()


def server_message(error: Exception, password: str | None = None) -> str:
    """Return the server's own sentence from what a driver has raised, without the password."""
    first = error.args[0] if error.args else ""
    text = str(first["M"]) if isinstance(first, dict) and "M" in first else str(error)
    if password:
        text = text.replace(str.__str__(password), "***")
    # psycopg puts the attempt before it.
    return one_line(re.sub(r"^.*?(FATAL|ERROR):\s*", "", text, flags=re.DOTALL)) or type(error).__name__


def _of_network(error: OSError, where: str) -> str:
    host, _, port = where.rpartition(":")
    if isinstance(error, socket.gaierror):
        return (
            f"{host} cannot be resolved. Check the DNS of this machine; the name of a private warehouse, or of a VPC endpoint,"
            " may be known in its VPC alone"
        )
    if isinstance(error, TimeoutError):
        return (
            f"{where} does not answer. Let this machine in: an inbound rule for port {port} in the warehouse's security group; a"
            " route to its subnets (peering, transit gateway, VPN), or publicly accessible with an address"
        )
    if isinstance(error, ConnectionRefusedError):
        return f"{where} refuses connections: nothing listens there. Check the port, and the host of the setting hosts"
    if error.errno is None and error.args:
        return one_line(str(error))  # a sentence of our own
    reason = error.strerror or str(error) or type(error).__name__
    return f"{where} cannot be reached: {one_line(reason)}. Check the route to it, its security group, and a proxy or firewall on the way"


def _of_tls(error: ssl.SSLError, fields: ConnectionFields) -> str:
    reason = getattr(error, "verify_message", "") or error.reason or str(error)
    if "hostname" in reason.lower() or "ip address mismatch" in reason.lower():
        advice = "Connect by the warehouse's own name, or set sslmode = verify-ca for this host (setting hosts)"
    else:
        advice = (
            "Something between here and the warehouse may present its own certificate; else set sslrootcert, or SSL_CERT_FILE,"
            " to the roots that its certificate needs"
        )
    return f"TLS with sslmode = {fields.extra.get('sslmode')} failed: {one_line(str(reason))}. {advice}"


def _of_server(message: str, fields: ConnectionFields, spec: ConnectionSpec | None) -> str:
    def is_about(pattern: str) -> bool:
        return re.search(pattern, message, re.IGNORECASE) is not None

    if is_about(_NO_USER):
        user = (fields.login or "").rpartition(":")[2]
        quoted = '"' + user.replace('"', '""') + '"'
        advice = f"the database user may not exist: CREATE USER {quoted} PASSWORD DISABLE"
        if spec is not None and spec.auth == "db-user" and not spec.auto_create:
            advice += ", or have AWS create it at login: tag auto-create = true (setting auto_create)"
        return f"{message}; {advice}"
    if is_about(_NO_DATABASE):
        return f"{message}; name one that exists with the tag database or the setting database, or CREATE DATABASE"
    if is_about(_NO_RIGHT):
        return f"{message}; GRANT CONNECT on it (Redshift: USAGE on the database) to the user"
    if is_about(_TOO_MANY):
        return f"{message}; close sessions (pg_terminate_backend), or raise the CONNECTION LIMIT of user or database"
    if is_about("SSL off|no encryption"):
        return (
            f"{message}; the warehouse takes TLS alone: set sslmode = verify-full (tag extra.sslmode, setting sslmode)"
        )
    if is_about(_NOT_OPEN):
        return f"{message}; wait until the warehouse is available, `redshift-secrets list` shows its state"
    if is_about("timeout|timed out"):
        return (
            f"{message}; an inbound rule for port {fields.port} in its security group, or a route to it, may be missing"
        )
    return message
