"""How lines of an audit are written: by many processes, to what blocks, and to what is full."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from unittest import mock

import pytest

from redshift_secrets.airflow import audit as airflow_audit
from redshift_secrets.airflow.audit import LineWriter, get_or_create_audit
from tests.support.helpers import BOUND, all_refreshes_done, in_child, package_threads


def file_writer(path, patience_seconds=BOUND):
    return LineWriter(lambda line: airflow_audit._append(str(path), line), str(path), patience_seconds)


def events(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


class Blocking:
    """A sink that blocks while `gate` is not set."""

    def __init__(self):
        self.gate, self.entered = threading.Event(), threading.Event()
        self.lines: list[dict[str, object]] = []

    def __call__(self, line):
        self.entered.set()
        assert self.gate.wait(BOUND)
        self.lines.append(json.loads(line))


class TestFile:
    def test_only_the_os_user_can_read_a_file_that_is_created(self, path):
        old = os.umask(0)
        try:
            file_writer(path).write({"n": 1})
        finally:
            os.umask(old)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_the_mode_of_a_file_that_is_there_stays(self, path):
        path.touch(0o640)
        path.chmod(0o640)
        file_writer(path).write({"n": 1})
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert events(path) == [{"n": 1}]

    def test_after_a_rotation_lines_go_to_the_new_file(self, path, tmp_path):
        writer = file_writer(path)
        writer.write({"n": 1})
        path.rename(tmp_path / "audit.jsonl.1")
        writer.write({"n": 2})
        assert events(tmp_path / "audit.jsonl.1") == [{"n": 1}]
        assert events(path) == [{"n": 2}]

    def test_after_a_copy_that_truncates_no_hole_is_left(self, path):
        writer = file_writer(path)
        writer.write({"n": 1})
        os.truncate(path, 0)
        writer.write({"n": 2})
        assert path.read_bytes() == b'{"n": 2}\n'

    def test_nothing_stays_open(self, path):
        before = os.listdir("/proc/self/fd")
        file_writer(path).write({"n": 1})
        assert os.listdir("/proc/self/fd") == before

    def test_lines_of_forty_processes_do_not_mix(self, path):
        def child(number):
            writer = file_writer(path)
            for line in range(25):
                writer.write({"process": number, "line": line, "filler": "x" * 100 * (line % 30)})

        children = []
        for number in range(40):
            pid = os.fork()
            if pid == 0:
                try:
                    child(number)
                finally:
                    os._exit(0)
            children.append(pid)
        for pid in children:
            os.waitpid(pid, 0)
        found = events(path)
        assert Counter(event["process"] for event in found) == dict.fromkeys(range(40), 25)
        for number in range(40):
            assert [event["line"] for event in found if event["process"] == number] == list(range(25))


@pytest.mark.attempt("lose lines of the audit without a count")
class TestWhatCannotBeWritten:
    def test_a_full_disk_is_counted_told_in_the_next_line_and_logged_once(self, path, caplog):
        path.symlink_to("/dev/full")
        writer = file_writer(path)
        for number in range(3):
            writer.write({"n": number})
        path.unlink()
        writer.write({"n": 3})
        writer.write({"n": 4})
        assert events(path) == [{"n": 3, "lost": 3}, {"n": 4}]
        assert caplog.messages == [
            f"the audit cannot be written to {path}: No space left on device. Lookups go on; lines that are lost are counted in"
            " the next one that can be written"
        ]

    def test_a_line_that_a_full_disk_cuts_is_lost_and_ends_there(self, path):
        def cut(descriptor, line):
            return real(descriptor, line[:5] if line.startswith(b'{"n": 1') else line)

        writer, real = file_writer(path), os.write
        with mock.patch("os.write", cut):
            for number in (0, 1, 2):
                writer.write({"n": number})
        assert path.read_bytes() == b'{"n": 0}\n{"n":\n{"n": 2, "lost": 1}\n'

    @pytest.mark.parametrize("place", ["missing/audit.jsonl", "."])
    def test_a_place_that_cannot_be_a_file_is_logged(self, tmp_path, caplog, place):
        writer = file_writer(tmp_path / place)
        writer.write({"n": 1})
        assert len(caplog.messages) == 1
        assert str(tmp_path / place) in caplog.messages[0]

    def test_a_pipe_without_a_reader_holds_nobody_up_and_one_with_a_reader_gets_whole_lines(self, path):
        os.mkfifo(path)
        writer = file_writer(path)
        writer.write({"n": 1})
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            writer.write({"n": 2})
            assert os.read(reader, 4096) == b'{"n": 2, "lost": 1}\n'
        finally:
            os.close(reader)

    def test_a_standard_output_that_is_closed_changes_nothing(self, caplog, monkeypatch):
        monkeypatch.setattr("sys.__stdout__", None)
        LineWriter(airflow_audit._to_stdout, "stdout").write({"n": 1})
        assert "stdout: it is closed" in caplog.messages[0]

    def test_what_is_not_json_is_lost_and_counted(self, path):
        writer = file_writer(path)
        writer.write({"n": object()})
        writer.write({"n": 1})
        assert events(path) == [{"n": 1, "lost": 1}]

    def test_without_a_thread_the_line_is_written_all_the_same(self, path):
        with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")):
            file_writer(path).write({"n": 1})
        assert events(path) == [{"n": 1}]


class TestASinkThatBlocks:
    def test_one_lookup_waits_as_long_as_it_may_and_the_others_not_at_all(self, monkeypatch):
        monkeypatch.setattr(airflow_audit, "_LONGEST_WAIT_SECONDS", 10 * BOUND)
        sink = Blocking()
        writer = LineWriter(sink, "a sink", patience_seconds=0.0)
        writer.write({"n": 0})
        assert sink.entered.wait(BOUND)
        writer._patience_seconds = 10 * BOUND  # whoever waits now hangs
        began = time.monotonic()
        for number in range(1, 5):
            writer.write({"n": number})
        assert time.monotonic() - began < BOUND
        sink.gate.set()
        writer.flush(BOUND)
        assert sink.lines == [{"n": number} for number in range(5)]
        writer.write({"n": 5})  # waited for again
        assert sink.lines[-1] == {"n": 5}

    def test_time_without_a_processor_is_not_the_sinks(self, monkeypatch):
        monkeypatch.setattr(airflow_audit, "queued_seconds", lambda _thread: time.monotonic())
        sink = Blocking()
        writer = LineWriter(sink, "a sink", patience_seconds=0.001)
        threading.Timer(0.05, sink.gate.set).start()
        writer.write({"n": 0})
        assert sink.lines == [{"n": 0}]

    def test_no_lookup_waits_for_longer_than_its_bound(self, monkeypatch):
        monkeypatch.setattr(airflow_audit, "_LONGEST_WAIT_SECONDS", 0.02)
        sink = Blocking()
        writer = LineWriter(sink, "a sink", patience_seconds=10 * BOUND)
        writer.write({"n": 0})
        assert writer._pending == 1
        sink.gate.set()

    def test_no_more_lines_are_kept_than_its_bound_and_the_rest_is_counted(self, monkeypatch):
        monkeypatch.setattr(airflow_audit, "_MAX_PENDING", 3)
        sink = Blocking()
        writer = LineWriter(sink, "a sink", patience_seconds=0.0)
        for number in range(10):
            writer.write({"n": number})
        sink.gate.set()
        writer.flush(BOUND)
        assert [line["n"] for line in sink.lines] == [0, 1, 2]
        assert sum(int(str(line.get("lost", 0))) for line in sink.lines) <= 7
        writer._patience_seconds = BOUND
        writer.write({"n": 10})
        assert sum(int(str(line.get("lost", 0))) for line in sink.lines) == 7

    def test_an_event_loop_is_never_kept_waiting(self, monkeypatch):
        monkeypatch.setattr(airflow_audit, "_LONGEST_WAIT_SECONDS", 10 * BOUND)
        sink = Blocking()
        writer = LineWriter(sink, "a sink", patience_seconds=10 * BOUND)

        async def look_up():
            writer.write({"n": 0})

        asyncio.run(look_up())
        sink.gate.set()
        writer.flush(BOUND)
        assert sink.lines == [{"n": 0}]

    def test_the_end_of_a_process_waits_no_longer_than_it_may(self):
        sink = Blocking()
        writer = LineWriter(sink, "a sink", patience_seconds=0.0)
        writer.write({"n": 0})
        writer.flush(0.01)
        assert sink.lines == []
        sink.gate.set()


class TestForks:
    def test_a_child_writes_its_own_lines_and_not_those_of_its_parent(self, path):
        sink = Blocking()
        writer = LineWriter(sink, "a sink", patience_seconds=0.0)
        writer.write({"n": "parent"})
        assert sink.entered.wait(BOUND)

        def child():
            sink.gate.set()
            writer._patience_seconds = BOUND
            writer.write({"n": "child"})
            return sink.lines

        assert in_child(child) == [{"n": "child"}]
        sink.gate.set()
        writer.flush(BOUND)
        assert sink.lines == [{"n": "parent"}]

    def test_a_line_is_there_although_the_process_ends_at_once(self, path):
        writer = file_writer(path)
        for number in range(20):
            pid = os.fork()
            if pid == 0:
                writer.write({"n": number})
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(pid, 0)
        assert [event["n"] for event in events(path)] == list(range(20))

    def test_no_thread_stays(self, path):
        file_writer(path).write({"n": 1})
        all_refreshes_done()
        assert package_threads() == []


def test_standard_output_is_that_of_the_process_and_standard_error_that_of_our_own_command(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import io, sys
        from redshift_secrets.airflow.audit import get_or_create_audit
        sys.argv = sys.argv[1:]
        sys.stdout = io.StringIO()  # as Airflow 2 replaces it in a task
        get_or_create_audit("stdout", None).flushed(None, ("host: cleared",))
        """),
        encoding="utf-8",
    )
    for command, stream in (["airflow", "scheduler"], "stdout"), (["redshift-secrets", "flush"], "stderr"):
        done = subprocess.run(
            [sys.executable, str(script), *command], capture_output=True, text=True, timeout=120, check=True
        )
        (line,) = [each for each in getattr(done, stream).splitlines() if each.startswith("{")]
        assert json.loads(line)["process"] == command[-1 if stream == "stdout" else 0]


def test_all_backends_of_a_process_share_one_audit(path):
    assert get_or_create_audit(str(path), "a key") is get_or_create_audit(str(path), "a key")
