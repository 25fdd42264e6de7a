"""Connects as a task would, step by step."""

from __future__ import annotations

import importlib
import os
import socket
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from msgspec import Struct

from redshift_secrets.airflow.connection import with_root_certificates
from redshift_secrets.errors import RedshiftSecretsError, known_error
from redshift_secrets.lookup.audit import Audit
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.model import ConnectionFields, TaskContext, reveal
from redshift_secrets.operations.login_errors import explain
from redshift_secrets.operations.tls import start_tls

_CONNECT_SECONDS = 10


class Step(Struct, frozen=True):
    """One step, how long it took in seconds, also where it failed, and what it found. `tier` has answered, where tiers are asked:
    `process`, `host`, `fleet` or `aws`; `None` for what is done each time."""

    name: str
    seconds: float
    found: str = ""
    tier: str | None = None


class Attempt(Struct, frozen=True):
    """The database and user logged in to, or why that failed, and the ARN of the warehouse."""

    database: str | None = None
    user: str | None = None
    failure: str | None = None
    warehouse_arn: str | None = None


def connect(
    broker: Broker, conn_id: str, task: TaskContext, on_step: Callable[[Step], None], audit: Audit | None = None
) -> Attempt | None:
    """Connect for a task, calling `on_step` after each step; `None` when no tag claims the conn_id. The `audit` has what came of it.

    Raises `RedshiftSecretsError` when discovery or the mint fails.
    """
    try:
        attempt = _connect(broker, conn_id, task, _Steps(on_step))
    except Exception as error:
        if audit is not None:
            audit.tested(conn_id, task, getattr(error, "warehouse_arn", None), None, str(known_error(error)))
        raise
    if audit is not None and attempt is not None:
        outcome = attempt.failure or f"connected to database {attempt.database}"
        audit.tested(conn_id, task, attempt.warehouse_arn, attempt.user, outcome)
    return attempt


def _connect(broker: Broker, conn_id: str, task: TaskContext, steps: _Steps) -> Attempt | None:
    began_at, lookup = broker.now(), broker.lookup()
    snapshot = steps.time(
        "catalog",
        lambda: broker.inventory.snapshot(lookup),
        tier=lambda found: broker.answered_by(lookup, found.newest_at, began_at),
        holds=lambda found: conn_id not in found.specs,
    )
    began_at, lookup = broker.now(), broker.lookup()
    fields = steps.time(
        "credential",
        lambda: broker.connection(conn_id, task.team, task, lookup=lookup),
        lambda made: made.description,
        lambda _made: broker.answered_by(lookup, broker.minted_at(conn_id, task.team, task), began_at),
        holds=lambda made: made is None,
    )
    if fields is None:
        return None
    teams = (None, (task.team or "").lower())
    spec = next((each for each in snapshot.specs.get(conn_id, ()) if each.team in teams), None)
    arn = spec.warehouse.arn if spec is not None else None
    try:
        raw = steps.time("TCP", lambda: socket.create_connection((fields.host, fields.port), timeout=_CONNECT_SECONDS))
        with raw:
            steps.time("TLS", lambda: start_tls(raw, fields.host, fields.conn_type, fields.extra))
        connection = steps.time("login (opens a second connection)", lambda: log_in(fields))
        try:
            user, database = steps.time("query", lambda: _current_user_and_database(connection))
        finally:
            connection.close()
    except RedshiftSecretsError:
        raise
    except Exception as error:  # every driver and socket error ends the attempt in the same way
        return Attempt(failure=explain(error, fields, spec), warehouse_arn=arn)
    return Attempt(database, user, warehouse_arn=arn)


class _Steps:
    def __init__(self, on_step: Callable[[Step], None]) -> None:
        self._on_step = on_step
        self._held: list[Step] = []

    def time(
        self,
        name: str,
        work: Callable[[], Any],
        describe: Callable[[Any], str] = lambda _result: "",
        tier: Callable[[Any], str | None] = lambda _result: None,
        holds: Callable[[Any], bool] = lambda _result: False,
    ) -> Any:
        """Call `work`, report how long it took, also when it fails, and return its result. A step whose result `holds` is reported with
        the next one: of a conn_id that nothing claims there are no steps."""
        start = time.perf_counter()
        result, is_held = None, False
        try:
            result = work()
            is_held = holds(result)
            return result
        finally:
            seconds = time.perf_counter() - start
            done = result is not None
            self._held.append(Step(name, seconds, describe(result) if done else "", tier(result) if done else None))
            if not is_held:
                for step in self._held:
                    self._on_step(step)
                self._held.clear()


def log_in(fields: ConnectionFields) -> Any:
    """Return a connection of the driver that the hook of this connection uses; raises what that driver raises."""
    # The same driver and arguments as in the hook: the fields, and all of extra unchanged.
    arguments: dict[str, Any] = {"host": fields.host, "port": fields.port}
    if fields.password is not None:
        arguments |= {"user": fields.login, "password": reveal(fields.password)}
    if fields.conn_type == "postgres":
        extra = {name: value for name, value in _extra(fields).items() if name != "cursor"}  # it is for the hook
        libpq: Any = importlib.import_module("psycopg" if find_spec("psycopg") else "psycopg2")
        return libpq.connect(**{"connect_timeout": _CONNECT_SECONDS, "dbname": fields.schema, **arguments, **extra})
    import redshift_connector

    return redshift_connector.connect(
        **{"timeout": _CONNECT_SECONDS, "database": fields.schema, **arguments, **fields.extra}
    )


def _extra(fields: ConnectionFields) -> dict[str, Any]:
    return with_root_certificates(fields.conn_type, fields.extra, os.environ)


def _current_user_and_database(connection: Any) -> Any:
    cursor = connection.cursor()
    cursor.execute("select current_user, current_database()")
    return cursor.fetchone()
