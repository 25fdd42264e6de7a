"""For workers that leave resolving to the API server: a secrets backend that tells why the server refuses.

Through the Execution API alone a task learns that it was denied, or that nothing was found, and never the reason.
https://airflow.apache.org/docs/task-sdk/stable/index.html
"""

from __future__ import annotations

from typing import Any

from airflow.secrets.environment_variables import EnvironmentVariablesBackend

from redshift_secrets.airflow import refusals
from redshift_secrets.errors import SettingsError
from redshift_secrets.settings import values


class ServerSideBackend(EnvironmentVariablesBackend):
    """Looks into the environment, as Airflow does, and then asks the API server, whose refusal it raises as it is.

        [workers]
        secrets_backend = redshift_secrets.server_side.ServerSideBackend

    It needs no AWS rights and no other setting. With `connections_lookup_pattern`, as of the server, all other conn_ids
    are left to Airflow and cost no further call of the API server; without it, one for each that is not ours.
    Raises `SettingsError` for a pattern that is none.
    """

    def __init__(self, connections_lookup_pattern: str | None = None) -> None:
        super().__init__()
        try:
            self._pattern = None if connections_lookup_pattern is None else values.pattern(connections_lookup_pattern)
        except ValueError as error:
            raise SettingsError([f"connections_lookup_pattern {error}"]) from None

    def get_connection(self, conn_id: str, team_name: str | None = None) -> Any:
        """Return the Connection, or `None` where Airflow is to go on.

        Raises `AirflowSecretsBackendAccessDenied` for what the server refuses; where Airflow has no such thing, what is
        returned raises `CannotServeError` as soon as it is used.
        """
        # A task knows no team; the server does.
        found = super().get_connection(conn_id)
        if found is not None or (self._pattern is not None and not self._pattern.match(conn_id)):
            return found
        answer = _ask(refusals.EXPLAIN_PREFIX + conn_id)
        if answer is None:
            return None
        refusal = refusals.of_connection(answer.conn_type, answer.extra)
        if refusal is not None:
            return refusals.refused(conn_id, refusal)
        from airflow.sdk import Connection

        names = ("conn_type", "host", "schema", "login", "password", "port", "extra")
        return Connection(conn_id=conn_id, **{name: value for name, value in _fields(answer).items() if name in names})


def _ask(conn_id: str) -> Any:
    """Return what the supervisor of this task answers, `None` where there is none or nothing was found."""
    try:
        from airflow.sdk.execution_time import task_runner
        from airflow.sdk.execution_time.comms import ErrorResponse, GetConnection

        comms = getattr(task_runner, "SUPERVISOR_COMMS", None)
        answer = None if comms is None else comms.send(GetConnection(conn_id=conn_id))
    except Exception:
        return None  # Airflow asks the server again for the conn_id itself, and tells what is wrong with that
    return None if isinstance(answer, ErrorResponse) else answer


def _fields(answer: Any) -> dict[str, Any]:
    fields: dict[str, Any] = answer.model_dump(by_alias=True)
    return fields
