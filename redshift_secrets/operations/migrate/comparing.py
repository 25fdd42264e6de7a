"""Logs in as a stored connection does and as the tags say, and compares what the two sessions may do."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from redshift_secrets.airflow.masking import mask_password
from redshift_secrets.airflow.stored import KEPT_EXTRA, StoredConnection
from redshift_secrets.errors import RedshiftSecretsError, one_line
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.model import ConnectionFields, TaskContext, reveal
from redshift_secrets.operations.connect import log_in
from redshift_secrets.operations.login_errors import explain, network_cause, server_message
from redshift_secrets.operations.migrate.hooks import (
    PORT,
    as_read_by_its_hook,
    as_typed,
    cluster_or_workgroup,
    mints_for_redshift,
    split_address,
)

# https://docs.aws.amazon.com/redshift/latest/dg/r_PG_GROUP.html and .../r_SVV_USER_GRANTS.html
_GROUPS = "select groname from pg_group where (select usesysid from pg_user where usename = current_user) = any(grolist) order by 1"
_ROLES = "select role_name from svv_user_grants where user_name = current_user order by 1"

_OF_MINTING = ("iam", "cluster_identifier", "is_serverless", "serverless_work_group", "region")
_OF_POSTGRES_HOOK = (*_OF_MINTING, "redshift", "aws_conn_id", "azure_conn_id", "sqlalchemy_scheme", "sqlalchemy_query")
"""What `PostgresHook` keeps from libpq."""

_SHORT = 8
"""Texts of `extra` that are no longer are no secrets, and parts of other words."""


class Session(Struct, frozen=True):
    """What a session says of itself; groups or roles are `None` where the database does not say them."""

    user: str
    database: str
    groups: tuple[str, ...] | None
    roles: tuple[str, ...] | None


class Comparison(Struct, frozen=True):
    """The sessions of one conn_id, stored and by tags, each as a text where there is none, and what differs between them.

    `equal` is `None` where the stored one cannot log in, so that nothing can be said.
    """

    conn_id: str
    equal: bool | None
    stored: Session | str
    tagged: Session | str
    differences: tuple[str, ...]


def compare(
    broker: Broker,
    stored: StoredConnection,
    log_in: Callable[[ConnectionFields], Any] = log_in,
) -> Comparison:
    """Return how the two logins of a conn_id compare. `stored` must have its password, if it has one. Does not raise."""
    old = _session(lambda: _stored_fields(stored), log_in, _said)
    new = _session(lambda: _tagged_fields(broker, stored), log_in, lambda error, fields: explain(error, fields, None))
    if isinstance(new, str):
        return Comparison(stored.conn_id, False, old, new, (f"it does not log in by its tags: {new}",))
    if isinstance(old, str):
        return Comparison(stored.conn_id, None, old, new, (f"what is stored does not log in: {old}",))
    differences = [
        f"{name} {_text(one)} is stored, and {_text(other)} by tags"
        for name in Session.__struct_fields__
        if (one := getattr(old, name)) is not None and (other := getattr(new, name)) is not None and one != other
    ]
    return Comparison(stored.conn_id, not differences, old, new, tuple(differences))


def _stored_fields(stored: StoredConnection) -> ConnectionFields:
    stored = as_read_by_its_hook(stored)
    extra, conn_type = dict(stored.extra), stored.conn_type
    mints = mints_for_redshift(stored)
    if mints:
        extra = _as_the_driver_mints(stored)
        conn_type = "redshift"  # of the two drivers, the one that mints
    elif conn_type == "postgres":
        extra = {key: value for key, value in extra.items() if key not in _OF_POSTGRES_HOOK}
    password = None if stored.password is None else reveal(stored.password)
    if password is not None:
        mask_password(password)
    return ConnectionFields(
        conn_id=stored.conn_id,
        conn_type=conn_type,
        host=stored.host,
        port=stored.port or PORT,
        schema=stored.schema,
        login=stored.login,
        password=None if mints else password,
        extra=extra,
        description="",
    )


def _as_the_driver_mints(stored: StoredConnection) -> dict[str, Any]:
    """`extra` with which a driver does what the hooks do: mint for the login, and for the warehouse whose name the host begins with."""
    extra = dict(stored.extra)
    if stored.conn_type == "postgres":
        extra = {key: value for key, value in extra.items() if key in _OF_MINTING}
    kind, identifier = cluster_or_workgroup(stored)
    host = split_address(stored.host)[0]
    if host and not identifier and ".redshift-serverless." not in host:  # of that, the driver knows
        name = "cluster_identifier" if kind == "cluster" else "serverless_work_group"
        extra[name] = host.partition(".")[0]
    extra["iam"] = True  # a hook takes the text of a URI for that, the driver does not
    if stored.login:
        extra.setdefault("db_user", stored.login)
    return extra


def _tagged_fields(broker: Broker, stored: StoredConnection) -> ConnectionFields:
    fields = broker.connection(stored.conn_id, stored.team, TaskContext(None, stored.team))
    if fields is None:
        raise RedshiftSecretsError("no tag claims it")
    return fields


def _session(
    find: Callable[[], ConnectionFields],
    log_in: Callable[[ConnectionFields], Any],
    describe: Callable[[Exception, ConnectionFields], str],
) -> Session | str:
    """Return what a login says, or why there is none."""
    try:
        fields = find()
    except RedshiftSecretsError as error:
        return one_line(str(error))
    try:
        connection = log_in(fields)
        try:
            return _asked(connection)
        finally:
            connection.close()
    except Exception as error:  # every driver and socket error ends the attempt in the same way
        return one_line(describe(error, fields))


def _said(error: Exception, fields: ConnectionFields) -> str:
    """What a driver or a server says of a stored connection, whose `extra` may have a password, too."""
    if isinstance(network_cause(error), (socket.gaierror, TimeoutError, ConnectionRefusedError)):
        host = as_typed(fields.host)
        is_plain = bool(host) and host.lower() == split_address(host)[0]
        return explain(error, replace(fields, host=host if is_plain else repr(host)), None)
    text = server_message(error, fields.password)
    for key, value in reveal(fields.extra).items():
        if isinstance(value, str) and len(value) > _SHORT and key not in KEPT_EXTRA:
            text = text.replace(value, "***")
    return f"{type(error).__name__}: {text}"


def _asked(connection: Any) -> Session:
    with suppress(Exception):
        connection.autocommit = True  # a view that is not there must not end the session
    cursor = connection.cursor()
    cursor.execute("select current_user, current_database()")
    user, database = cursor.fetchone()
    return Session(str(user), str(database), _names(cursor, _GROUPS), _names(cursor, _ROLES))


def _names(cursor: Any, statement: str) -> tuple[str, ...] | None:
    try:
        cursor.execute(statement)
        return tuple(str(row[0]) for row in cursor.fetchall())
    except Exception:  # PostgreSQL has no such view, and a user may be denied it
        return None


def _text(value: object) -> str:
    return (" ".join(value) or "none") if isinstance(value, tuple) else str(value)
