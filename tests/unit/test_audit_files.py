"""`redshift-secrets audit`: what it makes of the files of an audit, whatever became of them."""

from __future__ import annotations

import gzip
import json
import os
import pwd
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redshift_secrets.airflow.audit import to_line
from redshift_secrets.operations.audit import COLUMNS, read_audit, read_time
from redshift_secrets.operations.site import site_audit
from redshift_secrets.settings import Settings

ARN = "arn:aws:redshift:eu-west-1:123456789012:cluster:prod"
SERVED = {
    "event": "served",
    "conn_id": "analytics",
    "warehouse": ARN,
    "user": "IAM:etl",
    "caller": "arn:aws:iam::1:role/x",
    "tier": "process",
    "dag_id": "sales",
    "task_id": "load",
    "run_id": "run1",
}


def line(second: int = 0, **event: object) -> bytes:
    return to_line({"when": f"2026-11-25T21:00:{second:02}.000000Z", **event})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def rows(path: Path, *names: str, **filters: object) -> list[tuple[str, ...]]:
    report = read_audit([path], **filters)  # type: ignore[arg-type]
    assert report.unreadable == ()
    return [tuple(row[name] for name in names) for row in report.rows]


def test_lines_that_say_the_same_are_one_row_with_its_time_and_runs(path: Path) -> None:
    path.write_bytes(
        line(5, **SERVED)
        + line(3, **SERVED)
        + line(9, **{**SERVED, "run_id": "run2", "tier": "aws", "pid": 7})
        + line(4, **{**SERVED, "task_id": "check"})
    )
    assert rows(path, "since", "last", "times", "dag_id", "task_id", "run_id") == [
        ("2026-11-25T21:00:03Z", "2026-11-25T21:00:09Z", "3", "sales", "load", "2 runs"),
        ("2026-11-25T21:00:04Z", "2026-11-25T21:00:04Z", "1", "sales", "check", "run1"),
    ]


def test_who_used_what_as_whom_and_which_claims_changed(path: Path) -> None:
    path.write_bytes(
        line(1, **SERVED)
        + line(2, event="claim-moved", conn_id="analytics", warehouse="arn:new", before=ARN)
        + line(3, event="refused", conn_id="analytics", warehouse="arn:new", message="it is paused", repeated=4)
    )
    assert rows(path, "event", "warehouse", "user", "caller", "times", "detail") == [
        ("served", ARN, "IAM:etl", "arn:aws:iam::1:role/x", "1", ""),
        ("claim-moved", "arn:new", "", "", "1", f"before: {ARN}"),
        ("refused", "arn:new", "", "", "5", "it is paused"),
    ]


def test_filters(path: Path) -> None:
    path.write_bytes(line(1, **SERVED) + line(3, **{**SERVED, "conn_id": "reporting"}) + line(5, **SERVED))
    assert rows(path, "conn_id", "times", conn_id="analytics") == [("analytics", "2")]
    assert rows(path, "conn_id", "times", since=read_time("2026-11-25T21:00:03Z")) == [
        ("reporting", "1"),
        ("analytics", "1"),
    ]
    assert rows(path, "conn_id", since=read_time("2026-11-25T22:00:04+01:00")) == [("analytics",)]


def test_rotated_and_compressed_files_are_read_whatever_they_are_called(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("audit.jsonl", "audit.jsonl.1", "audit.jsonl.2.gz", "audit.jsonl-20261124")]
    for second, path in enumerate(paths):
        content = line(second, **SERVED)
        path.write_bytes(gzip.compress(content) if second > 1 else content)
    assert [row["times"] for row in read_audit(paths).rows] == ["4"]


def test_damaged_lines_are_counted_and_the_others_are_read(path: Path) -> None:
    whole, torn = line(1, **SERVED), line(2, **SERVED)[:80]
    wrong = b'{"when": "yesterday", "event": "served"}\n{"when": 7, "event": "served"}\n{"when": "2026-11-25", "event": 7}\n'
    wrong += b'{"when": "0001-01-01T00:00:00+14:00", "event": "served"}\n{"when": "9999-12-31T23:59-14:00", "event": "served"}\n'
    path.write_bytes(whole + torn + whole + b"\x80\x00\xff\n" + b"[" * 90_000 + b"\n" + wrong + whole + torn)
    report = read_audit([path])
    assert [row["times"] for row in report.rows] == ["3"]
    # The second line, which begins with a torn one; two that are none; the five wrong ones; the torn one at the end.
    assert report.notes == (f"{path}: 9 lines left out: damaged, or not of the audit",)


def test_lines_that_could_not_be_written_are_told(path: Path) -> None:
    path.write_bytes(
        line(1, **SERVED) + line(2, **SERVED, lost=12) + line(3, **SERVED, lost=1) + line(4, **SERVED, lost=-7)
    )
    assert read_audit([path]).notes == ("13 lines could not be written, as later lines of the same processes say",)


def test_numbers_that_no_audit_has_written_count_nothing(path: Path) -> None:
    counts = b"9" * 4300, b"-5", b"true", b'"7"', b"1e5"
    lines = [line(1, **SERVED)[:-2] + b', "repeated": %b, "lost": %b}\n' % (count, count) for count in counts]
    path.write_bytes(b"".join(lines * 2))
    assert rows(path, "times") == [("10",)]
    assert read_audit([path]).notes == ()


