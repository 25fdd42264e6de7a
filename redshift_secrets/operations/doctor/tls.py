"""Whether each warehouse accepts connections from here, with TLS that its clients trust."""

from __future__ import annotations

import functools
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from redshift_secrets.errors import RedshiftSecretsError
from redshift_secrets.model import ConnectionFields, ConnectionSpec
from redshift_secrets.operations.doctor.verdicts import Verdict, counted, names, verdict
from redshift_secrets.operations.login_errors import explain
from redshift_secrets.operations.running import Call, Runner
from redshift_secrets.operations.tls import shake_hands, tls_context

_BESIDE_SECONDS = 2.0
"""What a call may take beside its connection: DNS has a patience of its own."""


class UnreachableError(RedshiftSecretsError):
    """There is no TLS with a warehouse. `kind` is the same for what has the same cause and remedy."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text, kind)
        self.text = text
        self.kind = kind

    def _text(self) -> str:
        return self.text


def try_tls(
    runner: Runner, specs: Sequence[ConnectionSpec], patience_seconds: float, environ: Mapping[str, str] = os.environ
) -> list[Verdict]:
    """Connect to the endpoint of each connection and do the handshake as its driver does; nobody logs in."""
    by_endpoint: dict[tuple[str, int, str, str], ConnectionSpec] = {}
    for spec in specs:
        if spec.address is not None:
            by_endpoint.setdefault((*spec.address, spec.conn_type, str(spec.extra["sslmode"])), spec)
    contexts: dict[tuple[str, str], ssl.SSLContext | UnreachableError] = {}
    for (_, _, conn_type, mode), spec in by_endpoint.items():
        if (conn_type, mode) not in contexts:
            contexts[conn_type, mode] = _context(spec, environ)
    calls = [
        Call(
            f"TLS with {host}:{port}",
            functools.partial(_connect, spec, host, port, contexts[conn_type, mode], patience_seconds),
        )
        for (host, port, conn_type, mode), spec in by_endpoint.items()
    ]
    results = runner.run("connecting", calls, patience_seconds + _BESIDE_SECONDS)
    failed: dict[str, list[tuple[ConnectionSpec, str, RedshiftSecretsError]]] = {}
    for ((host, port, _, _), spec), result in zip(by_endpoint.items(), results, strict=True):
        if isinstance(result, RedshiftSecretsError):
            kind = result.kind if isinstance(result, UnreachableError) else type(result).__name__
            failed.setdefault(kind, []).append((spec, f"{spec.warehouse} at {host}:{port}", result))
    verdicts = []
    for same in failed.values():
        where = [each for _, each, _ in same]
        which = names(where) if len(where) > 1 else str(same[0][0].warehouse)
        verdicts.append(verdict("tls", "problem", f"{which}: {same[0][2]}", where))
    good = len(by_endpoint) - sum(map(len, failed.values()))
    if good:
        said = f"{counted(good, 'endpoint')} of warehouses {'accepts' if good == 1 else 'accept'} connections from here, with certificates that clients trust"
        unchecked = sorted({mode for *_, mode in by_endpoint if not mode.startswith("verify-")})
        if unchecked:
            said += f"; with sslmode = {names(unchecked)} none is checked"
        verdicts.insert(0, verdict("tls", "ok", said))
    return verdicts


def _context(spec: ConnectionSpec, environ: Mapping[str, str]) -> ssl.SSLContext | UnreachableError:
    try:
        return tls_context(spec.conn_type, spec.extra, environ)
    except OSError as error:
        why = error.strerror or type(error).__name__
        return UnreachableError(
            f"the root certificates that its own is checked with cannot be read: {why}. Set sslrootcert, PGSSLROOTCERT or SSL_CERT_FILE"
            " to a file that is there",
            "roots",
        )


def _connect(
    spec: ConnectionSpec, host: str, port: int, context: ssl.SSLContext | UnreachableError, patience_seconds: float
) -> None:
    if isinstance(context, UnreachableError):
        raise context
    try:
        with socket.create_connection((host, port), timeout=patience_seconds) as raw:
            shake_hands(raw, host, context)
    except OSError as error:
        fields = ConnectionFields(
            spec.conn_id, spec.conn_type, host, port, spec.database, None, None, spec.extra, description=""
        )
        raise UnreachableError(explain(error, fields, spec), _kind(error)) from None


def _kind(error: Any) -> str:
    return f"{type(error).__name__} {getattr(error, 'verify_code', '')} {error.errno}"
