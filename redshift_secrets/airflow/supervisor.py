"""Asks the API server for a connection through the supervisor of this task."""

from __future__ import annotations

from typing import Any


def get_connection(conn_id: str) -> Any:
    """Return what the supervisor answers, `None` where there is no supervisor or nothing was found."""
    try:
        from airflow.sdk.execution_time import task_runner
        from airflow.sdk.execution_time.comms import ErrorResponse, GetConnection

        comms = getattr(task_runner, "SUPERVISOR_COMMS", None)
        answer = None if comms is None else comms.send(GetConnection(conn_id=conn_id))
    except Exception:
        return None  # Airflow asks the server again for the conn_id itself, and reports what is wrong with that
    return None if isinstance(answer, ErrorResponse) else answer


def to_connection(answer: Any, conn_id: str) -> Any:
    """Return the Connection of a task, under another conn_id, from what the supervisor answered."""
    from airflow.sdk import Connection

    names = ("conn_type", "host", "schema", "login", "password", "port", "extra")
    fields = answer.model_dump(by_alias=True)
    return Connection(conn_id=conn_id, **{name: value for name, value in fields.items() if name in names})
