"""Real processes that look up as tasks do: forked, started, killed or suspended when a test says so."""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.airflow.connection import server_connection_class
from redshift_secrets.local.stand_in import StandIn
from tests.e2e.conftest import MINT
from tests.e2e.patience import PATIENCE_SECONDS
from tests.support.helpers import forget_memory
from tests.support.host_store import HOST_STORE
from tests.support.redis_servers import KEY

BOUND = 300.0
"""Seconds until a child that hangs fails the test."""

# Loaded here, as in a process that forks tasks, so that no child has to do it again.
for _module in ("redis", "redshift_secrets.aws.client"):
    importlib.import_module(_module)
server_connection_class()(conn_id="the-first-one-is-slow")

SETTINGS: dict[str, Any] = {"regions": ["eu-west-1", "us-east-1"], "aws_timeout_seconds": PATIENCE_SECONDS}


class Process:
    """A forked child, like a task of the LocalExecutor, that makes one call once `begin` is called."""

    def __init__(self, call: Callable[[], Any], environment: dict[str, str] | None = None) -> None:
        start_reader, self._start = os.pipe()
        self._outcome, outcome_writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.environ.update(environment or {})
            os.close(self._start)
            os.read(start_reader, 1)
            try:
                outcome = call()
            except BaseException as error:
                outcome = f"{type(error).__name__}: {error}"
            os.write(outcome_writer, pickle.dumps(outcome))
            os._exit(0)
        os.close(start_reader)
        os.close(outcome_writer)

    def begin(self) -> None:
        """Start the call."""
        # A byte, since processes that are forked later have the end of the pipe, too.
        os.write(self._start, b"!")
        os.close(self._start)

    def outcome(self) -> Any:
        """Return what the call returned, or its error as text; `None` for a process that was killed."""
        ready, _, _ = select.select([self._outcome], [], [], BOUND)
        assert ready, "the child hangs"
        content = os.read(self._outcome, 65536)
        os.close(self._outcome)
        os.waitpid(self.pid, 0)
        return pickle.loads(content) if content else None

    def kill(self) -> None:
        """Kill the process as the OOM killer does."""
        os.kill(self.pid, signal.SIGKILL)


def look_up(conn_id: str = "analytics", **changes: Any) -> Any:
    """Look up as a new task does, with a new backend and nothing in memory; return user and password."""
    forget_memory()
    connection = RedshiftSecretsBackend(**{**SETTINGS, **changes}).get_connection(conn_id)
    return None if connection is None else (connection.login, connection.password)


def all_at_once(processes: list[Process]) -> list[Any]:
    """Start all processes and return their outcomes."""
    for process in processes:
        process.begin()
    return [process.outcome() for process in processes]


def access_key(stand_in: StandIn, user: str) -> dict[str, str]:
    """Return the environment of a process that calls AWS as an IAM user."""
    key_id, secret, _ = stand_in.aws.add_access_key(f"arn:aws:iam::123456789012:user/{user}")
    return {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret}


def host(folder: Path, name: str) -> dict[str, str]:
    """Return the environment of a process on a host of this name, which is a host store of its own."""
    return {HOST_STORE: str(folder / name)}


def fleet(redis: str) -> dict[str, str]:
    """Return the setting `cache` for a fleet that shares the Redis with this URL."""
    return {"redis_url": redis, "key": KEY}


def wait_for_mint(stand_in: StandIn) -> None:
    """Return when AWS has received a request to mint."""
    end = BOUND / 0.01
    while MINT not in stand_in.aws.calls.by_operation():
        assert (end := end - 1) > 0, "no process mints"
        select.select([], [], [], 0.01)


def with_log(call: Callable[[], Any]) -> tuple[Any, list[str]]:
    """Make the call; return its result (or its error as text), and what this package logged from level warning on."""
    messages: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Handler(logging.WARNING)
    logging.getLogger("redshift_secrets").addHandler(handler)
    try:
        outcome = call()
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
    finally:
        logging.getLogger("redshift_secrets").removeHandler(handler)
    return outcome, messages
