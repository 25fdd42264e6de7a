"""One client connection of the gateway."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio
import psycopg
from anyio import CancelScope, CapacityLimiter, to_thread
from anyio.abc import ByteStream, SocketStream
from anyio.streams.tls import TLSStream

from redshift_secrets.local import wire
from redshift_secrets.local.postgres import PostgresError, PostgresServer
from redshift_secrets.local.roles import SessionRoles
from redshift_secrets.local.tokens import Token, TokenRefusedError, TokenRegistry
from redshift_secrets.local.wire import RefusedError, StartupPacket

logger = logging.getLogger(__name__)

LOGIN_SECONDS = 30.0
"""The time limit from the connect to the password."""

_REFUSAL_SECONDS = 5.0
_CLOSE_SECONDS = 0.2
_CHUNK = 65_536
_DISCONNECTED = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError, OSError)


@dataclass(frozen=True)
class Warehouse:
    """The parts of a warehouse that its sessions need."""

    arn: str
    tls: ssl.SSLContext
    server: PostgresServer
    roles: SessionRoles
    setup_limiter: CapacityLimiter
    """Lets one thread at a time start PostgreSQL and prepare roles, without blocking other warehouses."""


@dataclass(frozen=True)
class _Login:
    token: Token
    startup: bytes


async def serve(client: SocketStream, warehouse: Warehouse, tokens: TokenRegistry) -> None:
    """Serve `client` until it or PostgreSQL ends the session. Never raises, so that no client affects the others."""
    try:
        await _serve(client, warehouse, tokens)
    except _DISCONNECTED as error:
        logger.debug("%s: client disconnected: %s", warehouse.arn, type(error).__name__)
    except Exception:
        logger.exception("%s: session failed", warehouse.arn)
    finally:
        # Without the closing handshake: the client may be gone.
        await anyio.aclose_forcefully(client)


async def _serve(client: SocketStream, warehouse: Warehouse, tokens: TokenRegistry) -> None:
    stream: ByteStream = client
    try:
        with anyio.fail_after(LOGIN_SECONDS):
            packet = await _first_packet(client)
            if packet.code == wire.SSL_REQUEST:
                await client.send(b"S")
                stream = await TLSStream.wrap(client, server_side=True, ssl_context=warehouse.tls)
                packet = await wire.read_startup_packet(stream)
            if packet.code == wire.CANCEL_REQUEST:
                await _cancel(packet, warehouse)
                return
            if stream is client:
                raise _plaintext_refusal(client, packet)
            login = await _authenticate(stream, packet, warehouse, tokens)
        async with _session_role(login.token, warehouse):
            await _pipe(stream, warehouse, login.startup)
    except RefusedError as refusal:
        logger.info("%s: refused: %s", warehouse.arn, refusal)
        with anyio.move_on_after(_REFUSAL_SECONDS):
            await stream.send(wire.fatal_error(refusal.sqlstate, str(refusal)))
    finally:
        if stream is not client:
            await _close_tls(stream)


async def _close_tls(stream: ByteStream) -> None:
    # libpq reports a cancel request as failed if the connection ends without a TLS close_notify. aclose() sends that
    # first and then waits for the client's; an idle client never replies.
    with contextlib.suppress(*_DISCONNECTED), anyio.move_on_after(_CLOSE_SECONDS, shield=True):
        await stream.aclose()


async def _first_packet(client: SocketStream) -> StartupPacket:
    packet = await wire.read_startup_packet(client)
    if packet.code == wire.GSSENC_REQUEST:
        await client.send(b"N")
        packet = await wire.read_startup_packet(client)
    return packet


def _plaintext_refusal(client: SocketStream, packet: StartupPacket) -> RefusedError:
    parameters = wire.startup_parameters(packet)
    host, user = client.extra(anyio.abc.SocketAttribute.remote_address)[0], parameters["user"]
    database = parameters.get("database") or user
    # The message of a cluster with require_ssl:
    # https://docs.aws.amazon.com/redshift/latest/mgmt/connecting-ssl-support.html
    message = f'no pg_hba.conf entry for host "{host}", user "{user}", database "{database}", SSL off'
    return RefusedError("28000", message)


async def _authenticate(
    stream: ByteStream, packet: StartupPacket, warehouse: Warehouse, tokens: TokenRegistry
) -> _Login:
    parameters = wire.startup_parameters(packet)
    user = parameters["user"]
    database = parameters.get("database") or user
    await stream.send(wire.CLEARTEXT_PASSWORD_REQUEST)
    password = await wire.read_password(stream)
    try:
        token = tokens.check(warehouse=warehouse.arn, user=user, password=password, database=database)
    except TokenRefusedError as error:
        raise RefusedError("28000", str(error)) from None
    return _Login(token, wire.startup_message(packet, parameters, role=token.role, database=database))


@contextlib.asynccontextmanager
async def _session_role(token: Token, warehouse: Warehouse) -> AsyncIterator[None]:
    try:
        joined = await to_thread.run_sync(warehouse.roles.enter, token, limiter=warehouse.setup_limiter)
    except PostgresError as error:
        logger.warning("%s", error)
        raise RefusedError("57P03", str(error)) from None
    except psycopg.Error as error:
        raise RefusedError(error.sqlstate or "58000", error.diag.message_primary or str(error)) from None
    try:
        yield
    finally:
        if joined:
            # Also when the gateway is stopped; by then PostgreSQL, and the groups with it, may be gone.
            with CancelScope(shield=True), contextlib.suppress(psycopg.Error):
                await to_thread.run_sync(warehouse.roles.leave, token.role, joined, limiter=warehouse.setup_limiter)


async def _pipe(stream: ByteStream, warehouse: Warehouse, startup: bytes) -> None:
    socket = warehouse.server.socket
    if socket is None:
        raise RefusedError("57P03", "the database system is shutting down")
    async with await anyio.connect_unix(socket) as postgres:
        await postgres.send(startup)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_copy_requests, stream, postgres, tasks.cancel_scope)
            await _copy_responses(postgres, stream)
            tasks.cancel_scope.cancel()


# `send` returns only when nearly all data are sent, so a slow reader slows the writer down.


async def _copy_requests(client: ByteStream, postgres: ByteStream, session: CancelScope) -> None:
    while True:
        try:
            data = await client.receive(_CHUNK)
        except _DISCONNECTED:
            session.cancel()
            return
        try:
            await postgres.send(data)
        except _DISCONNECTED:
            # PostgreSQL has closed the connection; _copy_responses forwards its last message and ends the session.
            return


async def _copy_responses(postgres: ByteStream, client: ByteStream) -> None:
    with contextlib.suppress(*_DISCONNECTED):
        while True:
            await client.send(await postgres.receive(_CHUNK))


async def _cancel(packet: StartupPacket, warehouse: Warehouse) -> None:
    # The packet contains the key that PostgreSQL sent to the client; PostgreSQL verifies it.
    socket = warehouse.server.socket
    if socket is not None:
        async with await anyio.connect_unix(socket) as postgres:
            await postgres.send(packet.encode())
            # PostgreSQL closes the connection once it has handled the request; do the same for the client.
            await postgres.receive()
