"""The parts of Airflow that a child needs to use a secrets backend as Airflow does."""

from __future__ import annotations

import importlib
import os
from typing import Any

HOST_STORE = "BENCH_HOST_STORE"
"""The variable that names the folder of a process's host store, which becomes the setting `cache.path`."""


def task_connection_class() -> Any:
    """Return the Connection that tasks get: the Task SDK's, or the only one in Airflow 2."""
    try:
        return importlib.import_module("airflow.sdk.definitions.connection").Connection
    except ImportError:
        return server_connection_class()


def server_connection_class() -> Any:
    """Return the Connection that the API server and the scheduler get."""
    return importlib.import_module("airflow.models.connection").Connection


def construct(path: str, kwargs: dict[str, Any], connection_class: Any) -> Any:
    """Import the backend class at `path` and construct it, as Airflow does with `[secrets] backend`."""
    module, _, name = path.rpartition(".")
    if name == "RedshiftSecretsBackend":
        kwargs = {**kwargs, "cache": {"path": os.environ[HOST_STORE], **kwargs.get("cache", {})}}
    backend = getattr(importlib.import_module(module), name)(**kwargs)
    if hasattr(backend, "_set_connection_class"):  # Airflow 3.2 and newer
        backend._set_connection_class(connection_class)
    return backend


def page(backend: Any) -> Any:
    """Return the page in Airflow as an application, as it is for an administrator who is signed in already."""
    create_app = importlib.import_module("redshift_secrets.web.routes").create_app
    site_class = importlib.import_module("redshift_secrets.web.site").Site
    importlib.import_module("airflow.api_fastapi.app").create_auth_manager()
    managers = "airflow.api_fastapi.auth.managers.simple"
    user = importlib.import_module(f"{managers}.user").SimpleAuthManagerUser(username="admin", role="ADMIN")

    async def signed_in() -> Any:  # as Airflow's own, which takes no thread
        return user

    app = create_app(site_class(lambda: [backend]))
    app.dependency_overrides[importlib.import_module("airflow.api_fastapi.core_api.security").get_user] = signed_in
    return app


def resident_kib() -> int:
    """Return the memory of this process that is in RAM, in KiB; 0 if the system does not report it."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    except (OSError, StopIteration):
        return 0
