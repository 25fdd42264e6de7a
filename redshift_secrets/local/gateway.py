"""The gateway that clients log in to: Redshift's wire protocol over TLS, in front of one PostgreSQL per warehouse."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import threading
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import anyio
from anyio import CapacityLimiter
from anyio.abc import SocketAttribute, SocketListener, SocketStream, TaskGroup, TaskStatus
from anyio.from_thread import BlockingPortal, start_blocking_portal

from redshift_secrets.local import session
from redshift_secrets.local.certificates import CertificateAuthority
from redshift_secrets.local.config import Database
from redshift_secrets.local.postgres import PostgresServer
from redshift_secrets.local.roles import SessionRoles
from redshift_secrets.local.session import Warehouse
from redshift_secrets.local.tokens import TokenRegistry

logger = logging.getLogger(__name__)

_PORT_ATTEMPTS = 20


@dataclass(frozen=True)
class _Endpoints:
    warehouse: Warehouse
    names: tuple[str, ...]
    custom_domain: str | None


@dataclass(frozen=True)
class _Running:
    context: AbstractContextManager[BlockingPortal]
    portal: BlockingPortal
    main: Future[None]
    tasks: TaskGroup


class Gateway:
    """Accepts logins with a token of `tokens`, as that token's database role, over TLS only.

    Each warehouse gets a free port of `host`, and another one for each of its VPC endpoints; its PostgreSQL starts at
    the first login. The authority's certificate and the data are in `folder` (`PostgresServer` says when the data are
    elsewhere). A context manager that can be started once. Thread-safe.
    """

    def __init__(self, tokens: TokenRegistry, *, folder: Path, host: str = "127.0.0.1") -> None:
        self._tokens = tokens
        self._folder = folder
        self._host = host
        self._authority = CertificateAuthority(folder)
        self._lock = threading.Lock()
        self._endpoints: dict[str, _Endpoints] = {}
        self._addresses: dict[tuple[str, str], tuple[str, int]] = {}
        self._running: _Running | None = None
        self._stopped = False

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority, which clients must trust: for `SSL_CERT_FILE`, `sslrootcert`."""
        return self._authority.ca_file

    def add_warehouse(
        self,
        arn: str,
        database: Database,
        admin: str,
        endpoints: tuple[str, ...],
        custom_domain: str | None,
    ) -> None:
        """Serve the warehouse `arn` at `endpoints`: `default`, `custom-domain`, `vpc:<name>`.

        As in AWS, a custom domain shares the port of the default endpoint. If it is a loopback address (`127.0.0.11`),
        the gateway listens on it; any other name the client must resolve to `host` itself.
        Raises `ValueError` for a warehouse added before, an unknown endpoint, or an endpoint `custom-domain` without
        `custom_domain`; `OSError` if it cannot listen on an address.
        """
        if custom_domain is None and "custom-domain" in endpoints:
            raise ValueError(f"{arn}: endpoint custom-domain, but no custom domain")
        unknown = [name for name in endpoints if name not in ("default", "custom-domain") and name[:4] != "vpc:"]
        if unknown:
            raise ValueError(f"{arn}: unknown endpoint {unknown[0]!r}")
        names = ["localhost", "127.0.0.1", self._host, *([custom_domain] if custom_domain else [])]
        server = PostgresServer(arn, database, admin, self._folder)
        entry = _Endpoints(
            Warehouse(
                arn=arn,
                tls=self._authority.server_context(*names),
                server=server,
                roles=SessionRoles(server, admin),
                setup_limiter=CapacityLimiter(1),
            ),
            endpoints,
            custom_domain,
        )
        with self._lock:
            if arn in self._endpoints:
                raise ValueError(f"{arn}: already added")
            if self._running is not None:
                self._running.portal.call(self._listen, self._running.tasks, entry)
            self._endpoints[arn] = entry

    def address_of(self, arn: str, endpoint: str) -> tuple[str, int] | None:
        """Return the host name and port that clients of this endpoint connect to, or `None` if there is none.

        There is none before `start`.
        """
        return self._addresses.get((arn, endpoint))

    def start(self) -> None:
        """Start listening; raises `OSError` if it cannot listen on an address, `RuntimeError` if started before."""
        with self._lock:
            if self._running is not None or self._stopped:
                raise RuntimeError("a gateway can be started only once")
            context = start_blocking_portal("asyncio")
            portal = context.__enter__()
            main, tasks = portal.start_task(_run)
            self._running = _Running(context, portal, main, tasks)
            added = list(self._endpoints.values())
        try:
            for endpoints in added:
                portal.call(self._listen, tasks, endpoints)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop listening, end all sessions and PostgreSQL servers, and wait until they have ended. Idempotent."""
        with self._lock:
            running, self._running, self._stopped = self._running, None, True
            self._addresses.clear()
        if running is None:
            return
        running.portal.call(running.tasks.cancel_scope.cancel)
        # A session waits for its thread, and the thread for PostgreSQL: stopping PostgreSQL unblocks both.
        for endpoints in self._endpoints.values():
            endpoints.warehouse.server.stop()
        try:
            running.main.result()
        finally:
            running.context.__exit__(None, None, None)

    def __enter__(self) -> Gateway:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def _listen(self, tasks: TaskGroup, endpoints: _Endpoints) -> None:
        arn, domain = endpoints.warehouse.arn, endpoints.custom_domain
        host = "localhost" if self._host == "127.0.0.1" else self._host
        own_address = domain if domain is not None and domain != self._host and _is_ip_address(domain) else None
        try:
            listeners = await _listeners(self._host, own_address)
        except OSError as error:
            if own_address is None:
                raise
            raise OSError(
                f"{arn}: custom_domain must be a name, or a free loopback address such as 127.0.0.11, and {domain} is not one"
                f" ({os.strerror(error.errno or 0)})"
            ) from None
        port = _port(listeners[0])
        addresses = {"default": (host, port)}
        if domain is not None:
            addresses["custom-domain"] = (domain, port)
        for name in endpoints.names:
            if name not in addresses:
                listeners += await _listeners(self._host, None)
                addresses[name] = (host, _port(listeners[-1]))
        for listener in listeners:
            tasks.start_soon(self._accept, listener, endpoints.warehouse, tasks)
        self._addresses.update({(arn, name): addresses[name] for name in endpoints.names})

    async def _accept(self, listener: SocketListener, warehouse: Warehouse, tasks: TaskGroup) -> None:
        async with listener:
            while True:
                try:
                    client: SocketStream = await listener.accept()
                except OSError as error:
                    # The client disconnected, or this process is out of file descriptors; keep serving the others.
                    logger.warning("%s: cannot accept a connection: %s", warehouse.arn, error)
                    await anyio.sleep(0.1)
                else:
                    tasks.start_soon(session.serve, client, warehouse, self._tokens)


async def _run(*, task_status: TaskStatus[TaskGroup]) -> None:
    async with anyio.create_task_group() as tasks:
        task_status.started(tasks)
        await anyio.sleep_forever()


async def _listeners(host: str, second_host: str | None) -> list[SocketListener]:
    """Listen on a free port of `host`, and on the same port of `second_host` if given."""
    for attempt in range(_PORT_ATTEMPTS):
        first = await _listener(host, 0)
        if second_host is None:
            return [first]
        try:
            return [first, await _listener(second_host, _port(first))]
        except OSError as error:
            await first.aclose()
            if error.errno != errno.EADDRINUSE or attempt == _PORT_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


async def _listener(host: str, port: int) -> SocketListener:
    multi = await anyio.create_tcp_listener(local_host=host, local_port=port)
    listener = multi.listeners[0]
    assert isinstance(listener, SocketListener)
    return listener


def _port(listener: SocketListener) -> int:
    port: int = listener.extra(SocketAttribute.local_port)
    return port


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
