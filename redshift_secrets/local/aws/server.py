"""An HTTP server on loopback that says nothing and stops when told to."""

from __future__ import annotations

import socket
import threading
from typing import Any

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

HOST = "127.0.0.1"


class HttpServer:
    """Serves a WSGI application on a port of its own, one thread for each request."""

    def __init__(self, application: Any, port: int) -> None:
        """Takes the port (0: any free one); raises `OSError` if that is not possible."""
        # werkzeug ends the process when a port is taken, so the port is taken for it.
        with socket.create_server((HOST, port), backlog=128) as listener:
            self._server: BaseWSGIServer = make_server(
                HOST, port, application, threaded=True, request_handler=_Quiet, fd=listener.fileno()
            )
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="simulated-aws", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Take no further request and give the port back."""
        self._server.shutdown()
        self._thread.join()


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing: a request line is no news, and a client that hangs up is none either."""

    def connection_dropped(self, error: BaseException, environ: Any = None) -> None:
        """Hang up on a request that gets no answer; werkzeug would wait for the next one on the same connection."""
        self.close_connection = True
