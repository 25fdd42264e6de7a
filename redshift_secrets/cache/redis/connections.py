"""Connecting to the Redis or Valkey at an address, with redis-py."""

from __future__ import annotations

import contextlib
import importlib
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any

from redshift_secrets.cache import forks

if TYPE_CHECKING:
    from redshift_secrets.settings.redis_url import RedisAddress


def redis_py() -> Any:
    """Return the package `redis`, which takes a tenth of a second to load; `ModuleNotFoundError` where it is missing."""
    with forks.no_fork_here:
        return importlib.import_module("redis")


class Connections:
    """The connections of one client, so that another thread can interrupt them.

    redis-py itself would close them. But a file descriptor that one thread closes may belong to another socket by the time
    the reading thread makes its next system call, and a client reopens what was closed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._interrupted = False
        # Weak, so that dropping the client closes them in the child of a fork.
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()

    def add(self, connection: Any) -> None:
        """Called by redis-py with each new connection; raises its `ConnectionError` after `interrupt`."""
        with self._lock:
            if self._interrupted:
                raise redis_py().ConnectionError("interrupted")
            self._open.add(connection)

    def add_and_log_in(self, connection: Any) -> None:
        """The same where redis-py leaves the login to this function."""
        self.add(connection)
        connection.on_connect()

    def interrupt(self) -> None:
        """End all reading and writing: to the threads that do it, the server seems to have closed the connection."""
        with self._lock:
            self._interrupted = True
            connections = list(self._open)
        for connection in connections:
            # Not the method of a TLS socket, which also changes its state under a thread that reads from it.
            with contextlib.suppress(OSError, TypeError):
                socket.socket.shutdown(connection._sock, socket.SHUT_RDWR)


def connect(address: RedisAddress, timeout_seconds: float, connections: Connections) -> Any:
    """Return redis-py's client; that of a cluster asks for the nodes first. No single wait takes longer than the timeout.

    Everything it opens is added to `connections`. Raises whatever redis-py raises, `ModuleNotFoundError` where it is not
    installed.
    """
    redis = redis_py()
    never = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    # Protocol 3 needs more of the server and the network (notifications, threads), and nothing here uses it.
    common: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "redis_connect_func": connections.add if address.kind == "cluster" else connections.add_and_log_in,
    }
    options = {**redis.connection.parse_url(address.client_url), **common}
    if address.client_url.startswith("rediss:"):
        # Older releases of redis-py check the host name of a certificate only on request.
        options.setdefault("ssl_check_hostname", options.get("ssl_cert_reqs") != "none")
    if address.kind == "server":
        return redis.Redis(connection_pool=redis.ConnectionPool(retry=never, **options))
    del options["host"]
    options.pop("port", None)
    if options.pop("connection_class", None) is not None:
        options["ssl"] = True
    if address.kind == "cluster":
        options.pop("db", None)
        nodes = [redis.cluster.ClusterNode(host, port) for host, port in address.hosts]
        return redis.RedisCluster(startup_nodes=nodes, retry=never, **options)
    tls = {name: value for name, value in options.items() if name.startswith("ssl")}
    sentinel_options = {**common, **tls, **address.sentinel_login, "retry": never}
    sentinel = redis.Sentinel(address.hosts, sentinel_kwargs=sentinel_options, retry=never, **options)
    return sentinel.master_for(address.service)
