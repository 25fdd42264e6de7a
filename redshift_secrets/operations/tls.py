"""The TLS handshake with a warehouse, as the drivers do it."""

from __future__ import annotations

import os
import socket
import ssl
import struct
from collections.abc import Mapping
from importlib import resources

from redshift_secrets.airflow.connection import with_root_certificates

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""https://www.postgresql.org/docs/current/protocol-message-formats.html"""


def start_tls(
    raw: socket.socket,
    host: str,
    conn_type: str,
    extra: Mapping[str, object],
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Do the TLS handshake of a driver on a connection to `host`, and close the connection. Raises `OSError`."""
    shake_hands(raw, host, tls_context(conn_type, extra, environ))


def tls_context(conn_type: str, extra: Mapping[str, object], environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return what a driver checks the server's certificate with, as strictly as `sslmode` in `extra` says: the system's CAs and the
    bundle that redshift_connector carries, or for `postgres` the root certificates that libpq is given.

    Raises `OSError` where they cannot be read. It takes a tenth of a second.
    """
    mode = str(extra["sslmode"])
    roots = with_root_certificates(conn_type, extra, environ).get("sslrootcert", "system")
    context = ssl.create_default_context(cafile=None if roots == "system" else str(roots))
    if conn_type != "postgres":
        context.load_verify_locations(str(resources.files("redshift_connector") / "files" / "redshift-ca-bundle.crt"))
    context.check_hostname = mode == "verify-full"
    if not mode.startswith("verify-"):
        context.verify_mode = ssl.CERT_NONE
    return context


def shake_hands(raw: socket.socket, host: str, context: ssl.SSLContext) -> None:
    """Ask for TLS on a connection to `host`, do the handshake, and close the connection. Raises `OSError`."""
    raw.sendall(_SSL_REQUEST)
    if raw.recv(1) != b"S":
        raise ConnectionError(f"{host}:{raw.getpeername()[1]} does not offer TLS, so it is not Redshift")
    context.wrap_socket(raw, server_hostname=host).close()
