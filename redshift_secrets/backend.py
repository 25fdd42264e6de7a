"""The secrets backend that Airflow constructs.

This module is imported inside `import airflow.configuration`, in every Airflow process. So it loads neither boto3 nor
Airflow's configuration, opens nothing and starts nothing. Everything that a lookup on a warm host needs is loaded here, once
for every process that is forked from this one.
https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/secrets-backend/index.html
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from airflow.secrets import BaseSecretsBackend
from msgspec.structs import replace

from redshift_secrets.airflow import configuration, connection, masking, refusals, renewing_connection, supervisor
from redshift_secrets.airflow.metrics import metrics
from redshift_secrets.cache import forks, get_logger
from redshift_secrets.cache.sealing import load_algorithms
from redshift_secrets.cache.workers import Deadline, Lookup, MustWait
from redshift_secrets.errors import NO_REDIS_KEY, CannotServeError, RedshiftSecretsError, SettingsError, known_error
from redshift_secrets.lookup import wiring
from redshift_secrets.lookup.reasons import ErrorLog
from redshift_secrets.settings import BACKEND_CLASS_PATHS, Settings
from redshift_secrets.settings.db_user import is_template

if TYPE_CHECKING:
    from redshift_secrets.airflow.fallback import Fallbacks
    from redshift_secrets.lookup.audit import Audit
    from redshift_secrets.lookup.broker import Broker
    from redshift_secrets.model import ConnectionFields, TaskContext

log = get_logger(__name__)
_errors = ErrorLog(log)
"""Of all backends without a broker."""

_MAX_WAITING = 8
"""Lookups that wait for AWS at a time in a server, whose few threads answer all other requests, too."""


class RedshiftSecretsBackend(BaseSecretsBackend):
    """Answers for every conn_id that a tag on a Redshift warehouse claims; see `Settings` for the arguments.

        [secrets]
        backend = redshift_secrets.RedshiftSecretsBackend
        backend_kwargs = {"regions": ["eu-west-1"], "db_user": "airflow_etl", "managed_conn_ids": "^(analytics|dw_)"}

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
        if self.settings.managed_conn_ids is None and configuration.is_server(sys.argv):
            configuration.warn_of_unbounded_claims()
        self._user_per_dag = is_template(self.settings.db_user)
        self._fallbacks: Fallbacks | None = None
        if self.settings.fallback:
            from redshift_secrets.airflow.fallback import Fallbacks  # few sites have any

            self._fallbacks = Fallbacks(self.settings.fallback, refusals.authoritative_refusal)
        self._broker: Broker | None = None
        # Here, so that no process that is forked from this one has to do it again.
        self._settings_key = wiring.settings_key(self.settings)
        load_algorithms()

    def get_connection(self, conn_id: str, team_name: str | None = None) -> Any:
        """Return the Airflow Connection for `conn_id`; for what is not managed that of a fallback, or `None`.

        Raises `AirflowSecretsBackendAccessDenied` for a managed conn_id that cannot be served, so that Airflow does not go
        on to an old password elsewhere. An Airflow without that exception gets an object that raises `CannotServeError`
        when it is used.
        """
        return self._get_connection(conn_id, team_name)

    def _get_connection(self, conn_id: str, team_name: str | None, lookup: Lookup | None = None) -> Any:
        """With a `lookup`, raise `MustWait` where it has to wait."""
        if conn_id.startswith(refusals.EXPLAIN_PREFIX):
            return self._answer(conn_id, team_name, lookup)
        # Airflow asks for every conn_id there is, so what the patterns rule out must cost next to nothing.
        if self.settings.looks_up(conn_id):
            try:
                found = self._look_up(conn_id, team_name, lookup)
            except CannotServeError as error:
                with contextlib.suppress(Exception):  # nobody may fall through to an old password
                    self._record_refusal(conn_id, error, team_name)
                    if refusals.refusals_are_lost():
                        self._log_error(str(error), conn_id)
                return refusals.refuse(conn_id, str(error))
            if found is not None:
                return found
        connection_class = getattr(self, "_connection_class", None)
        return self._fallbacks.get_connection(conn_id, team_name, connection_class) if self._fallbacks else None

    async def aget_connection(self, conn_id: str, team_name: str | None = None) -> Any:
        """Return and raise as `get_connection`, for Airflow's triggers: a lookup that needs I/O runs off the event loop, and
        waits for AWS without a thread. The time it may take counts from this call.

        The Connection never renews itself: reading an attribute must not keep an event loop waiting for AWS.
        """
        asked = refusals.asked_conn_id(conn_id) or conn_id
        needs_no_io = not self.settings.looks_up(asked) or self._remembers(asked, team_name)
        if needs_no_io and not self.settings.fallback:
            return renewing_connection.without_renewal(self.get_connection(conn_id, team_name))
        from redshift_secrets.cache import event_loop  # most processes never come here

        lookup = Lookup(Deadline(self.settings.aws_timeout_seconds))
        attempt = functools.partial(self._get_connection, conn_id, team_name, lookup)
        return renewing_connection.without_renewal(await event_loop.look_up(attempt))

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str | None:
        """Return the connection as JSON, for callers that do not want the object; raises as `get_connection`."""
        found = self.get_connection(conn_id, team_name)
        return None if found is None else connection.to_json(found)

    def get_variable(self, key: str, team_name: str | None = None) -> str | None:
        """Return what a fallback has: this backend manages no variables."""
        return self._fallbacks.get_variable(key, team_name) if self._fallbacks else None

    async def aget_variable(self, key: str, team_name: str | None = None) -> str | None:
        """Return as `get_variable`, for an event loop: fallbacks are asked off it, and without any there is no I/O."""
        if self._fallbacks is None:
            return None
        from redshift_secrets.cache import event_loop  # most processes never come here

        return await event_loop.look_up(functools.partial(self._fallbacks.get_variable, key, team_name))

    def get_config(self, key: str) -> str | None:
        """Return what a fallback has: this backend manages no configuration."""
        return self._fallbacks.get_config(key) if self._fallbacks else None

    def current_broker(self) -> Broker:
        """The broker of the caller that the environment names now, created at its first lookup."""
        self._broker = wiring.get_or_create_broker(self._settings_key, self._create_broker)
        return self._broker

    def reset_after_fork(self) -> None:
        """Called in the child of a server that may use the fleet store: a child need not be one."""
        self.forget()

    def forget(self) -> None:
        """Have the next lookup in this process begin with nothing in memory."""
        self._broker = None
        wiring.forget_brokers(self._settings_key)

    def _create_broker(self, caller: str) -> Broker:
        # Forks wait for imports, which a child must not find half done. They do not wait for an option whose value comes
        # from a command or another backend.
        with forks.no_fork_here:
            configuration.conf()
        self._mask_settings()
        settings = self._settings_of_process()
        airflow_keys = configuration.fernet_keys()
        airflow_cache_ttl_seconds = configuration.airflow_cache_ttl_seconds()
        audit = self._audit
        with forks.no_fork_here:
            aws = wiring.LazyAwsClient(self.settings, caller)
            return wiring.create_broker(
                self.settings,
                aws,
                wiring.create_tiers(settings, caller, aws, airflow_keys=airflow_keys),
                mask=masking.mask_password,
                airflow_cache_ttl_seconds=airflow_cache_ttl_seconds,
                metrics=metrics(),
                audit=audit,
            )

    @functools.cached_property
    def _audit(self) -> Audit | None:
        """Where the setting `audit` has events go; `None` where it is not set, or where that cannot be had."""
        if self.settings.audit is None:
            return None
        try:
            with forks.no_fork_here:
                from redshift_secrets.airflow.audit import get_or_create_audit  # only sites with an audit load it

            key = wiring.audit_key(self.settings, configuration.fernet_keys())
            return get_or_create_audit(self.settings.audit, key)
        except Exception as error:
            log.warning("there is no audit: an unexpected %s", type(error).__name__)
            return None

    def _record_refusal(self, conn_id: str, error: CannotServeError, team_name: str | None) -> None:
        if self._audit is not None:
            with contextlib.suppress(Exception):
                self._audit.refused(conn_id, error, team_name)

    def _settings_of_process(self) -> Settings:
        """Return the settings without the fleet store where that has the passwords of teams that this process may not read.

        Follows docs/contract.md, "Ages".
        """
        cache = self.settings.cache
        if cache.redis_url is None or not configuration.has_teams():
            return self.settings
        if configuration.is_api_server_or_scheduler():
            forks.reset_in_child(self)
            return self.settings
        log.error(
            "[core] multi_team is on, so this process, which is no API server or scheduler, does not use the fleet store"
            " (cache.redis_url). Take its URL and key away from here: with them, any code reads and writes the connections of every"
            " team"
        )
        return replace(self.settings, cache=replace(cache, redis_url=None))

    def _mask_settings(self) -> None:
        with contextlib.suppress(ImportError):  # each password meets it, too, and its lookup is refused
            for secret in masking.secrets_in(self.settings):
                masking.mask_password(secret)
                supervisor.masker.add(secret)

    def _fields(self, conn_id: str, team_name: str | None, lookup: Lookup | None) -> ConnectionFields | None:
        try:
            task = self._task(team_name)
            # Who the caller is costs more than an answer from memory.
            answer = self._broker.remembered(conn_id, team_name, task) if self._broker is not None else None
            if answer is not None:
                return answer.fields
            broker = self.current_broker()
            if lookup is not None:
                return broker.attempt(conn_id, team_name, task, lookup)
            return broker.answer(conn_id, team_name, task, max_waiting=_max_waiting)
        except (CannotServeError, MustWait):
            raise
        except Exception as error:
            self._report_unusable(conn_id, error)
            return None

    def _report_unusable(self, conn_id: str, error: Exception) -> None:
        """Refuse a conn_id that is known to be managed, and log for any other one that nothing can be looked up at all."""
        message = str(error) if isinstance(error, RedshiftSecretsError) else f"an unexpected {type(error).__name__}"
        if self.settings.manages(conn_id):
            raise CannotServeError(
                f"connection {conn_id!r} matches managed_conn_ids and cannot be looked up: {message}"
            ) from None
        self._log_error(f"redshift-secrets cannot look anything up: {message}", conn_id)

    def _log_error(self, line: str, conn_id: str) -> None:
        # Airflow may construct a backend for each lookup, so what is known of a process is not kept in one.
        (self._broker.errors if self._broker is not None else _errors).error(line, conn_id)

    def _answer(self, question: str, team_name: str | None, lookup: Lookup | None) -> Any:
        """Answer a worker's `ServerSideBackend`, which wants the reason of a refusal and not an error.

        Never `None`: Airflow would go on to whatever its metadata database or the environment has under this name.
        """
        conn_id, found, refusal = str(refusals.asked_conn_id(question)), None, None
        try:
            try:
                if self.settings.looks_up(conn_id):
                    found = self._look_up(conn_id, team_name, lookup, question)
            except CannotServeError as error:
                refusal = str(error)
                self._record_refusal(conn_id, error, team_name)
                self._log_error(refusal, conn_id)
            if found is not None:
                return refusals.as_answer(found, question)
            return refusals.to_connection(question, refusal, self._current_connection_class())
        except MustWait:
            raise
        except Exception as error:
            return refusals.refuse(question, f"connection {conn_id!r} cannot be looked up: {known_error(error)}")

    def _look_up(self, conn_id: str, team_name: str | None, lookup: Lookup | None, question: str | None = None) -> Any:
        """Return the Connection, as the answer to `question` if that is given, or `None` for what is not managed."""
        fields = self._fields(conn_id, team_name, lookup)
        if fields is None:
            return None
        try:
            if question is not None:
                fields = refusals.mark(fields, question)
            return self._connection(fields, team_name)
        except Exception as error:
            # Whatever it is, nobody may fall through to an old password.
            raise CannotServeError(
                f"connection {conn_id!r} cannot be served: building it failed with {known_error(error)}"
            ) from None

    def _connection(self, fields: ConnectionFields, team_name: str | None) -> Any:
        built = connection.build(fields, self._current_connection_class(), os.environ, for_others=refusals.serves_http)
        refresh = functools.partial(self._refresh_fields, fields.conn_id, team_name)
        renewing_connection.attach(built, refresh, time.time, fields.valid_until)
        _mask_in_supervisor(fields)
        return built

    def _refresh_fields(self, conn_id: str, team_name: str | None) -> ConnectionFields:
        """Return the fields for a Connection that renews itself; raises what a lookup would."""
        try:
            fields = self._fields(conn_id, team_name, None)
            if fields is None:
                raise CannotServeError(
                    f"connection {conn_id!r} cannot be renewed: no warehouse claims it any more. Put its tag back, or"
                    " look it up again in the task"
                )
            _mask_in_supervisor(fields)
        except CannotServeError as error:
            self._record_refusal(conn_id, error, team_name)
            raise refusals.final_refusal(str(error)) or error from None
        return fields

    def _remembers(self, conn_id: str, team_name: str | None) -> bool:
        with contextlib.suppress(Exception):  # the lookup meets it, too, and answers for it
            if self._broker is None:
                self._broker = wiring.existing_broker(self._settings_key)
            if self._broker is not None:
                answer = self._broker.peek_without_io(conn_id, team_name, self._task(team_name))
                return answer is not None and (answer.fields is None or supervisor.masker.has(answer.fields.password))
        return False

    def _task(self, team_name: str | None) -> TaskContext | None:
        # The environment is only read where it matters: it costs more than all the rest of a lookup in memory.
        if not self._user_per_dag:
            return None
        with forks.no_fork_here:
            from redshift_secrets.airflow.task_context import task_context  # few sites have a user for each DAG

        return task_context(os.environ, team_name)

    def _current_connection_class(self) -> Any:
        # Airflow 3.2 and newer set the class that fits the process, task or server.
        return getattr(self, "_connection_class", None) or connection.server_connection_class()


def _mask_in_supervisor(fields: ConnectionFields) -> None:
    # Only what is handed out, in the thread that gets it: of the rest, nothing can be printed.
    if fields.password is not None:
        supervisor.masker.add(fields.password)


def _max_waiting() -> int | None:
    return _MAX_WAITING if refusals.serves_http() else None
