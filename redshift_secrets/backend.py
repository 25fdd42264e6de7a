"""The secrets backend that Airflow constructs.

This module is imported inside `import airflow.configuration`, in every Airflow process. So it loads neither boto3 nor
Airflow's configuration, opens nothing and starts nothing. Everything that a lookup on a warm host needs is loaded here, once
for every process that is forked from this one.
https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/secrets-backend/index.html
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.secrets import BaseSecretsBackend
from msgspec.structs import replace

from redshift_secrets.airflow import configuration, connection, refusals, renewing_connection
from redshift_secrets.airflow.fallback import Fallbacks
from redshift_secrets.airflow.masking import mask_password
from redshift_secrets.airflow.metrics import metrics
from redshift_secrets.airflow.renewing_connection import Renewal
from redshift_secrets.airflow.task_context import task_context
from redshift_secrets.cache import forks
from redshift_secrets.cache.sealing import load_algorithms
from redshift_secrets.errors import NO_REDIS_KEY, CannotServeError, RedshiftSecretsError, SettingsError
from redshift_secrets.lookup import wiring
from redshift_secrets.settings import BACKEND_CLASS_PATHS, Settings
from redshift_secrets.settings.db_user import is_template

if TYPE_CHECKING:
    from redshift_secrets.lookup.broker import Broker
    from redshift_secrets.model import ConnectionFields, TaskContext

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
        ignored = configuration.ignored_backend_kwargs(BACKEND_CLASS_PATHS)
        if ignored:
            raise SettingsError(ignored)
        self.settings = Settings.from_kwargs(kwargs)
        if self.settings.cache.redis_url and not self.settings.cache.key and configuration.lacks_fernet_keys():
            raise SettingsError([NO_REDIS_KEY])
        self._user_per_dag = is_template(self.settings.db_user)
        self._fallbacks = Fallbacks(self.settings.fallback, refusals.authoritative_refusal)
        self._broker: Broker | None = None
        self._lock = threading.Lock()
        forks.reset_in_child(self)
        load_algorithms()

    def reset_after_fork(self) -> None:
        """Called in the child of a fork, where the lock may be held by a thread that does not exist there."""
        self._lock = threading.Lock()

    def get_connection(self, conn_id: str, team_name: str | None = None) -> Any:
        """Return the Airflow Connection for `conn_id`; for what is not managed that of a fallback, or `None`.

        Raises `AirflowSecretsBackendAccessDenied` for a managed conn_id that cannot be served, so that Airflow does not go
        on to an old password elsewhere. An Airflow without that exception gets an object that raises `CannotServeError`
        when it is used.
        """
        if conn_id.startswith(refusals.EXPLAIN_PREFIX):
            return self._get_connection_or_refusal(conn_id, team_name)
        # Airflow asks for every conn_id there is, so what the pattern rules out must cost next to nothing.
        if self.settings.matches(conn_id):
            try:
                fields = self._fields(conn_id, team_name)
            except CannotServeError as error:
                if refusals.refusals_are_lost():
                    log.error("%s", error)
                return refusals.refuse(conn_id, str(error))
            if fields is not None:
                return self._connection(fields, team_name)
        connection_class = getattr(self, "_connection_class", None)
        return self._fallbacks.get_connection(conn_id, team_name, connection_class) if self.settings.fallback else None

    async def aget_connection(self, conn_id: str, team_name: str | None = None) -> Any:
        """Return and raise as `get_connection`, for Airflow's triggers: a lookup that needs I/O runs off the event loop.

        The Connection never renews itself: reading an attribute must not keep an event loop waiting for AWS.
        """
        if not self.settings.fallback and (
            not self.settings.matches(conn_id) or self._is_in_memory(conn_id, team_name)
        ):
            return renewing_connection.without_renewal(self.get_connection(conn_id, team_name))
        import asyncio  # most processes never come here

        return renewing_connection.without_renewal(await asyncio.to_thread(self.get_connection, conn_id, team_name))

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str | None:
        """Return the connection as JSON, for callers that do not want the object; raises as `get_connection`."""
        found = self.get_connection(conn_id, team_name)
        return None if found is None else connection.to_json(found)

    def get_variable(self, key: str, team_name: str | None = None) -> str | None:
        """Return what a fallback has: this backend manages no variables."""
        return self._fallbacks.get_variable(key, team_name) if self.settings.fallback else None

    def get_config(self, key: str) -> str | None:
        """Return what a fallback has: this backend manages no configuration."""
        return self._fallbacks.get_config(key) if self.settings.fallback else None

    @property
    def broker(self) -> Broker:
        """The broker that answers the lookups, created at the first one."""
        if self._broker is not None:  # nearly always, and without a lock
            return self._broker
        with self._lock:
            if self._broker is None:
                key = wiring.broker_key(self.settings)
                self._broker = wiring.get_or_create_broker(key, functools.partial(self._create_broker, key))
            return self._broker

    def _create_broker(self, key: str) -> Broker:
        # Forks wait for imports, which a child must not find half done. They do not wait for an option whose value comes
        # from a command or another backend.
        with forks.no_fork_here:
            configuration.conf()
        airflow_keys = configuration.fernet_keys()
        airflow_cache_ttl_seconds = configuration.airflow_cache_ttl_seconds()
        with forks.no_fork_here:
            # Once the environment names another caller, this broker is no longer shared with new backends.
            aws = wiring.LazyAwsClient(self.settings, changed=functools.partial(wiring.forget_broker, key))
            return wiring.create_broker(
                self.settings,
                wiring.create_stores(self.settings, aws, airflow_keys=airflow_keys),
                mask=mask_password,
                aws=aws,
                airflow_cache_ttl_seconds=airflow_cache_ttl_seconds,
                metrics=metrics(),
            )

    def _fields(self, conn_id: str, team_name: str | None) -> ConnectionFields | None:
        try:
            return self.broker.connection(conn_id, team_name, self._task(team_name))
        except CannotServeError:
            raise
        except Exception as error:
            self._report_unusable(conn_id, error)
            return None

    def _report_unusable(self, conn_id: str, error: Exception) -> None:
        """Log that nothing can be looked up at all; what the site's own pattern matches must not be found elsewhere."""
        message = str(error) if isinstance(error, RedshiftSecretsError) else f"an unexpected {type(error).__name__}"
        log.error("redshift-secrets cannot look anything up: %s", message)
        if self.settings.connections_lookup_pattern is not None:
            raise CannotServeError(f"connection {conn_id!r} cannot be looked up: {message}") from None

    def _get_connection_or_refusal(self, explained_id: str, team_name: str | None) -> Any:
        """Answer a worker's `ServerSideBackend`, which wants the reason of a refusal and not an error."""
        conn_id = explained_id.removeprefix(refusals.EXPLAIN_PREFIX)
        if not self.settings.matches(conn_id):
            return None
        try:
            fields = self._fields(conn_id, team_name)
        except CannotServeError as error:
            log.error("%s", error)
            return refusals.to_connection(explained_id, str(error), self._current_connection_class())
        return None if fields is None else self._connection(replace(fields, conn_id=explained_id), team_name)

    def _connection(self, fields: ConnectionFields, team_name: str | None) -> Any:
        connection_class = self._current_connection_class()
        built = connection.build(fields, connection_class, os.environ)
        if fields.valid_until is not None and renewing_connection.can_renew(connection_class):
            refresh = functools.partial(self._refresh_fields, fields.conn_id, team_name)
            renewing_connection.attach(built, Renewal(refresh, self.broker.now, fields.valid_until))
        return built

    def _refresh_fields(self, conn_id: str, team_name: str | None) -> ConnectionFields:
        """Return the fields for a Connection that renews itself; raises what a lookup would."""
        try:
            fields = self._fields(conn_id, team_name)
            if fields is None:
                raise CannotServeError(
                    f"connection {conn_id!r} cannot be renewed: no warehouse claims it any more. Put its tag back, or"
                    " look it up again in the task"
                )
        except CannotServeError as error:
            raise refusals.final_refusal(str(error)) or error from None
        return fields

    def _is_in_memory(self, conn_id: str, team_name: str | None) -> bool:
        if self._broker is None:
            with suppress(Exception):  # the lookup off the loop meets it too, and refuses as it should
                self._broker = wiring.existing_broker(wiring.broker_key(self.settings))
        return self._broker is not None and self._broker.is_in_memory(conn_id, team_name, self._task(team_name))

    def _task(self, team_name: str | None) -> TaskContext | None:
        # The environment is only read where it matters: it costs more than all the rest of a lookup in memory.
        return task_context(os.environ, team_name) if self._user_per_dag else None

    def _current_connection_class(self) -> Any:
        # Airflow 3.2 and newer set the class that fits the process, task or server.
        return getattr(self, "_connection_class", None) or connection.server_connection_class()
