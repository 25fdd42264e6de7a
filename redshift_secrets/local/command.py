"""`redshift-secrets local up`: run the stand-in in the foreground."""

from __future__ import annotations

import json
import shlex
import signal
import threading
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

from redshift_secrets.local import config as warehouses_file
from redshift_secrets.local.config import Cluster, Warehouses
from redshift_secrets.local.stand_in import StandIn

_MARKER = "conn-id"


def up(config: Path | None, port: int, *, echo: Callable[[str], None]) -> None:
    """Run until SIGINT or SIGTERM. Raises `ConfigError` for an invalid file and `OSError` if the port is in use."""
    warehouses = warehouses_file.load(config) if config is not None else default_warehouses()
    stop = threading.Event()
    previous_handlers = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with StandIn(warehouses, port=port) as stand_in:
            _print_instructions(warehouses, stand_in, echo)
            stop.wait()
            echo("Stopping.")
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


def _print_instructions(warehouses: Warehouses, stand_in: StandIn, echo: Callable[[str], None]) -> None:
    for warehouse in warehouses.all:
        conn_ids = next((value for key, value in warehouse.tags.items() if key.endswith(_MARKER)), "no conn_id")
        name = warehouse.identifier if isinstance(warehouse, Cluster) else warehouse.name
        echo(f"# {name} in {warehouse.region} (account {warehouse.account}): {conn_ids}")
    echo("# Run this in each shell that should use the stand-in:")
    for name, value in {**stand_in.environment(), **airflow_environment(warehouses)}.items():
        echo(f"export {name}={shlex.quote(value)}")
    echo("# Then try: redshift-secrets list. Call counts: $AWS_ENDPOINT_URL/_local/calls. Press Ctrl-C to stop.")
