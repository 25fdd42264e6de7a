"""What a task's process asks of its supervisor, and what it has it mask.

Airflow masks the log of a task in the supervisor, to which the process writes everything that is printed. Airflow itself tells it
the password of each Connection that is looked up, as it is; not how it looks in a URI, and not the one that follows when a
Connection renews itself.
https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/mask-sensitive-values.html
"""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

from redshift_secrets.airflow import masking
from redshift_secrets.cache import forks, get_logger
from redshift_secrets.model import reveal

log = get_logger(__name__)


class SupervisorMasker:
    """Has the supervisor of this process mask passwords, in all their forms, in the log that it writes."""

    def __init__(self) -> None:
        self._masked: set[str] = set()
        self._has_warned = False
        self._inherited: Any = None
        forks.reset_in_child(self)

    def reset_after_fork(self) -> None:
        """Leave alone a supervisor that is that of the parent: on its socket, two processes take each other's answers."""
        self._inherited = _channel()
        self._masked = set()

    def has(self, password: str | None) -> bool:
        """Whether there is nothing to do: no password, it is masked, or there is no supervisor."""
        return password is None or password in self._masked or _channel() is None

    def add(self, password: str) -> None:
        """Mask `password` for as long as this process does, from any thread; log a warning, once, where the supervisor cannot be
        told."""
        if self.has(password):
            return
        channel = _channel()
        why_not = self._why_not(channel) or _send(
            channel, masking.message(password, masking.password_masker.expires_at(password))
        )
        if why_not is None:
            self._masked.add(reveal(password))
        elif not self._has_warned:
            self._has_warned = True
            log.warning(
                "the supervisor of this task could not be told what to mask (%s): what the task prints of its passwords may be"
                " shown in its log",
                why_not,
            )

    def _why_not(self, channel: Any) -> str | None:
        """Why nothing may be sent: another process or thread would take the answer, or wait for it forever."""
        if channel is self._inherited:
            return "this process was forked by the task's"
        if not hasattr(channel, "_thread_lock"):  # before 3.2 the socket is for one thread
            return (
                None if threading.current_thread() is threading.main_thread() else "this is not the task's main thread"
            )
        if (
            not hasattr(channel, "_is_on_loop_thread") and runs_event_loop()
        ):  # 3.2 does not notice that it waits for itself
            return "this thread runs an event loop"
        return None


masker = SupervisorMasker()


def _channel() -> Any:
    """The connection of this process to its supervisor; `None` where there is none, or one that takes no messages from here: a
    triggerer's belongs to its event loop, and `airflow dags test` has the supervisor in the same process."""
    runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
    channel = getattr(runner, "SUPERVISOR_COMMS", None)
    return channel if channel is not None and type(channel).__name__ == "CommsDecoder" else None


def runs_event_loop() -> bool:
    """Whether this thread runs an event loop, which must not be kept waiting."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _send(channel: Any, message: list[Any]) -> str | None:
    """Have the supervisor mask what is in `message`; return why it does not."""
    from airflow.sdk.execution_time import comms

    # 3.3 raises it, which is no `Exception`, instead of waiting for the event loop that it runs on.
    deadlock = getattr(comms, "DeadlockImminentError", Exception)
    try:
        channel.send(comms.MaskSecret(value=message))
    except (Exception, deadlock) as error:
        return type(error).__name__
    return None


def get_connection(conn_id: str) -> Any:
    """Return what the supervisor answers, `None` where there is no supervisor or nothing was found."""
    try:
        channel, message = _to_ask(conn_id)
        return None if channel is None else _found(channel.send(message))
    except Exception:
        return None  # Airflow asks the server again for the conn_id itself, and reports what is wrong with that


async def aget_connection(conn_id: str) -> Any:
    """Return as `get_connection`, without keeping the event loop waiting for the answer."""
    try:
        channel, message = _to_ask(conn_id)
        if not hasattr(channel, "asend"):  # `airflow dags test` has the server in this process, and waits for nothing
            return get_connection(conn_id)
        return _found(await channel.asend(message))
    except Exception:
        return None


def _to_ask(conn_id: str) -> tuple[Any, Any]:
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import GetConnection

    return getattr(task_runner, "SUPERVISOR_COMMS", None), GetConnection(conn_id=conn_id)


def _found(answer: Any) -> Any:
    from airflow.sdk.execution_time.comms import ErrorResponse

    return None if isinstance(answer, ErrorResponse) else answer


def to_connection(answer: Any, conn_id: str, extra: str | None) -> Any:
    """Return the Connection of a task from what the supervisor answered, with this conn_id and `extra`."""
    from airflow.sdk import Connection

    names = ("conn_type", "host", "schema", "login", "password", "port")
    fields = {name: value for name, value in answer.model_dump(by_alias=True).items() if name in names}
    return Connection(conn_id=conn_id, extra=extra, **fields)
