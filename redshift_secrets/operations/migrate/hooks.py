"""What Airflow's hooks make of a stored connection: both hooks let `extra` beat its fields, and each has names of its own. Pure.

https://airflow.apache.org/docs/apache-airflow-providers-amazon/stable/connections/redshift.html
https://airflow.apache.org/docs/apache-airflow-providers-postgres/stable/connections/postgres.html
"""

from __future__ import annotations

import re
from typing import Any

from msgspec.structs import replace

from redshift_secrets.airflow.stored import StoredConnection
from redshift_secrets.model import reveal

PORT = 5439
"""That of a connection that names none."""
SERVED_TYPES = ("redshift", "postgres")

_OF_POSTGRES = {
    "cluster-identifier": "cluster_identifier",
    "workgroup-name": "serverless_work_group",
    "redshift-serverless": "is_serverless",
    "dbname": "database",
}
"""How `RedshiftSQLHook` and its driver call what `PostgresHook` and libpq call otherwise."""
_FIELDS = {"host": "host", "port": "port", "user": "login", "database": "schema"}
"""Keys of `extra` that a driver takes instead of a connection's own fields."""


def as_read_by_its_hook(stored: StoredConnection) -> StoredConnection:
    """Return the connection with one spelling of its type, with `extra` under the names of `RedshiftSQLHook`, and with what `extra` says
    of a field as that field."""
    name = stored.conn_type.strip().lower().partition("+")[0]
    conn_type = "postgres" if name == "postgresql" else name
    if conn_type not in SERVED_TYPES:
        conn_type = stored.conn_type
    extra = dict(reveal(stored.extra))
    if conn_type == "postgres":
        extra = {_OF_POSTGRES.get(key, key): value for key, value in extra.items()}
    instead: dict[str, Any] = {
        field: extra.pop(key) for key, field in _FIELDS.items() if _is_given(key, extra.get(key))
    }
    if "port" in instead:
        instead["port"] = int(instead["port"])
    if is_true(extra.get("iam")):  # then the user is the one that AWS mints for
        instead.pop("login", None)
    found = replace(stored, **{**instead, "conn_type": conn_type, "extra": extra})
    _, port = split_address(found.host)
    return replace(found, port=port) if found.port is None and port is not None else found


def _is_given(key: str, value: object) -> bool:
    if key == "port":
        return isinstance(value, (int, str)) and re.fullmatch(r"\s*[1-9]\d{0,4}\s*", str(value), re.ASCII) is not None
    return isinstance(value, str) and bool(value.strip())


def cluster_or_workgroup(stored: StoredConnection) -> tuple[str, str]:
    """Return the kind of warehouse that a connection, as its hook reads it, is to, and the identifier that `extra` says, if any."""
    extra = stored.extra
    workgroup = extra.get("serverless_work_group") or extra.get("workgroup_name") or ""
    if workgroup or is_true(extra.get("is_serverless")):
        return "workgroup", str(workgroup)
    return "cluster", str(extra.get("cluster_identifier") or "")


def mints_for_redshift(stored: StoredConnection) -> bool:
    """Whether the hook has AWS mint a password of Redshift: `PostgresHook` does of RDS, unless `extra` says otherwise."""
    extra = stored.extra
    of_redshift = (
        stored.conn_type == "redshift" or is_true(extra.get("redshift")) or is_true(extra.get("is_serverless"))
    )
    return of_redshift and is_true(extra.get("iam"))


def split_address(text: str) -> tuple[str, int | None]:
    """Return the host name in what was typed in as a host, in lower case, and the port if it names one. A scheme, a login, a
    database and the dot at the end are left out, since addresses are pasted as AWS and JDBC write them: `host:5439/dev`."""
    netloc = _partition(text.strip())[0]
    host, _, port = netloc.rpartition(":")
    if re.fullmatch(r"\d{1,5}", port, re.ASCII) and host and (":" not in host or host.endswith("]")):
        return _bare(host), int(port)
    return _bare(netloc), None


def as_typed(text: str) -> str:
    """Return what was typed in as a host as it can be shown: without a login, and without what follows the host, which may have one."""
    netloc, rest = _partition(text)
    return f"{netloc}..." if rest else netloc


def _partition(text: str) -> tuple[str, str]:
    """Split an address into host and port, and what follows them."""
    address = text.rpartition("://")[2].rpartition("@")[2]
    netloc = re.split(r"[/?#;]", address, maxsplit=1)[0]
    return netloc, address[len(netloc) :]


def _bare(host: str) -> str:
    return host.removeprefix("[").removesuffix("]").rstrip(".").lower()


def is_true(value: object) -> bool:
    """Whether a value of `extra` is true, also as a text or a number."""
    if isinstance(value, str):
        return value.strip().lower() in ("true", "t", "yes", "y", "on", "1")
    return value is True or value == 1
