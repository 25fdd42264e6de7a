"""The parts of Airflow that tests use, which each version keeps in another place.

Only this module, and for processes and runs `tests/support/airflow_site.py` and `airflow_runs.py`, know the differences.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from airflow.models import Connection as ServerConnection

from redshift_secrets import backend
from redshift_secrets.airflow import masking
from redshift_secrets.airflow.refusals import RefusedConnection
from redshift_secrets.errors import CannotServeError
from redshift_secrets.lookup import wiring
from tests.support.airflow_site import airflow_version
from tests.support.helpers import forget_memory
from tests.support.host_store import HOST_STORE

VERSION = airflow_version()

if VERSION >= (3, 2):
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied as Refusal
else:
    Connection = (
        ServerConnection  # older ones do not tell a backend which class to build; their own backends build this one
    )
    Refusal = CannotServeError

from_airflow_3_0 = pytest.mark.skipif(VERSION < (3, 0), reason="Airflow 2 has no [workers] secrets_backend")
from_airflow_3_2 = pytest.mark.skipif(
    VERSION < (3, 2), reason="Airflow 3.2 was the first to read BACKEND_KWARG__<NAME>"
)
refusal_is_final = pytest.mark.skipif(VERSION < (3, 2), reason="Airflow 3.2 was the first to treat a refusal as final")

CONNECTION_CLASSES = list(dict.fromkeys([ServerConnection, Connection]))
"""The classes that Airflow may ask a backend to build: that of its server and that of its tasks."""

if VERSION >= (3, 1):
    MASKERS = ("airflow._shared.secrets_masker", "airflow.sdk._shared.secrets_masker")
elif VERSION >= (3, 0):
    MASKERS = ("airflow.sdk.execution_time.secrets_masker",)
else:
    MASKERS = ("airflow.utils.log.secrets_masker",)


def backend_environment(**settings: Any) -> dict[str, str]:
    """Return the environment that configures this backend in every version of Airflow, with the host store of the test and
    with time for a busy machine."""
    cache = {"path": os.environ[HOST_STORE], **settings.pop("cache", {})}
    kwargs = {"regions": ["eu-west-1"], "aws_timeout_seconds": 300, "cache": cache, **settings}
    return {
        "AIRFLOW__SECRETS__BACKEND": "redshift_secrets.RedshiftSecretsBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(kwargs),
    }


def as_in_a_new_process() -> None:
    """Make Airflow construct its secrets backends again at the next lookup, with nothing in memory."""
    forget_memory()
    if VERSION >= (3, 3):
        importlib.import_module("airflow.sdk.configuration").clear_secrets_backends_cache()


@contextlib.contextmanager
def backends_with_clock(clock: Callable[[], float]) -> Iterator[None]:
    """Give `clock` to the backends, the brokers that they create and the connections that they build meanwhile."""
    with contextlib.ExitStack() as stack:
        for name in ("LazyAwsClient", "create_broker", "create_tiers"):
            with_clock = functools.partial(getattr(wiring, name), clock=clock)
            stack.enter_context(mock.patch.object(wiring, name, with_clock))
        stack.enter_context(mock.patch.object(backend, "time", SimpleNamespace(time=clock)))
        yield


def look_up(conn_id: str) -> Any:
    """Look up a connection as a task's hook does."""
    if VERSION >= (3, 0):
        return importlib.import_module("airflow.sdk").Connection.get(conn_id)
    return ServerConnection.get_connection_from_secrets(conn_id)


def used(connection: Any) -> Any:
    """Return a connection after using it once, which raises the refusal in an Airflow where no exception is final."""
    if isinstance(connection, RefusedConnection):
        raise AssertionError(f"a refused connection has the host {connection.host}")
    return connection


def from_uri(connection_class: Any, uri: str, conn_id: str) -> Any:
    """Build a connection from its URI as Airflow does; since 3.2 that is not the same as calling the class with it."""
    if hasattr(connection_class, "from_uri"):
        return connection_class.from_uri(uri, conn_id=conn_id)
    return connection_class(conn_id=conn_id, uri=uri)


def redacted(text: str) -> list[str]:
    """Return a text as each masker of this Airflow masks it."""
    return [importlib.import_module(name).redact(text) for name in MASKERS]


def reset_maskers() -> None:
    """Remove every secret from the maskers of this Airflow."""
    for name in MASKERS:
        masker = importlib.import_module(name)._secrets_masker()
        masker.patterns.clear()
        masker.replacer = None
        masking._set_forms(masker, ())
