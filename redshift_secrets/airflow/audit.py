"""The audit: who got which connection, on one line of JSON for each event. docs/security.md, "Audit", describes the lines.

Loaded only where the setting `audit` is set.
"""

from __future__ import annotations

import atexit
import functools
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from redshift_secrets.airflow import supervisor
from redshift_secrets.airflow.task_context import process_kind, task_instance
from redshift_secrets.cache import forks, get_logger
from redshift_secrets.cache.sealing import password_fingerprint
from redshift_secrets.cache.workers import Deadline, Run, Workers, queued_seconds
from redshift_secrets.errors import AwsError, CannotServeError
from redshift_secrets.lookup.listing import ClaimChange
from redshift_secrets.model import ConnectionFields, Credential, MintRequest, TaskContext, reveal

log = get_logger(__name__)
_audit_log = logging.getLogger("redshift_secrets.audit")

_LONGEST_TEXT, _LONGEST_LINE = 1000, 4000
"""Characters of one value, and bytes of a line: a pipe takes up to 4096 at once, so that lines of processes do not mix.
https://man7.org/linux/man-pages/man7/pipe.7.html"""
_PATIENCE_SECONDS, _LONGEST_WAIT_SECONDS, _LOOK_SECONDS = 0.1, 2.0, 0.01
_EXIT_SECONDS = 1.0
_MAX_PENDING = 1000
_REPEAT_SECONDS, _MAX_REPEATS = 60.0, 1000

Sink = Callable[[bytes], None]
"""Takes a whole line; raises `OSError` where it is lost."""


@functools.cache
def get_or_create_audit(target: str, key: str | None) -> AuditLog:
    """Return the audit of this process for a value of the setting `audit`: all backends and brokers of a process share one.

    `key` is the Fernet key that fingerprints of passwords are made with; without one there are none.
    """
    if target == "log":
        return AuditLog(_log_line, key)
    sink = _to_stdout if target == "stdout" else functools.partial(_append, target)
    return AuditLog(LineWriter(sink, target).write, key)


