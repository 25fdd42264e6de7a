"""The face for Airflow: a secrets backend.

This module is imported inside `import airflow.configuration`, in every Airflow process. So it loads neither boto3 nor
Airflow's configuration, opens nothing and starts nothing. All that a lookup on a warm host needs is loaded here, once,
for every process that is forked from this one.
https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/secrets-backend/index.html
"""

from __future__ import annotations

import functools
import json
import logging
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.secrets import BaseSecretsBackend
from msgspec.structs import replace

from redshift_secrets.airflow import compat, refusals
from redshift_secrets.airflow import renewing_connection as renewal
from redshift_secrets.airflow.fallback import Fallbacks
from redshift_secrets.airflow.renewing_connection import Renewal
from redshift_secrets.cache import forks
from redshift_secrets.cache.sealing import load_algorithms
from redshift_secrets.errors import NO_FLEET_KEY, CannotServeError, RedshiftSecretsError, SettingsError
from redshift_secrets.lookup.connection_fields import application_name
from redshift_secrets.lookup.wiring import (
    LazyAwsClient,
    broker_key,
    create_broker,
    create_stores,
    existing_broker,
    forget_broker,
    get_or_create_broker,
)
from redshift_secrets.settings.db_user import Dag, is_template, task_context
from redshift_secrets.settings.settings import Settings

if TYPE_CHECKING:
    from redshift_secrets.lookup.broker import Broker
    from redshift_secrets.model import ConnectionFields

log = logging.getLogger(__name__)


