"""The stand-in's own certificate authority, so that `sslmode=verify-full` performs a real check."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class CertificateAuthority:
    """Issues server certificates that a client trusts once `SSL_CERT_FILE` or `sslrootcert` names `ca_file`.

    `folder` is created if missing, accessible to this OS user only. It holds the authority's certificate, not its key,
    which stays in memory; a server's key is in `folder` only while OpenSSL reads it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._authority = trustme.CA(organization_name="redshift-secrets local stand-in")
        self.ca_file = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca_file))

    def server_context(self, *hosts: str) -> ssl.SSLContext:
        """Return a TLS context for a server reached by any of `hosts`: DNS names or IP addresses.

        Raises `ValueError` for a host that is neither.
        """
        certificate = self._authority.issue_cert(*dict.fromkeys(hosts))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        with certificate.private_key_and_cert_chain_pem.tempfile(dir=str(self._folder)) as pem:
            context.load_cert_chain(pem)
        return context
