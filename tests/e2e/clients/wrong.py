"""Servers at the addresses of warehouses that are none, for each kind of endpoint and of connection."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from redshift_secrets.local.certificates import CertificateAuthority
from redshift_secrets.local.stand_in import StandIn
from tests.support.wrong_servers import WrongServer

ENDPOINTS = ("default", "custom-domain", "vpc:private")
_DOMAINS = {"plain-text": "127.0.0.21", "self-signed": "127.0.0.22", "other-name": "127.0.0.23"}
"""What is wrong with each cluster's server: it offers no TLS, or has a certificate that nobody signed, or that of another host.
With a loopback address for the custom domain."""


def _conn_id(cluster: str, endpoint: str, suffix: str) -> str:
    return f"{cluster}.{endpoint.partition(':')[0]}{suffix}"


def _cluster(name: str) -> dict[str, object]:
    tags = {"airflow:db-user": "etl"}
    conn_ids = []
    for endpoint in ENDPOINTS:
        for suffix, field, value in (
            ("", None, None),
            ("-pg", "conn-type", "postgres"),
            ("-iam", "auth", "connector"),
        ):
            conn_ids.append(_conn_id(name, endpoint, suffix))
            tags[f"airflow:endpoint/{conn_ids[-1]}"] = endpoint
            if field is not None:
                tags[f"airflow:{field}/{conn_ids[-1]}"] = value
    tags["airflow:conn-id"] = " ".join(conn_ids)
    return {
        "identifier": name,
        "database": {"name": "dwh", "users": ["etl"]},
        "custom_domain": _DOMAINS[name],
        "vpc_endpoints": ["private"],
        "tags": tags,
    }


CLUSTERS = [_cluster(name) for name in _DOMAINS]


class WrongServers:
    """One server for each cluster in `CLUSTERS`."""

    def __init__(self, stand_in: StandIn, servers: dict[str, WrongServer]) -> None:
        self._tokens = stand_in.tokens
        self._servers = servers

    def that_get_the_password(self, connect: Callable[[str], object], *suffixes: str) -> set[str]:
        """Have a client connect to each of them; return what is wrong with those that it sent its password to.

        `suffixes` are empty, `-pg` for connections of type `postgres`, `-iam` for those with which the driver mints.
        """
        sent_to = set()
        for name, endpoint, suffix in itertools.product(self._servers, ENDPOINTS, suffixes):
            server = self._servers[name]
            connections, server.received = server.connections, []
            conn_id = _conn_id(name, endpoint, suffix)
            with pytest.raises(Exception) as failed:  # noqa: PT011  # each client has its own
                connect(conn_id)
            assert server.connections > connections, f"{conn_id} did not get as far as the server: {failed.value}"
            if server.received:
                passwords = [token.password.encode() for token in self._tokens.minted()]
                assert any(password in received for password in passwords for received in server.received)
                sent_to.add(name)
        return sent_to


@contextlib.contextmanager
def wrong_servers(stand_in: StandIn) -> Iterator[WrongServers]:
    """Put the servers where AWS says that the clusters are. Clients trust the authority that the one with another name has its
    certificate from."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        trusted, unknown = CertificateAuthority(folder / "trusted"), CertificateAuthority(folder / "unknown")
        with Path(stand_in.environment()["SSL_CERT_FILE"]).open("ab") as bundle:
            bundle.write(b"\n" + trusted.ca_file.read_bytes())
        tls = {
            "plain-text": None,
            "self-signed": unknown.server_context("localhost", "127.0.0.1", _DOMAINS["self-signed"]),
            "other-name": trusted.server_context("warehouse.example.com"),
        }
        servers = {
            name: stack.enter_context(WrongServer(tls[name], ["127.0.0.1", domain]))
            for name, domain in _DOMAINS.items()
        }
        addresses = stand_in.gateway.address_of

        def address_of(arn: str, endpoint: str) -> tuple[str, int] | None:
            name = arn.rpartition(":")[2]
            if name not in servers:
                return addresses(arn, endpoint)
            return _DOMAINS[name] if endpoint == "custom-domain" else "localhost", servers[name].port

        stack.enter_context(mock.patch.object(stand_in.gateway, "address_of", address_of))
        yield WrongServers(stand_in, servers)
