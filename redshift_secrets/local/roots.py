"""The certificate authorities that this machine trusts."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path

BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Red Hat, Amazon Linux
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS, BSD
)
_BEGIN = b"-----BEGIN CERTIFICATE-----"


def trusted_roots(bundles: Iterable[str] = BUNDLES) -> bytes:
    """Return what this machine trusts, in PEM: what `SSL_CERT_FILE` or the OpenSSL of this Python names, else the system's own
    bundle, else that of certifi, with which many Python programs do. Nothing where there is none of these."""
    paths = ssl.get_default_verify_paths()
    for name in (paths.cafile, *bundles):
        content = _content(name)
        if content:
            return content
    folder = Path(paths.capath) if paths.capath else None
    # Not its links, each of which is one of these files once more.
    found = [_content(str(each)) for each in sorted(folder.glob("*.pem"))] if folder is not None else []
    if any(found):
        return b"\n".join(found)
    try:
        import certifi
    except ImportError:
        return b""
    return _content(certifi.where())


def _content(name: str | None) -> bytes:
    try:
        content = Path(name).read_bytes() if name else b""
    except OSError:
        return b""
    return content + b"\n" if _BEGIN in content else b""
