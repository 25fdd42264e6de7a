"""An API server as Airflow's: synchronous routes, which share forty threads."""

from __future__ import annotations

import importlib
import socket
from typing import Any

from bench.children import airflow_parts
from bench.children.reporting import answer

_listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
_routes: dict[str, Any] = {}


def prepare(request: dict[str, Any]) -> dict[str, Any]:
    """Construct the backend and define the routes, under `page` those of the page in Airflow; return the port that the server
    will listen on."""
    importlib.import_module("airflow.configuration")
    app = importlib.import_module("fastapi").FastAPI()
    connection_class = airflow_parts.server_connection_class()
    backend = airflow_parts.construct(request["backend"], request["kwargs"], connection_class)
    if "page" in request:
        app.mount(request["page"], airflow_parts.page(backend))

    @app.get("/connections/{conn_id}")  # type: ignore[untyped-decorator]  # FastAPI is imported when Airflow is
    def connection(conn_id: str) -> dict[str, Any]:
        found = backend.get_connection(conn_id)
        return {"conn_id": found.conn_id, "login": found.login, "password": found.password}

    @app.get("/other")  # type: ignore[untyped-decorator]
    def other() -> dict[str, Any]:
        return {}

    _routes["app"] = app
    return {"port": _listener.getsockname()[1]}


if __name__ == "__main__":
    answer(prepare)
    if _routes:
        uvicorn = importlib.import_module("uvicorn")
        uvicorn.Server(uvicorn.Config(_routes["app"], log_level="warning")).run([_listener])
