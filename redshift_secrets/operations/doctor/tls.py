"""Whether each warehouse accepts connections from here, with TLS that its clients trust."""

from __future__ import annotations

import functools
import os
import socket
import ssl
from collections.abc import Mapping, Sequence

from redshift_secrets.errors import RedshiftSecretsError, one_line
from redshift_secrets.model import ConnectionSpec
from redshift_secrets.operations.doctor.running import Call, NoAnswerError, Runner
from redshift_secrets.operations.doctor.verdicts import Verdict, counted, names, verdict
from redshift_secrets.operations.tls import shake_hands, tls_context

_BESIDE_SECONDS = 2.0
"""What a call may take beside its connection: DNS has a patience of its own."""


class UnreachableError(RedshiftSecretsError):
    """There is no TLS with a warehouse: why, and what to do."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason, advice)
        self.reason = reason
        self.advice = advice


def try_tls(
    runner: Runner, specs: Sequence[ConnectionSpec], patience_seconds: float, environ: Mapping[str, str] = os.environ
) -> list[Verdict]:
    """Connect to the endpoint of each connection and do the handshake as its driver does; nobody logs in."""
    by_endpoint: dict[tuple[str, int, str, str], ConnectionSpec] = {}
    for spec in specs:
        if spec.address is not None:
            by_endpoint.setdefault((*spec.address, spec.conn_type, str(spec.extra["sslmode"])), spec)
    contexts: dict[tuple[str, str], ssl.SSLContext | OSError] = {}
    for (_, _, *key), spec in by_endpoint.items():
        if (kind := (key[0], key[1])) not in contexts:
            try:
                contexts[kind] = tls_context(spec.conn_type, spec.extra, environ)
            except OSError as error:
                contexts[kind] = error
    calls = [
        Call(
            f"TLS with {host}:{port}",
            functools.partial(_connect, spec, host, port, contexts[conn_type, mode], patience_seconds),
        )
        for (host, port, conn_type, mode), spec in by_endpoint.items()
    ]
    results = runner.run("connecting", calls, patience_seconds + _BESIDE_SECONDS)
    failed: dict[tuple[str, str], list[str]] = {}
    for ((host, port, _, _), spec), result in zip(by_endpoint.items(), results, strict=True):
        if isinstance(result, NoAnswerError):
            result = UnreachableError("it does not answer in time", _ROUTE)
        if isinstance(result, UnreachableError):
            failed.setdefault((result.reason, result.advice), []).append(f"{spec.warehouse} at {host}:{port}")
        elif isinstance(result, RedshiftSecretsError):
            failed.setdefault((str(result), ""), []).append(f"{spec.warehouse} at {host}:{port}")
    verdicts = [
        verdict("tls", "problem", f"{names(where)}: {reason}. {advice}", where)
        for (reason, advice), where in failed.items()
    ]
    good = len(by_endpoint) - sum(map(len, failed.values()))
    if good:
        said = f"{counted(good, 'endpoint')} of warehouses accept connections from here, with certificates that clients trust"
        unchecked = sorted({mode for *_, mode in by_endpoint if not mode.startswith("verify-")})
        if unchecked:
            said += f"; with sslmode = {names(unchecked)} none is checked"
        verdicts.insert(0, verdict("tls", "ok", said))
    return verdicts


_ROUTE = (
    "Let this host in on that port in the warehouse's security group, and check the route to it (subnet, peering, transit gateway);"
    " where it is reached through a host of your own, name that in the setting hosts"
)


def _connect(
    spec: ConnectionSpec, host: str, port: int, context: ssl.SSLContext | OSError, patience_seconds: float
) -> None:
    try:
        if isinstance(context, OSError):
            raise context
        with socket.create_connection((host, port), timeout=patience_seconds) as raw:
            shake_hands(raw, host, context)
    except ssl.SSLCertVerificationError as error:
        said = one_line(error.verify_message or "the certificate cannot be verified", 200)
        raise UnreachableError(f"its certificate is not trusted: {said}", _advice_on_certificate(error, spec)) from None
    except socket.gaierror:
        advice = (
            "Check the DNS of this network; a warehouse that is not publicly accessible has a name in its VPC alone"
        )
        raise UnreachableError("DNS does not know this name", advice) from None
    except FileNotFoundError:
        advice = "Set sslrootcert, PGSSLROOTCERT or SSL_CERT_FILE to a file that is there"
        raise UnreachableError("the file of root certificates cannot be read", advice) from None
    except (TimeoutError, ConnectionRefusedError) as error:
        refused = isinstance(error, ConnectionRefusedError)
        reason = "nothing listens there (connection refused)" if refused else "it does not answer in time"
        raise UnreachableError(reason, _ROUTE) from None
    except ssl.SSLError as error:
        why = one_line(str(error.reason or "the handshake was cut off").replace("_", " ").lower(), 200)
        advice = "Check what is between this host and the warehouse: a proxy, a load balancer, a tunnel"
        raise UnreachableError(f"TLS failed: {why}", advice) from None
    except ConnectionError as error:
        advice = "Check what answers on this port: a proxy, a load balancer, a tunnel"
        reason = (
            "it does not offer TLS, so it is not Redshift"
            if "does not offer" in str(error)
            else "it closed the connection"
        )
        raise UnreachableError(reason, advice) from None
    except OSError as error:
        raise UnreachableError(one_line(error.strerror or type(error).__name__, 100), _ROUTE) from None


def _advice_on_certificate(error: ssl.SSLCertVerificationError, spec: ConnectionSpec) -> str:
    # https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/: 62 and 64 are the host's name and address
    if error.verify_code in (62, 64):
        return (
            "Where a host of your own is in front of it, set sslmode = verify-ca for it in the setting hosts; else something pretends to"
            " be the warehouse"
        )
    if error.verify_code in (9, 10):
        return "Check the clock of this host, and the certificate of what answers there"
    trusted = "sslrootcert or PGSSLROOTCERT" if spec.conn_type == "postgres" else "SSL_CERT_FILE"
    return f"Clients here trust the system's CAs; name others in {trusted}. Where it is Redshift itself, update the CA bundle"
