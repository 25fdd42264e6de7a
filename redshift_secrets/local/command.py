"""`redshift-secrets local up`: run the stand-in, and say how to use it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from pathlib import Path

from redshift_secrets.local import config as warehouses_file
from redshift_secrets.local.config import Cluster, ConfigError, Warehouses
from redshift_secrets.local.stand_in import StandIn

__all__ = ["ConfigError", "EnvFileError", "airflow_environment", "default_warehouses", "up"]

_MARKER = "conn-id"
_ENV_FILE = "# Written by redshift-secrets local up, which removes it when it stops.\n"


class EnvFileError(Exception):
    """The file for the environment is something else."""


def up(
    config: Path | None, port: int, *, ready: Callable[[list[str], str], None], env_file: Path | None = None
) -> None:
    """Run until SIGINT or SIGTERM. Once it serves, `ready` is called with what to print and what takes it back in a shell, and
    `env_file` has the environment.

    Raises `ConfigError` for an invalid file, `EnvFileError`, and `OSError` if the port is in use or a file cannot be written.
    """
    warehouses = warehouses_file.load(config) if config is not None else default_warehouses()
    if env_file is not None:
        _check_env_file(env_file)
    stop = threading.Event()
    previous_handlers = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with StandIn(warehouses, port=port) as stand_in:
            environment = {**stand_in.environment(), **airflow_environment(warehouses)}
            if env_file is not None:
                _write_env_file(env_file, environment)
            try:
                ready(_instructions(warehouses, environment, env_file), f"unset {' '.join(environment)}")
                stop.wait()
            finally:
                if env_file is not None:
                    env_file.unlink(missing_ok=True)
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


def default_warehouses() -> Warehouses:
    """Return the warehouses of `warehouses.yaml` beside this module."""
    with resources.as_file(resources.files("redshift_secrets.local") / "warehouses.yaml") as path:
        return warehouses_file.load(path)


def airflow_environment(warehouses: Warehouses) -> Mapping[str, str]:
    """Return the Airflow settings with which the backend discovers these warehouses."""
    regions = sorted({warehouse.region for warehouse in warehouses.all})
    return {
        "AIRFLOW__SECRETS__BACKEND": "redshift_secrets.RedshiftSecretsBackend",
        # Not one variable for each setting, which only Airflow 3.2 and newer read.
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"regions": regions}),
    }


def _instructions(warehouses: Warehouses, environment: Mapping[str, str], env_file: Path | None) -> list[str]:
    lines = []
    for warehouse in warehouses.all:
        conn_ids = next((value for key, value in warehouse.tags.items() if key.endswith(_MARKER)), "no conn_id")
        name = warehouse.identifier if isinstance(warehouse, Cluster) else warehouse.name
        lines.append(f"# {name} in {warehouse.region} (account {warehouse.account}): {conn_ids}")
    lines.append("# Run this in each shell that should use the stand-in:")
    if env_file is not None:
        lines.append(f"set -a; . {shlex.quote(str(env_file.absolute()))}; set +a")
    else:
        lines += [f"export {line}" for line in _assignments(environment)]
    return [*lines, "# Then try: redshift-secrets list. Call counts: $AWS_ENDPOINT_URL/_local/calls."]


def _assignments(environment: Mapping[str, str]) -> Iterable[str]:
    return (f"{name}={shlex.quote(value)}" for name, value in environment.items())


def _check_env_file(path: Path) -> None:
    """Take no file of somebody else for one that was left."""
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(_ENV_FILE):
        raise EnvFileError(f"{path} exists, and was not written by redshift-secrets local up: name another file")


def _write_env_file(path: Path, environment: Mapping[str, str]) -> None:
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        file.write(_ENV_FILE + "".join(f"{line}\n" for line in _assignments(environment)))