def test_a_line_that_begins_again_and_again_is_read_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, decode = [], json.JSONDecoder.raw_decode

    def raw_decode(decoder: json.JSONDecoder, text: str, at: int = 0) -> object:
        read.append(len(text) - at)
        return decode(decoder, text, at)

    monkeypatch.setattr(json.JSONDecoder, "raw_decode", raw_decode)
    path.write_bytes(b'{"when":' * 1000 + line(1, **SERVED))
    assert rows(path, "event", "times") == [("served", "1")]
    assert sum(read) == path.stat().st_size


def test_lines_are_found_in_airflows_logs(path: Path) -> None:
    text = line(1, **SERVED).decode().rstrip()
    task_log = json.dumps({"timestamp": "2026-11-25T21:00:01Z", "event": text, "level": "info"})
    path.write_text(f"[2026-11-25T21:00:01] INFO - {text}\n{task_log}\nanother line\n", encoding="utf-8")
    assert rows(path, "event", "times") == [("served", "2")]


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "compressed"])
def test_a_pipe_is_read_as_a_file_is(path: Path, pack: Callable[[bytes], bytes]) -> None:
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(pack(line(1, **SERVED)),))
    writer.start()
    assert rows(path, "event", "dag_id") == [("served", "sales")]
    writer.join(30)


def test_a_file_that_cannot_be_read_and_one_that_breaks_off_are_told(tmp_path: Path, path: Path) -> None:
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(line(1, **SERVED) * 100)[:-20])
    path.write_bytes(line(1, **SERVED))
    report = read_audit([path, tmp_path / "missing", broken])
    assert int(report.rows[0]["times"]) >= 1
    first, second = report.unreadable
    assert first == f"{tmp_path / 'missing'} could not be read: No such file or directory"
    assert second.startswith(f"{broken} could not be read to its end: ")


def test_what_a_terminal_would_obey_is_not_printed(path: Path) -> None:
    path.write_bytes(line(1, **{**SERVED, "dag_id": "\x1b[2Jsales\n\u202e", "user": ["a", {"b": None}]}))
    ((dag_id, user),) = rows(path, "dag_id", "user")
    assert dag_id.isprintable()
    assert user == "['a', {'b': None}]"


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_no_content_is_fatal_and_a_whole_line_among_it_is_found(before: bytes, after: bytes) -> None:
    path = Path(os.environ["AIRFLOW_HOME"]) / "any.jsonl"
    path.write_bytes(b"\n" + before + b"\n" + line(1, **SERVED) + after)
    report = read_audit([path])
    assert [row["times"] for row in report.rows if row["dag_id"] == "sales"] == ["1"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-25", datetime(2026, 11, 25, tzinfo=timezone.utc)),
        ("2026-11-25T21:00:00.123456Z", datetime(2026, 11, 25, 21, 0, 0, 123456, tzinfo=timezone.utc)),
        ("2026-11-25 22:00+01:00", datetime(2026, 11, 25, 21, tzinfo=timezone.utc)),
    ],
)
def test_times(text: str, moment: datetime) -> None:
    assert read_time(text) == moment


def test_who_asked_makes_a_row_of_its_own(path: Path) -> None:
    flushed = {"event": "flushed", "message": "host: cleared all entries"}
    path.write_bytes(line(1, **flushed, requested_by="ann") + line(2, **flushed, requested_by="bob"))
    assert rows(path, "times", "requested_by") == [("1", "ann"), ("1", "bob")]


def test_with_a_command_it_is_the_os_user(path: Path) -> None:
    audit = site_audit(Settings(regions=("eu-west-1",), audit=str(path)))
    assert audit is not None
    audit.flushed(None, ("host: cleared all entries",))
    assert rows(path, "event", "requested_by") == [("flushed", pwd.getpwuid(os.getuid()).pw_name)]


def command(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    # Neither an Airflow home nor AWS.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS_"))}
    main = "import sys; from redshift_secrets.cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", main, "audit", *arguments],
        env={**environment, "AIRFLOW_HOME": "/nonexistent"},
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_needs_nothing_but_the_files(path: Path) -> None:
    path.write_bytes(line(1, **SERVED) + b"damaged\n" + line(2, **{**SERVED, "conn_id": "reporting"}))
    done = command(str(path), "--conn-id", "analytics", "--since", "2026-11-25", "-o", "json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert list(row) == list(COLUMNS)
    assert (row["dag_id"], row["user"], row["since"]) == ("sales", "IAM:etl", "2026-11-25T21:00:01Z")
    assert done.stderr == f"{path}: 1 line left out: damaged, or not of the audit\n"


def test_standard_input_is_a_file_and_names_of_files_are_printed_on_one_line(path: Path) -> None:
    done = command("-", f"{path}\x1b[2J\n", "-o", "json", given=line(1, **SERVED).decode())
    assert [row["dag_id"] for row in json.loads(done.stdout)] == ["sales"]
    assert done.stderr.removesuffix("\n").isprintable()
    assert (done.returncode, done.stderr.count("could not be read")) == (4, 1)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("{path}", "{path}.1"), 4, "could not be read: No such file or directory"),
        (("{path}.1",), 2, "could not be read: No such file or directory"),
        (("{path}", "--since", "monday"), 2, "--since must be a date or a time in ISO 8601"),
        (("{path}", "--since", "0001-01-01T00:00+14:00"), 2, "--since must be a date or a time in ISO 8601"),
        ((), 2, "Missing argument"),
    ],
)
def test_exit_codes(path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    path.write_bytes(line(1, **SERVED))
    done = command(*(each.format(path=path) for each in arguments))
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert said in done.stderr
