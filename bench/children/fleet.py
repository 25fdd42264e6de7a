"""A lookup in the fleet store alone, through a proxy on the way to Redis that counts round trips."""

from __future__ import annotations

import contextlib
import importlib
import select
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

from bench.children import airflow_parts
from bench.children.reporting import answer


def count(request: dict[str, Any]) -> dict[str, Any]:
    """Look up `before`, which connects, and then `conn_id`; return the round trips and the commands of the second lookup."""
    importlib.import_module("airflow.configuration")
    connection_class = airflow_parts.task_connection_class()
    server = urlsplit(request["redis_url"])
    proxy = _Proxy(str(server.hostname), int(server.port or 0))
    cache = {"host": False, "redis_url": f"redis://127.0.0.1:{proxy.port}/0", "key": request["key"]}
    kwargs = {**request["kwargs"], "cache": cache}
    backend = airflow_parts.construct(request["backend"], kwargs, connection_class)
    backend.get_connection(request["before"])
    with importlib.import_module("redis").Redis(server.hostname, server.port) as admin:
        round_trips, commands = proxy.round_trips, _commands(admin)
        connection = backend.get_connection(request["conn_id"])
        return {
            "round_trips": proxy.round_trips - round_trips,
            "commands": _commands(admin) - commands,
            "answered": connection is not None,
        }


def _commands(admin: Any) -> int:
    """The number of commands that the server has run, without those that this function sends."""
    stats = admin.info("commandstats")
    return sum(each["calls"] for name, each in stats.items() if name != "cmdstat_info")


class _Proxy:
    """Relays connections to a server. A request that follows an answer, or begins a connection, is a round trip."""

    def __init__(self, host: str, port: int) -> None:
        self._server = host, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.round_trips = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _address = self._listener.accept()
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(self._server) as server:
            answered = True
            while True:
                for source in select.select([client, server], [], [])[0]:
                    content = source.recv(65536)
                    if not content:
                        return
                    if source is client and answered:
                        self.round_trips += 1
                    answered = source is server
                    (server if source is client else client).sendall(content)


if __name__ == "__main__":
    answer(count)
