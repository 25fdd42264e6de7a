"""The connections in Airflow's metadata database, without passwords unless these are asked for.

The table is read and not the model, whose objects decrypt and register their passwords.
https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from redshift_secrets.airflow import configuration
from redshift_secrets.airflow.masking import forms
from redshift_secrets.airflow.stored import ExtraError, Place, StoredConnection, StoredError, from_fields
from redshift_secrets.errors import one_line

_ODD = "Airflow cannot read it: one of its fields has a value of the wrong kind"


def database_connections(conn_ids: Iterable[str] | None = None, *, passwords: bool = False) -> list[StoredConnection]:
    """Return the connections that are stored there, all or those of some conn_ids; raises `StoredError`. A driver waits for minutes for
    a server that does not answer."""
    try:
        rows = _rows(conn_ids, passwords)
    except Exception as error:
        raise StoredError(f"{database()} cannot be read: {_reason(error)}. Check [database] sql_alchemy_conn") from None
    return [_connection(row, passwords) for row in rows]


def database() -> str:
    """Return what messages call the database: its kind and host, without user and password."""
    try:
        parts = urlsplit(_url())
        host = f" at {parts.hostname}" + (f":{parts.port}" if parts.port else "") if parts.hostname else ""
        return f"the metadata database ({parts.scheme.partition('+')[0]}{host})"
    except ValueError:
        return "the metadata database of this Airflow"


def _url() -> str:
    conf = importlib.import_module("airflow.configuration").conf
    return str(conf.get("database", "sql_alchemy_conn", fallback=""))


def _rows(conn_ids: Iterable[str] | None, passwords: bool) -> list[Mapping[str, Any]]:
    from sqlalchemy import select

    table = importlib.import_module("airflow.models").Connection.__table__
    names = ["conn_id", "conn_type", "host", "schema", "login", "port", "extra", "is_extra_encrypted"]
    names += [name for name in ("team_name",) if name in table.c]  # from 3.2 on
    if passwords:
        names += ["password", "is_encrypted"]
    stored = (table.c.password.is_not(None) & (table.c.password != "")).label("has_password")
    statement = select(*(table.c[name] for name in names), stored)
    if conn_ids is not None:
        statement = statement.where(table.c.conn_id.in_(list(conn_ids)))
    # Not by the session itself: where the database does not answer, Airflow finds that in use as it closes all sessions at the end.
    with (
        importlib.import_module("airflow.utils.session").create_session() as session,
        session.get_bind().connect() as connection,
    ):
        return [dict(row) for row in connection.execute(statement).mappings()]


def _connection(row: Mapping[str, Any], passwords: bool) -> StoredConnection:
    place, team = Place("database", row["conn_id"]), row.get("team_name")
    try:
        fields = {
            **row,
            "extra": _decrypted(row["extra"], row["is_extra_encrypted"]),
            "password": _decrypted(row["password"], row["is_encrypted"]) if passwords else None,
        }
    except ValueError:
        problem = "[core] fernet_key does not decrypt it"
        return StoredConnection(
            row["conn_id"], place, row["conn_type"] or "", has_password=True, team=team, problem=problem
        )
    try:
        found = from_fields(row["conn_id"], fields, place, passwords=passwords, team=team)
    except ExtraError as error:
        return StoredConnection(row["conn_id"], place, row["conn_type"] or "", team=team, problem=str(error))
    except Exception:  # one odd row leaves the others
        return StoredConnection(row["conn_id"], place, row["conn_type"] or "", team=team, problem=_ODD)
    return replace(found, has_password=found.has_password or bool(row["has_password"]))


def _decrypted(text: str | None, encrypted: bool) -> str | None:
    if not text or not encrypted:
        return text
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet

    try:
        return MultiFernet([Fernet(key) for key in configuration.fernet_keys() or ()]).decrypt(text.encode()).decode()
    except InvalidToken:
        raise ValueError("not decrypted") from None


def _reason(error: Exception) -> str:
    """What a driver says, in one line and without the password of the database."""
    error = getattr(error, "orig", None) or error
    text = one_line(str(error).strip().partition("\n")[0], 300)
    with suppress(Exception):
        from sqlalchemy.engine import make_url  # where SQLAlchemy 1.4 has it, too

        password = make_url(_url()).password
        for form in forms(str(password)) | {str(password)} if password else ():
            text = text.replace(form, "***")
    return f"{type(error).__name__}: {text}"
