"""What the files of an audit say: who used which warehouse as whom, and which claims changed."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

from msgspec import Struct

from redshift_secrets.errors import one_line

COLUMNS = (
    "since", "last", "times", "event", "conn_id", "warehouse", "user", "caller", "dag_id", "task_id", "run_id", "team",
    "requested_by", "detail",
)  # fmt: skip

_SAME = (
    "event", "conn_id", "warehouse", "user", "caller", "dag_id", "task_id", "team", "requested_by", "before", "message",
)  # fmt: skip
"""Lines that are equal in these make one row."""
_BEGIN = '{"when":'
_GZIP = b"\x1f\x8b"
_LONGEST_LINE, _LONGEST_CELL = 100_000, 500
_LARGEST_COUNT = 10**9


class AuditReport(Struct, frozen=True):
    """A row for all lines that say the same, oldest first, remarks, and the files that could not be read, with the reasons."""

    rows: tuple[dict[str, str], ...]
    notes: tuple[str, ...]
    unreadable: tuple[str, ...]


_Event = tuple[datetime, Mapping[str, Any]]


class _Row:
    def __init__(self, when: datetime, event: Mapping[str, Any]) -> None:
        self.event = event
        self.since = self.last = when
        self.times = 0
        self.runs: set[str] = set()

    def add(self, when: datetime, event: Mapping[str, Any]) -> None:
        self.since, self.last = min(self.since, when), max(self.last, when)
        self.times += 1 + _count(event.get("repeated"))
        if event.get("run_id"):
            self.runs.add(_text(event["run_id"]))

    def cells(self) -> dict[str, str]:
        event = self.event
        detail = _text(event.get("message"))
        if event.get("before"):
            detail = f"before: {_text(event['before'])}"
        runs = self.runs if len(self.runs) < 2 else {f"{len(self.runs)} runs"}
        own = {"since": _utc(self.since), "last": _utc(self.last), "times": str(self.times)}
        own |= {"run_id": "".join(runs), "detail": detail}
        return {column: own.get(column) or _text(event.get(column)) for column in COLUMNS}


def read_audit(paths: Sequence[Path], conn_id: str | None = None, since: datetime | None = None) -> AuditReport:
    """Return what these files say of one conn_id, or of all, since a moment, or ever.

    Rotated files may be among them, compressed by gzip or not, and Airflow's logs, whose other lines are left out.
    """
    rows: dict[tuple[str, ...], _Row] = {}
    notes: list[str] = []
    unreadable: list[str] = []
    lost = 0
    for path in paths:
        left_out = 0
        try:
            for line in _lines(path):
                events, is_whole = _events(line)
                left_out += not is_whole
                for when, event in events:
                    lost += _count(event.get("lost"))
                    if (conn_id is None or event.get("conn_id") == conn_id) and (since is None or when >= since):
                        key = tuple(_text(event.get(name)) for name in _SAME)
                        rows.setdefault(key, _Row(when, event)).add(when, event)
        except (OSError, EOFError, zlib.error) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            unreadable.append(f"{path} could not be read{' to its end' if path.is_file() else ''}: {why}")
        if left_out:
            notes.append(f"{path}: {_counted(left_out, 'line')} left out: damaged, or not of the audit")
    if lost:
        notes.append(f"{_counted(lost, 'line')} could not be written, as later lines of the same processes say")
    found = sorted(rows.values(), key=lambda row: row.since)
    return AuditReport(tuple(row.cells() for row in found), tuple(notes), tuple(unreadable))


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as raw:
        is_gzip = raw.peek(2)[:2] == _GZIP  # a pipe cannot go back
        file: BinaryIO = gzip.GzipFile(fileobj=raw) if is_gzip else raw  # type: ignore[assignment]  # it reads like one
        while line := file.readline(_LONGEST_LINE):
            if line.strip():
                yield line.decode("utf-8", "replace")


def _events(line: str) -> tuple[list[_Event], bool]:
    """Return the events in a line, and whether it has any and nothing of another one.

    A full disk leaves the beginning of a line before the next one, and a log has something of its own before it. In Airflow's
    task logs, the line is a text inside of JSON.
    """
    found: list[_Event] = []
    is_whole = True
    # No text in an event has this in it, as there its quotes are escaped.
    _, *begun = (line if _BEGIN in line else _message(line)).split(_BEGIN)
    for each in begun:
        try:
            event, _ = json.JSONDecoder().raw_decode(_BEGIN + each)
            when = read_time(event["when"])
            if not isinstance(event["event"], str):
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            is_whole = False
        else:
            found.append((when, event))
    return found, is_whole and bool(found)


def _message(line: str) -> str:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    texts = entry.values() if isinstance(entry, dict) else ()
    return next((text for text in texts if isinstance(text, str) and _BEGIN in text), "")


def read_time(text: str) -> datetime:
    """Return the moment of a text in ISO 8601, which is in UTC where that names no zone, in UTC; raises `ValueError`."""
    if not isinstance(text, str):
        raise ValueError("not a text")
    found = datetime.fromisoformat(text.removesuffix("Z") + ("+00:00" if text.endswith("Z") else ""))
    if found.tzinfo is None:
        return found.replace(tzinfo=timezone.utc)
    try:
        return found.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError("before the first year, or after the last") from None


def _utc(when: datetime) -> str:
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")


def _text(value: object) -> str:
    return "" if value is None else one_line(str(value), _LONGEST_CELL)


def _count(value: object) -> int:
    """Return a number that a line has, 0 for what is none that an audit has written."""
    return value if type(value) is int and 0 <= value <= _LARGEST_COUNT else 0


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
