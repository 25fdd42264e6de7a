"""A program and a metadata service that credentials come from, and that take their time."""

from __future__ import annotations

import json
import os
import select
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from redshift_secrets.cache import forks
from tests.support.helpers import BOUND

CREDENTIALS = {"AccessKeyId": "AKIDEXAMPLE", "Expiration": "2099-01-01T00:00:00Z"}


class BlockingProcess:
    """A credential_process whose first run reports its start and waits to be released; later runs answer at once."""

    def __init__(self, folder: Path) -> None:
        self._started, self._released = (self._pipe(folder / name) for name in ("started", "released"))
        answer = json.dumps({"Version": 1, "SecretAccessKey": "secret", **CREDENTIALS})
        script = folder / "credentials.sh"
        script.write_text(
            f"#!/bin/sh\ncd {folder}\nif mkdir first 2>/dev/null; then echo > started; read line < released; fi\n"
            f"echo '{answer}'\n"
        )
        script.chmod(0o700)
        self.command = str(script)

    @staticmethod
    def _pipe(path: Path) -> int:
        os.mkfifo(path)
        return os.open(path, os.O_RDWR)

    def await_start(self) -> None:
        assert select.select([self._started], [], [], BOUND)[0], "the credential_process does not run"

    def release(self) -> None:
        os.write(self._released, b"\n")

    def close(self) -> None:
        self.release()
        os.close(self._started)
        os.close(self._released)


class MetadataService:
    """IMDS on loopback. `hold` makes its first request wait; `inside` has the threads that were in the gate at each request."""

    def __init__(self, role: str | None) -> None:
        self.hold = threading.Event()
        self.hold.set()
        self.entered = threading.Event()
        self.inside: list[dict[int, int]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self._answer("token")

            def do_GET(self) -> None:
                name = self.path.partition("/security-credentials/")[2]
                if not name:
                    self._answer(role)
                else:
                    self._answer(
                        json.dumps({"Code": "Success", "SecretAccessKey": "secret", "Token": "token", **CREDENTIALS})
                    )

            def _answer(self, body: str | None) -> None:
                service.inside.append(inside_gate())
                if len(service.inside) == 1:
                    service.entered.set()
                    assert service.hold.wait(BOUND)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or "")))
                self.end_headers()
                self.wfile.write((body or "").encode())

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()


def inside_gate() -> dict[int, int]:
    return dict(forks.no_fork_here._inside)
