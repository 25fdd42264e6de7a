"""The URL of the fleet's Redis or Valkey: what it may look like, and the client of redis-py that it stands for.

Passwords are in such URLs, and both `urllib` and redis-py quote pieces of them in errors. So every error here is made of
our own words, and what is shown of a URL is put together from its harmless parts.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import socket
import threading
import weakref
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlencode, urlsplit

from redshift_secrets.cache import forks

ALLOWED = (
    "redis://[user:password@]host[:port][/db], rediss://... for TLS, unix://[user:password@]/path[?db=0], "
    "redis+sentinel://[user:password@]host[:port][,host...]/service[/db] (or rediss+sentinel://), "
    "redis+cluster://[user:password@]host[:port][,host...] (or rediss+cluster://)"
)
_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
_SENTINEL_LOGIN = {"sentinel_username": "username", "sentinel_password": "password"}
_OPTIONS = (
    "db username password client_name max_connections health_check_interval socket_keepalive ssl_ca_certs ssl_ca_path "
    "ssl_certfile ssl_keyfile ssl_password ssl_cert_reqs ssl_check_hostname ssl_min_version"
).split()
_ESCAPE = "a password with any of / ? # @ [ % in it needs these percent-encoded"


@dataclass(frozen=True)
class RedisAddress:
    """A checked URL. Its `repr` has no password."""

    kind: str
    """`server`, `sentinel` or `cluster`."""
    hosts: tuple[tuple[str, int], ...]
    service: str
    shown: str
    """The URL without user, password and options."""
    _plain: str = field(repr=False)
    """The same for the first host alone, as redis-py understands it."""
    _sentinel_login: dict[str, str] = field(repr=False)

    @classmethod
    def of(cls, url: str) -> RedisAddress:
        """Raises `ValueError`, without any part of the URL but its scheme, for what is no URL of a fleet tier."""
        scheme, colon, _ = url.partition("://")
        if not colon or scheme not in _SCHEMES:
            raise ValueError(f"not a URL of Redis or Valkey; allowed are {ALLOWED}")
        kind = scheme.partition("+")[2] or "server"
        parts, options = _split(scheme, url)
        _check_options(scheme, kind, options)
        login, _, netloc = parts.netloc.rpartition("@")
        if scheme == "unix":
            if netloc or not parts.path:
                raise ValueError(f"unix:// URL has no path of a socket; {_ESCAPE}; allowed are {ALLOWED}")
            return cls(kind, (), "", f"unix://{parts.path}", url, {})
        hosts = _hosts(scheme, netloc, 26379 if kind == "sentinel" else 6379)
        service, db = _service_and_db(scheme, kind, parts)
        if kind == "cluster" and {db, *options.get("db", ())} - {"", "0"}:
            raise ValueError(f"{scheme}:// URL: a cluster has one database only, so leave it out")
        names = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts)
        shown = "/".join(part for part in (f"{scheme}://{names}", service, db) if part)
        sentinel = {theirs: options[ours][0] for ours, theirs in _SENTINEL_LOGIN.items() if ours in options}
        return cls(kind, hosts, service, shown, _plain(scheme, login, netloc.split(",")[0], db, options), sentinel)

    def connect(self, timeout_seconds: float, connections: Connections) -> Any:
        """Return redis-py's client; for a cluster this asks it for its nodes. No single wait takes longer than the timeout.

        What it opens is added to `connections`. Raises whatever redis-py raises, `ModuleNotFoundError` where it is not installed.
        """
        redis = redis_py()
        never = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        # Protocol 3 asks more of a server and of the way there (notifications, threads), and we need nothing of it.
        ours: dict[str, Any] = {
            "protocol": 2,
            "socket_timeout": timeout_seconds,
            "socket_connect_timeout": timeout_seconds,
        }
        ours["redis_connect_func"] = connections.add if self.kind == "cluster" else connections.greet
        options = {**redis.connection.parse_url(self._plain), **ours}
        if self._plain.startswith("rediss:"):
            # Older releases of redis-py do not look at the name in a certificate unless they are told to.
            options.setdefault("ssl_check_hostname", options.get("ssl_cert_reqs") != "none")
        if self.kind == "server":
            return redis.Redis(connection_pool=redis.ConnectionPool(retry=never, **options))
        del options["host"]
        options.pop("port", None)
        if options.pop("connection_class", None) is not None:
            options["ssl"] = True
        if self.kind == "cluster":
            options.pop("db", None)
            nodes = [redis.cluster.ClusterNode(host, port) for host, port in self.hosts]
            return redis.RedisCluster(startup_nodes=nodes, retry=never, **options)
        tls = {name: value for name, value in options.items() if name.startswith("ssl")}
        asking = {**ours, **tls, **self._sentinel_login, "retry": never}
        sentinel = redis.Sentinel(self.hosts, sentinel_kwargs=asking, retry=never, **options)
        return sentinel.master_for(self.service)


class Connections:
    """The connections of one client, so that another thread can cut them off.

    redis-py's own way is to close them. But a number that is closed in one thread may be another socket's by the time
    the thread that reads from it gets to its next system call, and a client opens what was closed anew by itself.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cut = False
        # Weak, so that dropping the client is all it takes to close them in the child of a fork.
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()

    def add(self, connection: Any) -> None:
        """Called by redis-py with each connection that was opened; raises its `ConnectionError` after `cut`."""
        with self._lock:
            if self._cut:
                raise redis_py().ConnectionError("given up")
            self._open.add(connection)

    def greet(self, connection: Any) -> None:
        """The same where redis-py leaves it to the function it calls to log in."""
        self.add(connection)
        connection.on_connect()

    def cut(self) -> None:
        """End all reading and writing: the threads that do it find the connection closed by the other side."""
        with self._lock:
            self._cut = True
            cut = list(self._open)
        for connection in cut:
            # Not the method of a TLS socket, which does more to it than is good for a thread that reads.
            with contextlib.suppress(OSError, TypeError):
                socket.socket.shutdown(connection._sock, socket.SHUT_RDWR)