class AuditLog:
    """Implements `lookup.audit.Audit`. `write` takes each event, and neither raises nor blocks; `clock` returns seconds since
    the epoch, `monotonic` seconds on a clock that never jumps. `requested_by` is in each event."""

    def __init__(
        self,
        write: Callable[[dict[str, Any]], None],
        key: str | None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        requested_by: str | None = None,
    ) -> None:
        self._write = write
        self._key = key
        self._clock = clock
        self._monotonic = monotonic
        self._requested_by = requested_by
        self.reset_after_fork()
        forks.reset_in_child(self)

    def reset_after_fork(self) -> None:
        """Called in the child, where nothing has been refused yet."""
        self._refusals: dict[tuple[str, str], tuple[float, int]] = {}

    def requested_by(self, name: str) -> AuditLog:
        """See `lookup.audit.Audit`."""
        return AuditLog(self._write, self._key, self._clock, self._monotonic, name)

    def minted(self, conn_id: str, request: MintRequest, credential: Credential) -> None:
        """See `lookup.audit.Audit`."""
        self._record(
            "minted",
            lambda: {
                "conn_id": conn_id,
                "warehouse": request.arn,
                "user": credential.user,
                **self._credential(credential),
                "team": request.team,
            },
        )

    def served(
        self,
        fields: ConnectionFields,
        warehouse_arn: str,
        credential: Credential | None,
        tier: str,
        team_name: str | None,
    ) -> None:
        """See `lookup.audit.Audit`."""
        self._record(
            "served",
            lambda: {
                "conn_id": fields.conn_id,
                "warehouse": warehouse_arn,
                "user": fields.login,
                **(self._credential(credential) if credential is not None else {}),
                "tier": tier,
                "team": team_name,
                **_task(),
            },
        )

    def refused(self, conn_id: str, error: CannotServeError, team_name: str | None) -> None:
        """See `lookup.audit.Audit`. The same refusal is written once in a minute, with how many there were since."""

        def event() -> dict[str, Any] | None:
            message = str(error)
            # One dictionary operation at a time: of two threads that refuse the same at once, a count may get lost.
            due_at, times = self._refusals.get((conn_id, message), (float("-inf"), 0))
            if self._monotonic() < due_at:
                self._refusals[conn_id, message] = due_at, times + 1
                return None
            if len(self._refusals) >= _MAX_REPEATS:
                self._refusals.clear()
            self._refusals[conn_id, message] = self._monotonic() + _REPEAT_SECONDS, 0
            cause = error.cause if isinstance(error.cause, AwsError) else None
            return {
                "conn_id": conn_id,
                "warehouse": error.warehouse_arn,
                "caller": cause and cause.identity,
                "code": cause and cause.code,
                "request_id": cause and cause.request_id,
                "message": message,
                "repeated": times or None,
                "team": team_name,
                **_task(),
            }

        self._record("refused", event)

    def tested(
        self, conn_id: str, task: TaskContext, warehouse_arn: str | None, user: str | None, outcome: str
    ) -> None:
        """See `lookup.audit.Audit`."""
        self._record(
            "tested",
            lambda: {
                "conn_id": conn_id,
                "warehouse": warehouse_arn,
                "user": user,
                "message": outcome,
                "team": task.team,
                "dag_id": task.dag_id,
            },
        )

    def claim_changed(self, change: ClaimChange) -> None:
        """See `lookup.audit.Audit`."""
        self._record(
            f"claim-{change.kind}",
            lambda: {
                "conn_id": change.conn_id,
                "warehouse": " ".join(each.arn for each in change.gained) or None,
                "before": " ".join(each.arn for each in change.lost) or None,
            },
        )

    def flushed(self, conn_id: str | None, lines: tuple[str, ...]) -> None:
        """See `lookup.audit.Audit`."""
        self._record("flushed", lambda: {"conn_id": conn_id, "message": "; ".join(lines)})

    def _credential(self, credential: Credential) -> dict[str, Any]:
        return {
            "caller": credential.minted_by,
            "request_id": credential.request_id,
            "expires": _utc(credential.expires_at, "seconds"),
            "password": password_fingerprint(self._key, reveal(credential.password)) if self._key is not None else None,
        }

    def _record(self, name: str, facts: Callable[[], Mapping[str, Any] | None]) -> None:
        """Write an event down, with what is true of every event. Whatever goes wrong changes no answer."""
        try:
            found = facts()
            if found is None:
                return
            event = {"when": _utc(self._clock(), "microseconds"), "event": name, **found}
            event |= {"requested_by": self._requested_by}
            event |= {"host": os.uname().nodename, "pid": os.getpid(), "process": process_kind(sys.argv)}
            self._write({key: value for key, value in event.items() if value is not None})
        except Exception as error:
            # Only its kind: its text may hold anything.
            log.warning("an event of the audit (%s) is lost: an unexpected %s", name, type(error).__name__)


def _task() -> dict[str, Any]:
    with suppress(Exception):  # what a task makes of its own context does not keep its line from being written
        return task_instance(os.environ)
    return {}


