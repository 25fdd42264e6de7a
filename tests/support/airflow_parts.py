"""What the tests take from Airflow, each version of which keeps it elsewhere. The tests tell versions apart here and
nowhere else, but for the processes that Airflow consists of: see `tests/support/airflow_site.py`."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest
from airflow.models import Connection as ServerConnection

from redshift_secrets.airflow.refusals import RefusedConnection
from redshift_secrets.errors import CannotServeError
from tests.support.airflow_site import airflow_version
from tests.support.helpers import forget_memory

VERSION = airflow_version()

if VERSION >= (3, 2):
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied as Refusal
else:
    Connection = ServerConnection  # older ones tell no backend which class to build, and their own build this one
    Refusal = CannotServeError

from_airflow_3_0 = pytest.mark.skipif(VERSION < (3, 0), reason="Airflow 2 has no [workers] secrets_backend")
from_airflow_3_2 = pytest.mark.skipif(
    VERSION < (3, 2), reason="Airflow 3.2 was the first to read BACKEND_KWARG__<NAME>"
)
refusal_is_final = pytest.mark.skipif(VERSION < (3, 2), reason="Airflow 3.2 was the first to take a refusal for final")

CONNECTION_CLASSES = list(dict.fromkeys([ServerConnection, Connection]))
"""Those that Airflow may want a backend to build: that of its server and that of its tasks."""

if VERSION >= (3, 1):
    MASKERS = ("airflow._shared.secrets_masker", "airflow.sdk._shared.secrets_masker")
elif VERSION >= (3, 0):
    MASKERS = ("airflow.sdk.execution_time.secrets_masker",)
else:
    MASKERS = ("airflow.utils.log.secrets_masker",)


def backend_environment(**settings: Any) -> dict[str, str]:
    """The environment that makes us Airflow's secrets backend, as each version reads it; patient with a busy machine."""
    kwargs = {"regions": ["eu-west-1"], "aws_timeout_seconds": 60, **settings}
    return {
        "AIRFLOW__SECRETS__BACKEND": "redshift_secrets.RedshiftSecretsBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(kwargs),
    }


def as_in_a_new_process() -> None:
    """Have Airflow construct its secrets backends again at the next lookup, with nothing in memory."""
    forget_memory()
    if VERSION >= (3, 3):
        importlib.import_module("airflow.sdk.configuration").clear_secrets_backends_cache()


def look_up(conn_id: str) -> Any:
    """Look a connection up as a task's hook does."""
    if VERSION >= (3, 0):
        return importlib.import_module("airflow.sdk").Connection.get(conn_id)
    return ServerConnection.get_connection_from_secrets(conn_id)


def used(connection: Any) -> Any:
    """Return a connection after a first use of it: where Airflow takes no exception for final, a refusal comes with that."""
    if isinstance(connection, RefusedConnection):
        raise AssertionError(f"{connection.host} of a connection that was refused")
    return connection


def from_uri(connection_class: Any, uri: str, conn_id: str) -> Any:
    """Build a connection from its URI as Airflow does, which in 3.2 is not the same as calling the class with it."""
    if hasattr(connection_class, "from_uri"):
        return connection_class.from_uri(uri, conn_id=conn_id)
    return connection_class(conn_id=conn_id, uri=uri)


def redacted(text: str) -> list[str]:
    """Return what each masker of this Airflow makes of a text."""
    return [importlib.import_module(name).redact(text) for name in MASKERS]


def reset_maskers() -> None:
    for name in MASKERS:
        masker = importlib.import_module(name)._secrets_masker()
        masker.patterns.clear()
        masker.replacer = None
