"""Builds Airflow's Connection from the fields of a lookup."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec.json

from redshift_secrets.model import ConnectionFields, reveal


def server_connection_class() -> Any:
    """Return the Connection of Airflow's server code, for versions that do not set the class that a backend is to build."""
    return importlib.import_module("airflow.models").Connection


_SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Amazon Linux, Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS
)


def root_certificates(environ: Mapping[str, str]) -> str:
    """Return the path of the certificates that this host trusts.

    What libpq reads of its own accord comes first, then what OpenSSL is told to read. libpq's word `system` would not do: in the wheels of
    psycopg and psycopg2 it names a folder of the machine that built them.
    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-SSLROOTCERT
    """
    of_user = os.path.expanduser("~/.postgresql/root.crt")
    told = environ.get("PGSSLROOTCERT") or (os.path.isfile(of_user) and of_user) or environ.get("SSL_CERT_FILE")
    if told:
        return told
    found = next(filter(os.path.isfile, _SYSTEM_ROOTS), None)
    return found or str(importlib.import_module("certifi").where())  # of `requests`, which every Airflow has


def with_root_certificates(
    conn_type: str, extra: Mapping[str, object], environ: Mapping[str, str]
) -> dict[str, object]:
    """Return `extra` with what libpq needs to check the server's certificate, as it is on this host.

    Only for the process that connects: another host may keep its certificates elsewhere. redshift_connector finds them itself
    and takes no such key.
    """
    if conn_type != "postgres" or not str(extra.get("sslmode")).startswith("verify-") or "sslrootcert" in extra:
        return {**extra}
    return {**extra, "sslrootcert": root_certificates(environ)}


def add_root_certificates(connection: Any, environ: Mapping[str, str]) -> None:
    """Do the same to a Connection that a server has built for this process."""
    if connection.conn_type == "postgres":
        extra = with_root_certificates("postgres", json.loads(connection.extra or "{}"), environ)
        connection.extra = json.dumps(extra)


def application_name(environ: Mapping[str, str]) -> str | None:
    """Return `airflow/<dag_id>/<task_id>` of the task whose environment this is, or `None` where no task runs.

    Redshift shows the name in its logs and takes 250 characters of ASCII, so each part is cut to 120.
    https://docs.aws.amazon.com/redshift/latest/mgmt/python-configuration-options.html
    """
    dag_id, task_id = environ.get("AIRFLOW_CTX_DAG_ID"), environ.get("AIRFLOW_CTX_TASK_ID")
    if not dag_id or not task_id:
        return None
    return re.sub(r"[^!-~]", "?", f"airflow/{dag_id[:120]}/{task_id[:120]}")


def build(
    fields: ConnectionFields,
    connection_class: Any,
    environ: Mapping[str, str],
    *,
    for_others: Callable[[], bool] = lambda: False,
) -> Any:
    """Return a Connection of `connection_class`, with the task of `environ` as `application_name` in its `extra`, and with the
    root certificates of this host, unless it is `for_others`: a server that runs no task answers for another process."""
    # The task differs from lookup to lookup, so it is no part of what is cached. Every driver takes this key.
    name = application_name(environ)
    extra = reveal(fields.extra)
    if name is not None:
        extra = {"application_name": name, **extra}
    if fields.conn_type == "postgres" and (name is not None or not for_others()):
        extra = with_root_certificates(fields.conn_type, extra, environ)
    return connection_class(
        conn_id=fields.conn_id,
        conn_type=fields.conn_type,
        description=fields.description,
        host=fields.host,
        port=fields.port,
        schema=fields.schema,
        login=fields.login,
        password=None if fields.password is None else reveal(fields.password),
        extra=msgspec.json.encode(extra, enc_hook=reveal).decode() if extra else None,  # every lookup comes here
    )


def to_json(connection: Any) -> str:
    """Return a Connection in the JSON that Airflow reads."""
    names = ("conn_type", "description", "host", "port", "schema", "login", "password")
    return json.dumps({**{name: getattr(connection, name) for name in names}, "extra": connection.extra_dejson})
