"""Servers that answer where a warehouse should, and record what clients send to them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Sequence
from types import TracebackType

SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CLEARTEXT_PASSWORD_REQUEST = b"R" + struct.pack("!ii", 8, 3)
REFUSED = b"E" + struct.pack("!i", 30) + b"SFATAL\0C28000\0Mnot a warehouse\0\0"
"""https://www.postgresql.org/docs/current/protocol-message-formats.html"""


class WrongServer:
    """Asks every client for its password; with a `tls` context also inside of TLS, without one it offers none.

    Listens on one free port of all `hosts`. `received` has what was sent to it once it had asked, `started` how often a client
    connected. A context manager.
    """

    def __init__(self, tls: ssl.SSLContext | None, hosts: Sequence[str]) -> None:
        self._tls = tls
        first = socket.create_server((hosts[0], 0))
        self.port: int = first.getsockname()[1]
        self._listeners = [first, *(socket.create_server((host, self.port)) for host in hosts[1:])]
        self.connections = 0
        self.received: list[bytes] = []

    def __enter__(self) -> WrongServer:
        for listener in self._listeners:
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):  # `close` alone does not wake a thread that accepts
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), client:
            client.settimeout(10)
            code = self._startup(client)
            if code == GSSENC_REQUEST:
                client.sendall(b"N")
                code = self._startup(client)
            if code == SSL_REQUEST:
                client.sendall(b"N" if self._tls is None else b"S")
                if self._tls is not None:
                    client = self._tls.wrap_socket(client, server_side=True)
                self._startup(client)
            with client:
                client.sendall(CLEARTEXT_PASSWORD_REQUEST)
                kind, length = struct.unpack("!ci", _read(client, 5))
                self.received.append(kind + _read(client, length - 4))
                client.sendall(REFUSED)

    @staticmethod
    def _startup(client: socket.socket) -> int:
        length, code = struct.unpack("!ii", _read(client, 8))
        _read(client, length - 8)
        return int(code)


def _read(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = client.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data
