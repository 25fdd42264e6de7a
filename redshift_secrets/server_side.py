"""For workers that leave resolving to the API server: a secrets backend that says why the server refuses.

Through the Execution API alone a task learns that it was denied, or that nothing was found, and never the reason.
https://airflow.apache.org/docs/task-sdk/stable/index.html
"""

from __future__ import annotations

import functools
import os
import time
from typing import Any

from airflow.secrets.environment_variables import EnvironmentVariablesBackend

from redshift_secrets.airflow import configuration, masking, refusals, renewing_connection, supervisor
from redshift_secrets.airflow.connection import add_root_certificates
from redshift_secrets.cache import get_logger
from redshift_secrets.errors import SettingsError, known_error
from redshift_secrets.settings import values

log = get_logger(__name__)

_CLASS_PATHS = frozenset({"redshift_secrets.ServerSideBackend", "redshift_secrets.server_side.ServerSideBackend"})

_LONGEST_VALIDITY_SECONDS = 3600


class ServerSideBackend(EnvironmentVariablesBackend):
    """Checks environment variables first, as Airflow does, then the API server, and raises its refusal as it is.

        [workers]
        secrets_backend = redshift_secrets.ServerSideBackend

    It needs no AWS rights and no other setting. With `connections_lookup_pattern`, all other conn_ids are left to Airflow and
    cost no further call of the API server; without it, one for each that is not managed.
    Raises `SettingsError` for a pattern that is not a regular expression.
    """

    def __init__(self, connections_lookup_pattern: str | None = None) -> None:
        super().__init__()
        problems = configuration.ignored_backend_kwargs(_CLASS_PATHS)
        try:
            self._pattern = None if connections_lookup_pattern is None else values.pattern(connections_lookup_pattern)
        except ValueError as error:
            problems.append(f"connections_lookup_pattern {error}")
        if problems:
            raise SettingsError(problems)

    def get_connection(self, conn_id: str, team_name: str | None = None) -> Any:
        """Return the Connection, or `None` where Airflow is to go on.

        Raises `AirflowSecretsBackendAccessDenied` for what the server refuses; an Airflow without that exception gets an
        object that raises `CannotServeError` when it is used.
        """
        found, question = self._in_environment(conn_id)
        if question is None:
            return found
        return _read(supervisor.get_connection(question), question, conn_id)

    async def aget_connection(self, conn_id: str, team_name: str | None = None) -> Any:
        """Return and raise as `get_connection`, for Airflow's triggers: no thread waits for the server."""
        found, question = self._in_environment(conn_id)
        if question is None:
            return found
        from redshift_secrets.cache import event_loop  # most processes never come here

        answer = await supervisor.aget_connection(question)
        # Masking may ask the supervisor once more, which is not for the event loop's thread.
        return await event_loop.look_up(functools.partial(_read, answer, question, conn_id))

    async def aget_variable(self, key: str, team_name: str | None = None) -> str | None:
        """Return what the environment has, as `get_variable`, which needs no I/O."""
        return self.get_variable(key)

    def _in_environment(self, conn_id: str) -> tuple[Any, str | None]:
        """Return the Connection of the environment, or the question that the server is to be asked; neither where Airflow is
        to go on."""
        # A task does not know its team; the server does.
        found = super().get_connection(conn_id)
        if found is not None or len(conn_id) > values.LONGEST_CONN_ID:
            return found, None
        if self._pattern is not None and not self._pattern.match(conn_id):
            return None, None
        return None, refusals.new_question(conn_id)


def _read(connection: Any, question: str, conn_id: str) -> Any:
    """Return the Connection that answers `question`; raise the refusal that it carries."""
    answer = refusals.read_answer(connection, question)
    if answer is None:
        return None
    refusal, extra = answer
    if refusal is not None:
        return refusals.refuse(conn_id, refusal)
    try:
        _mask(connection)
    except Exception as error:
        return refusals.refuse(
            conn_id,
            f"connection {conn_id!r} cannot be served: masking its password failed with {known_error(error)}",
        )
    built = supervisor.to_connection(connection, conn_id, extra)
    add_root_certificates(built, os.environ)
    renewing_connection.attach(built)
    log.info("connection %r is served by the API server: %s", conn_id, refusals.description_of_answer(connection))
    return built


def _mask(connection: Any) -> None:
    if connection.password:
        # What AWS mints, for a user with this prefix, is valid for an hour at most.
        is_minted = str(connection.login).startswith(("IAM:", "IAMA:", "IAMR:"))
        expires_at = time.time() + _LONGEST_VALIDITY_SECONDS if is_minted else float("inf")
        masking.mask_password(connection.password, expires_at)
        supervisor.masker.add(connection.password)
