"""Which certificate a server presents that TLS was refused to."""

from __future__ import annotations

import http.client
import ssl
from urllib.parse import urlsplit

from botocore.utils import get_environ_proxies

from redshift_secrets.cache import forks
from redshift_secrets.errors import one_line

_SECONDS = 2.0


def describe_certificate(endpoint: str) -> str | None:
    """Return name and issuer of the certificate, `None` where it cannot be had. Nothing is sent to the server but the handshake.

    `endpoint` is an HTTPS URL; a proxy of the environment is used as for the call itself.
    """
    parts = urlsplit(endpoint)
    host, port = str(parts.hostname), parts.port or 443
    try:
        proxy = urlsplit(get_environ_proxies(endpoint).get("https") or "")
        with forks.no_fork_here:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is only looked at
        # With a proxy that wants a login, the call itself has not come so far.
        connection = http.client.HTTPSConnection(
            proxy.hostname or host, proxy.port or port, timeout=_SECONDS, context=context
        )
        if proxy.hostname:
            connection.set_tunnel(host, port)
        try:
            connection.connect()
            return _described(connection.sock.getpeercert(binary_form=True))
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException):
        return None


def _described(encoded: bytes | None) -> str | None:
    if not encoded:
        return None
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(encoded)
    subject, issuer = (one_line(name.rfc4514_string(), 150) for name in (certificate.subject, certificate.issuer))
    return f"that of {subject or 'nobody'}, issued by {issuer or 'nobody'}"
