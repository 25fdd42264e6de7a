"""A silent HTTP server on loopback that can be stopped."""

from __future__ import annotations

import socket
import threading
from typing import Any

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

HOST = "127.0.0.1"


class HttpServer:
    """Serves a WSGI application, with one thread for each request."""

    def __init__(self, application: Any, port: int) -> None:
        """Start listening on `port` (0: any free one); raises `OSError` if that is not possible."""
        # werkzeug exits the process if the port is in use, so it gets a listening socket.
        with socket.create_server((HOST, port), backlog=128) as listener:
            self._server: BaseWSGIServer = make_server(
                HOST, port, application, threaded=True, request_handler=_SilentRequestHandler, fd=listener.fileno()
            )
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="simulated-aws", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop accepting requests and release the port."""
        self._server.shutdown()
        self._thread.join()


class _SilentRequestHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Log neither requests nor dropped connections."""

    def connection_dropped(self, error: BaseException, environ: Any = None) -> None:
        """Close the connection of a request without response; werkzeug would wait for the next request on it."""
        self.close_connection = True