class LineWriter:
    """Writes events to a `sink` that may block: in a thread, which a lookup waits for until the sink has blocked for 0.1 s.

    The wait is for processes that end with `os._exit` right after a lookup, as those of tasks do: a line that takes the usual
    20 us is there by then. Where hundreds of them start together, the thread may have to wait for a processor, which is not
    the sink's fault; that is bounded by 2 s. A sink that has blocked is waited for no more until it goes on. What cannot be
    written is lost; the next line says how much, and the log says once why. `name` is that of the sink for people.
    """

    def __init__(self, sink: Sink, name: str, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self._sink = sink
        self._name = name
        self._patience_seconds = patience_seconds
        self._workers = Workers(1)
        self.reset_after_fork()
        forks.reset_in_child(self)
        atexit.register(self.flush)

    def reset_after_fork(self) -> None:
        """Called in the child: what its parent has not written yet is its parent's."""
        self._lock = threading.Lock()
        self._pending = 0
        self._last: Run[None] | None = None
        self._blocks = False
        self._writing: int | None = None
        self._lost = 0
        self._has_warned = False

    def write(self, event: dict[str, Any]) -> None:
        """Write an event, or lose and count it."""
        run = Run(functools.partial(self._write, event))
        with self._lock:
            if self._pending >= _MAX_PENDING:
                self._lost += 1
                return
            self._pending += 1
            self._last = run
            waits = not self._blocks
        try:
            self._workers.submit(run)
        except RuntimeError:
            run()  # there is no thread to be had
        if waits and not supervisor.runs_event_loop():
            self._wait(run)
            with self._lock:
                self._blocks = not run.done

    def _wait(self, run: Run[None]) -> None:
        """Wait for a line, until the sink has blocked for as long as it may."""
        longest = Deadline(_LONGEST_WAIT_SECONDS)
        began: tuple[float, float] | None = None
        while True:
            run.wait(Deadline(_LOOK_SECONDS))
            if run.done or longest.left() == 0:
                return
            thread = self._writing
            if thread is not None:
                now = time.monotonic(), queued_seconds(thread)
                began = began or now
                if (now[0] - began[0]) - (now[1] - began[1]) >= self._patience_seconds:
                    return

    def flush(self, seconds: float = _EXIT_SECONDS) -> None:
        """Return when all lines are written, after so many seconds at the latest."""
        last = self._last
        if last is not None:
            last.wait(Deadline(seconds))

    def _write(self, event: dict[str, Any]) -> None:
        lost = self._lost
        error: Exception | None = None
        self._writing = threading.get_native_id()
        try:
            self._sink(to_line({**event, "lost": lost} if lost else event))
        except Exception as caught:  # a sink that cannot be encoded for or written to changes no answer
            error = caught
        with self._lock:
            self._pending -= 1
            self._blocks = False
            self._writing = None
            self._lost += 1 if error is not None else -lost
            warns, self._has_warned = error is not None and not self._has_warned, error is not None
        if warns:
            why = error.strerror if isinstance(error, OSError) else type(error).__name__
            log.warning(
                "the audit cannot be written to %s: %s. Lookups go on; lines that are lost are counted in the next one that can"
                " be written",
                self._name,
                why,
            )


def to_line(event: Mapping[str, Any]) -> bytes:
    """Return an event as one line of JSON in ASCII, whose texts are cut to fit into 4000 bytes."""
    longest = _LONGEST_TEXT
    while True:
        cut = {name: _cut(value, longest) if isinstance(value, str) else value for name, value in event.items()}
        line = json.dumps(cut).encode() + b"\n"
        if len(line) <= _LONGEST_LINE:
            return line
        longest //= 2


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _utc(seconds: float, precision: str) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec=precision).replace("+00:00", "Z")


def _append(path: str, line: bytes) -> None:
    """Append a line to a file with a single write, so that lines of processes do not mix.

    It is opened for each line: whatever logrotate or anybody else did to the last one, this one is where the path leads. A pipe
    without a reader is an error, and does not block.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        _write_once(descriptor, line)
    finally:
        os.close(descriptor)


def _to_stdout(line: bytes) -> None:
    # Not `sys.stdout`, which Airflow may have replaced. The output of a command of this package is its result.
    stream = sys.__stderr__ if process_kind(sys.argv) == "redshift-secrets" else sys.__stdout__
    if stream is None:
        raise OSError(0, "it is closed")
    _write_once(stream.fileno(), line)


def _write_once(descriptor: int, line: bytes) -> None:
    written = os.write(descriptor, line)
    if written < len(line):
        # The rest would come after other processes' lines. The end of the line keeps the next one whole, if there is room.
        os.write(descriptor, b"\n")
        raise OSError(0, f"only {written} of {len(line)} bytes were taken")


def _log_line(event: dict[str, Any]) -> None:
    # In the thread of the lookup, by which Airflow knows whose log it belongs to.
    _audit_log.info("%s", to_line(event).decode().rstrip())