class RedshiftSecretsBackend(BaseSecretsBackend):
    """Answers for every conn_id that a tag on a Redshift warehouse claims; see `Settings` for the arguments.

        [secrets]
        backend = redshift_secrets.RedshiftSecretsBackend
        backend_kwargs = {"regions": ["eu-west-1"], "db_user": "airflow_etl"}

    Raises `SettingsError` that lists every mistake in `backend_kwargs`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.settings = Settings.from_kwargs(kwargs)
        if self.settings.cache.redis_url and not self.settings.cache.key and compat.lacks_fernet_keys():
            raise SettingsError([NO_FLEET_KEY])
        self._user_for_each_dag = is_template(self.settings.db_user)
        self._fallbacks = Fallbacks(self.settings.fallback, compat.authoritative_refusal)
        self._broker: Broker | None = None
        self._lock = threading.Lock()
        forks.reset_in_child(self)
        load_algorithms()

    def reset_after_fork(self) -> None:
        """Called in the child of a fork, where the lock may be held by a thread that is not there."""
        self._lock = threading.Lock()

    def get_connection(self, conn_id: str, team_name: str | None = None) -> Any:
        """Return the Airflow Connection for `conn_id`; for what is not ours that of a fallback, or `None`.

        Raises `AirflowSecretsBackendAccessDenied` for what is ours and cannot be served, so that nobody goes on to an old
        password elsewhere. An Airflow that has no such thing gets what raises `CannotServeError` when it is used.
        """
        if conn_id.startswith(refusals.EXPLAIN_PREFIX):
            return self._told(conn_id, team_name)
        # Airflow asks for every conn_id there is, so what the pattern rules out must cost next to nothing.
        if self.settings.matches(conn_id):
            try:
                fields = self._fields(conn_id, team_name)
            except CannotServeError as error:
                return _refused(conn_id, error)
            if fields is not None:
                return self._connection(fields, team_name)
        connection_class = getattr(self, "_connection_class", None)
        return self._fallbacks.get_connection(conn_id, team_name, connection_class) if self.settings.fallback else None

    def _fields(self, conn_id: str, team_name: str | None) -> ConnectionFields | None:
        try:
            return self.broker.connection(conn_id, team_name, self._dag(team_name))
        except CannotServeError:
            raise
        except Exception as error:
            self._not_set_up(conn_id, error)
            return None

    def _told(self, explained_id: str, team_name: str | None) -> Any:
        """Answer a worker's `ServerSideBackend`, which wants a refusal as words and not as an error."""
        conn_id = explained_id.removeprefix(refusals.EXPLAIN_PREFIX)
        if not self.settings.matches(conn_id):
            return None
        try:
            fields = self._fields(conn_id, team_name)
        except CannotServeError as error:
            log.error("%s", error)
            return refusals.as_connection(explained_id, str(error), self._connection_class_now())
        return None if fields is None else self._connection(replace(fields, conn_id=explained_id), team_name)

    def _refresh_fields(self, conn_id: str, team_name: str | None) -> ConnectionFields:
        """Return the fields for a Connection that renews itself; raises what a lookup would."""
        try:
            fields = self._fields(conn_id, team_name)
            if fields is None:
                raise CannotServeError(
                    f"connection {conn_id!r} cannot be renewed: no warehouse claims it any more. Put its tag back, or"
                    " let the task look it up again"
                )
        except CannotServeError as error:
            raise compat.final_refusal(str(error)) or error from None
        return fields

    async def aget_connection(self, conn_id: str, team_name: str | None = None) -> Any:
        """Return and raise as `get_connection`, for Airflow's triggers: what needs I/O is looked up off the event loop.

        What it returns stays as it is: reading an attribute must not keep an event loop waiting for AWS.
        """
        if not self.settings.fallback and (not self.settings.matches(conn_id) or self._remembers(conn_id, team_name)):
            return renewal.without_renewal(self.get_connection(conn_id, team_name))
        import asyncio  # most processes never come here

        return renewal.without_renewal(await asyncio.to_thread(self.get_connection, conn_id, team_name))

    def _remembers(self, conn_id: str, team_name: str | None) -> bool:
        if self._broker is None:
            with suppress(Exception):  # the lookup off the loop will meet it too, and refuse as it should
                self._broker = existing_broker(broker_key(self.settings))
        return self._broker is not None and self._broker.remembers(conn_id, team_name, self._dag(team_name))

    def _dag(self, team_name: str | None) -> Dag | None:
        # The environment is only read where it matters: it costs more than all the rest of a lookup in memory.
        return task_context(os.environ, team_name) if self._user_for_each_dag else None

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str | None:
        """Return the connection as JSON, for callers that do not want the object; raises as `get_connection`."""
        connection = self.get_connection(conn_id, team_name)
        return None if connection is None else json.dumps(_as_json(connection))

    def get_variable(self, key: str, team_name: str | None = None) -> str | None:
        """Return what a fallback has: variables are not ours."""
        return self._fallbacks.get_variable(key, team_name) if self.settings.fallback else None

    def get_config(self, key: str) -> str | None:
        """Return what a fallback has: configuration is not ours."""
        return self._fallbacks.get_config(key) if self.settings.fallback else None

    @property
    def broker(self) -> Broker:
        """What answers the lookups; made at the first one."""
        if self._broker is not None:  # nearly always, and without a lock
            return self._broker
        # A fork waits: what is loaded of Airflow and of us to make it must not be half there in the child.
        with forks.no_fork_here, self._lock:
            if self._broker is None:
                name = broker_key(self.settings)
                self._broker = get_or_create_broker(name, functools.partial(self._new_broker, name))
            return self._broker

    def _new_broker(self, name: str) -> Broker:
        # What is found from then on, as somebody else, is not for backends that ask as the first one.
        aws = LazyAwsClient(self.settings, changed=functools.partial(forget_broker, name))
        return create_broker(
            self.settings,
            create_stores(self.settings, aws, airflow_keys=compat.fernet_keys()),
            on_secret=compat.mask,
            aws=aws,
            airflow_cache_ttl_seconds=compat.airflow_cache_ttl_seconds(),
            metrics=compat.metrics(),
        )

    def _not_set_up(self, conn_id: str, error: Exception) -> None:
        """Nothing can be looked up at all. What the site's own pattern calls ours must not be looked for elsewhere."""
        told = str(error) if isinstance(error, RedshiftSecretsError) else f"an unexpected {type(error).__name__}"
        log.error("redshift-secrets cannot look anything up: %s", told)
        if self.settings.connections_lookup_pattern is not None:
            raise CannotServeError(f"connection {conn_id!r} cannot be looked up: {told}") from None

    def _connection_class_now(self) -> Any:
        # Airflow 3.2 and newer set the class that fits the process, task or server.
        return getattr(self, "_connection_class", None) or compat.connection_class()

    def _connection(self, fields: ConnectionFields, team_name: str | None) -> Any:
        connection_class = self._connection_class_now()
        # Who asks is different from lookup to lookup, so it is no part of what is cached. Every driver takes this key.
        name = application_name(os.environ)
        extra = fields.extra if name is None else {"application_name": name, **fields.extra}
        connection = connection_class(
            conn_id=fields.conn_id,
            conn_type=fields.conn_type,
            description=fields.description,
            host=fields.host,
            port=fields.port,
            schema=fields.schema,
            login=fields.login,
            password=fields.password,
            extra=json.dumps(extra) if extra else None,
        )
        if fields.valid_until is not None and renewal.can_renew(connection_class):
            ask = functools.partial(self._refresh_fields, fields.conn_id, team_name)
            renewal.attach(connection, Renewal(ask, self.broker.now, fields.valid_until))
        return connection


def _as_json(connection: Any) -> dict[str, Any]:
    names = ("conn_type", "description", "host", "port", "schema", "login", "password")
    return {**{name: getattr(connection, name) for name in names}, "extra": connection.extra_dejson}


def _refused(conn_id: str, refusal: CannotServeError) -> Any:
    if compat.refusals_are_lost():
        log.error("%s", refusal)
    return refusals.refused(conn_id, str(refusal))
