"""Builds Airflow's Connection from the fields of a lookup."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any

from redshift_secrets.airflow.task_context import application_name
from redshift_secrets.model import ConnectionFields, reveal


def server_connection_class() -> Any:
    """Return the Connection of Airflow's server code, for versions that do not set the class that a backend is to build."""
    return importlib.import_module("airflow.models").Connection


def build(fields: ConnectionFields, connection_class: Any, environ: Mapping[str, str]) -> Any:
    """Return a Connection of `connection_class`, with the task of `environ` as `application_name` in its `extra`."""
    # The task differs from lookup to lookup, so it is no part of what is cached. Every driver takes this key.
    name = application_name(environ)
    extra = {**fields.extra} if name is None else {"application_name": name, **fields.extra}
    return connection_class(
        conn_id=fields.conn_id,
        conn_type=fields.conn_type,
        description=fields.description,
        host=fields.host,
        port=fields.port,
        schema=fields.schema,
        login=fields.login,
        password=None if fields.password is None else reveal(fields.password),
        extra=json.dumps(extra) if extra else None,
    )


def to_json(connection: Any) -> str:
    """Return a Connection in the JSON that Airflow reads."""
    names = ("conn_type", "description", "host", "port", "schema", "login", "password")
    return json.dumps({**{name: getattr(connection, name) for name in names}, "extra": connection.extra_dejson})
