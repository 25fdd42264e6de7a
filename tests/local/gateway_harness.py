"""Shared by the tests of the gateway: a gateway with two warehouses, and real clients."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redshift_connector

from redshift_secrets.local import session
from redshift_secrets.local.config import Database
from redshift_secrets.local.gateway import Gateway
from redshift_secrets.local.tokens import Token, TokenRegistry
from tests.local.patience import PATIENCE
from tests.support.fakes import Clock

CLUSTER = "arn:aws:redshift:eu-west-1:123456789012:cluster:one"
WORKGROUP = "arn:aws:redshift-serverless:eu-west-1:123456789012:workgroup/two"

DATABASE = Database(
    name="dev",
    users=("etl", "bi", 'a"; drop role bi; --'),
    groups=("loaders", "readers"),
    sql="""
        CREATE SCHEMA vault;
        CREATE TABLE vault.gold (grams int);
        INSERT INTO vault.gold VALUES (42);
        GRANT USAGE ON SCHEMA vault TO GROUP loaders;
        GRANT SELECT ON vault.gold TO GROUP loaders;
        GRANT readers TO bi;
    """,
)


class Harness:
    """The gateway under test, and clients that log in to it."""

    def __init__(self, gateway: Gateway, tokens: TokenRegistry, clock: Clock) -> None:
        self.gateway = gateway
        self.tokens = tokens
        self.clock = clock

    def mint(self, user: str, role: str | None = None, *, warehouse: str = CLUSTER, **values: Any) -> Token:
        """Mint a token as the simulated AWS does; by default `IAM:etl` is for the role `etl`."""
        values.setdefault("duration", 900.0)
        return self.tokens.mint(warehouse=warehouse, user=user, role=role or user.partition(":")[2], **values)

    def address(self, warehouse: str = CLUSTER, endpoint: str = "default") -> tuple[str, int]:
        address = self.gateway.address_of(warehouse, endpoint)
        assert address is not None
        return address

    def login(self, token: Token, **values: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """Log in with psycopg, which verifies the server's certificate and host name."""
        host, port = self.address(token.warehouse)
        settings: dict[str, Any] = {
            "host": host,
            "port": port,
            "user": token.user,
            "password": token.password,
            "dbname": "dev",
            "sslmode": "verify-full",
            "sslrootcert": str(self.gateway.ca_file),
            "autocommit": True,
            "connect_timeout": int(PATIENCE),
        }
        return psycopg.connect(**(settings | values))

    def driver_login(self, token: Token, **values: Any) -> Any:
        """Log in with Redshift's own driver, which trusts the authority of SSL_CERT_FILE."""
        host, port = self.address(token.warehouse)
        settings: dict[str, Any] = {
            "host": host,
            "port": port,
            "user": token.user,
            "password": token.password,
            "database": "dev",
            "ssl": True,
            "sslmode": "verify-full",
            "timeout": int(PATIENCE),
        }
        return redshift_connector.connect(**(settings | values))

    def count_sessions(self, role: str, *, admin: psycopg.Connection[tuple[Any, ...]]) -> int:
        """Return the number of the role's sessions in PostgreSQL, as the admin sees them."""
        row = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", (role,)).fetchone()
        assert row is not None
        return int(row[0])

    def raw(self) -> socket.socket:
        """Connect without sending anything."""
        return socket.create_connection(self.address(), timeout=PATIENCE)

    def raw_tls(self) -> ssl.SSLSocket:
        """Connect and complete the TLS handshake."""
        client = self.raw()
        client.sendall(struct.pack("!ii", 8, 80877103))
        assert client.recv(1) == b"S"
        context = ssl.create_default_context(cafile=str(self.gateway.ca_file))
        return context.wrap_socket(client, server_hostname="localhost", suppress_ragged_eofs=True)


@contextmanager
def running_gateway(folder: Path) -> Iterator[Harness]:
    """Run a gateway in front of CLUSTER and WORKGROUP, with SSL_CERT_FILE set to its authority."""
    clock = Clock()
    tokens = TokenRegistry(clock)
    gateway = Gateway(tokens, folder=folder)
    gateway.add_warehouse(CLUSTER, DATABASE, "awsuser", ("default", "vpc:office"), None)
    gateway.add_warehouse(WORKGROUP, DATABASE, "admin", ("default",), None)
    with gateway, pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "LOGIN_SECONDS", PATIENCE)
        patch.setenv("SSL_CERT_FILE", str(gateway.ca_file))
        yield Harness(gateway, tokens, clock)


def eventually(holds: Callable[[], bool]) -> bool:
    """Return whether `holds` becomes true."""
    deadline = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not holds():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.02)
    return True


def value(connection: psycopg.Connection[tuple[Any, ...]], query: str) -> Any:
    """Return the single value of a query."""
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]