def redis_py() -> Any:
    """Return the package `redis`, which takes a tenth of a second to load; `ModuleNotFoundError` where it is missing."""
    with forks.no_fork_here:
        return importlib.import_module("redis")


def _split(scheme: str, url: str) -> tuple[SplitResult, dict[str, list[str]]]:
    try:
        parts = urlsplit(url)
        options = parse_qs(parts.query, strict_parsing=bool(parts.query), keep_blank_values=True)
    except ValueError:
        raise ValueError(f"{scheme}:// URL is malformed; {_ESCAPE}; allowed are {ALLOWED}") from None
    if parts.fragment:
        raise ValueError(f"{scheme}:// URL has a # in it; {_ESCAPE}")
    return parts, options


def _check_options(scheme: str, kind: str, options: dict[str, list[str]]) -> None:
    allowed = [*_OPTIONS, *(_SENTINEL_LOGIN if kind == "sentinel" else ())]
    # The name is not repeated: behind an unescaped ? in a password it is a part of the password.
    if not options.keys() <= set(allowed):
        raise ValueError(f"{scheme}:// URL has an option that is not known here; known are {', '.join(allowed)}")
    for name in ("db", "max_connections", "health_check_interval", "ssl_min_version"):
        if not all(value.isdecimal() for value in options.get(name, ())):
            raise ValueError(f"{scheme}:// URL: {name} is not a whole number")


def _hosts(scheme: str, netloc: str, default_port: int) -> tuple[tuple[str, int], ...]:
    found = []
    for each in netloc.split(","):
        try:
            parts = urlsplit(f"//{each}")
            host, port = unquote(parts.hostname or ""), parts.port or default_port
        except ValueError:
            raise ValueError(f"{scheme}:// URL: a port is not a number from 1 to 65535; {_ESCAPE}") from None
        if not host and "+" in scheme:
            raise ValueError(f"{scheme}:// URL names no host; allowed are {ALLOWED}")
        found.append((host or "localhost", port))
    if len(found) > 1 and "+" not in scheme:
        raise ValueError(f"{scheme}:// URL may name one host only; allowed are {ALLOWED}")
    return tuple(found)


def _service_and_db(scheme: str, kind: str, parts: SplitResult) -> tuple[str, str]:
    """The parts of the path: only Sentinel has a service, and only it must have one."""
    path = parts.path.strip("/")
    service, _, db = path.partition("/") if kind == "sentinel" else ("", "", path)
    if kind == "sentinel" and not service:
        raise ValueError(f"{scheme}:// URL names no service; allowed are {ALLOWED}")
    if not re.fullmatch(r"[0-9]*", db):
        raise ValueError(f"{scheme}:// URL: the database is not a whole number; {_ESCAPE}; allowed are {ALLOWED}")
    return unquote(service), db


def _plain(scheme: str, login: str, first_host: str, db: str, options: dict[str, list[str]]) -> str:
    query = urlencode({name: values[0] for name, values in options.items() if name not in _SENTINEL_LOGIN})
    at = f"{login}@" if login else ""
    return f"{scheme.partition('+')[0]}://{at}{first_host or 'localhost'}/{db}" + (f"?{query}" if query else "")
