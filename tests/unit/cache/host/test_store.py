"""The host store as a `SharedStore`: writing, reading, expiry, privacy, clearing, description. On real files."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.cache.host import database, paths
from redshift_secrets.cache.host import store as host_store
from redshift_secrets.cache.host.locks import FileLock
from redshift_secrets.cache.host.store import HostStore
from tests.support.helpers import Crowd, in_child
from tests.unit.cache.host.groups import name_in_database, read

ROWS = {"ages": b"1 2", "password": b"hunter2hunter2"}


def sql(folder: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Run a statement on the database, past the store."""
    with closing(sqlite3.connect(folder / "store.sqlite")) as connection, connection:
        return connection.execute(statement, values).fetchall()


class TestRows:
    def test_the_named_rows_are_read(self, store, later):
        store.replace("g", ROWS, later)
        assert read(store, "g", ["ages", "password", "other"]) == ROWS
        assert read(store, "g", ["ages"]) == {"ages": b"1 2"}
        assert read(store, "g", []) == {}

    def test_several_groups_are_read_at_once(self, store, later):
        store.replace("g", ROWS, later)
        store.replace("other", {"n": b"other"}, later)
        wanted = {"g": ["password"], "other": ["n", "ages"], "missing": ["n"], "none of it": []}
        assert store.read(wanted) == {
            "g": {"password": ROWS["password"]},
            "other": {"n": b"other"},
            "missing": {},
            "none of it": {},
        }
        assert store.read({}) == {}

    @pytest.mark.usefixtures("impatient")
    def test_they_are_all_of_one_moment(self, store, folder, seal, clock, later):
        writer = HostStore(folder, seal, clock=clock)
        for group in ("g", "other"):
            store.replace(group, {"n": b"before"}, later)

        class WritesBetween(list):
            def __iter__(self):
                writer.replace("other", {"n": b"after"}, later)
                return super().__iter__()

        before = {"n": b"before"}
        assert store.read({"g": WritesBetween("n"), "other": ["n"]}) == {"g": before, "other": before}

    def test_another_process_reads_them(self, store, folder, seal, clock, later):
        store.replace("g", ROWS, later)
        assert in_child(lambda: read(HostStore(folder, seal, clock=clock), "g", list(ROWS))) == ROWS

    def test_new_rows_replace_all_rows_of_the_group(self, store, later):
        store.replace("g", ROWS, later)
        store.replace("other", {"n": b"kept"}, later)
        store.replace("g", {"ages": b"3 4"}, later)
        assert read(store, "g", list(ROWS)) == {"ages": b"3 4"}
        store.replace("g", {}, later)
        assert read(store, "g", list(ROWS)) == {}
        assert read(store, "other", ["n"]) == {"n": b"kept"}

    @pytest.mark.parametrize("text", ["", "\0", "\ud800", "a'b\"c;--", "\U0001f600" * 500])
    def test_any_text_is_a_group_and_a_name_and_any_bytes_a_row(self, store, later, text):
        for payload in (b"", bytes(range(256)) * 100):
            store.replace(text, {text: payload}, later)
            assert read(store, text, [text]) == {text: payload}

    def test_threads_do_not_disturb_each_other(self, store, later):
        numbers = iter(range(16))

        def work():
            group = f"g{next(numbers)}"
            store.replace(group, {"n": group.encode()}, later)
            return read(store, group, ["n"])["n"].decode() == group

        assert Crowd(16, work).outcomes() == [True] * 16

    def test_a_read_costs_the_same_among_ten_thousand_rows_as_among_ten(self, store, later):
        if not os.path.exists("/proc/self/io"):
            pytest.skip("this system does not count what a process reads")

        def bytes_read(rows: int) -> int:
            store.replace("catalog", {f"name {number}": b"x" * 1200 for number in range(rows)}, later)
            before = counted()
            assert len(read(store, "catalog", ["name 3", f"name {rows - 1}"])) == 2
            return counted() - before

        def counted() -> int:
            return int(Path("/proc/self/io").read_text().split()[1])

        few = bytes_read(10)
        assert 0 < bytes_read(10_000) <= 4 * few  # a few pages more: the tree is deeper

    def test_readers_are_not_blocked_while_many_rows_are_written(self, store, folder, later):
        store.replace("g", ROWS, later)
        seen = []

        class Many(dict):
            def items(self):
                for number, item in enumerate(super().items()):
                    if number % 1000 == 999:
                        seen.append(read(store, "g", list(ROWS)) == ROWS)
                    yield item

        sealed = Many({str(number): b"x" * 1000 for number in range(5000)})
        database.replace(folder / "store.sqlite", ["big"], database.Rows(b"new", sealed), later, later - 1)
        assert seen == [True] * 5


class TestExpiry:
    def test_an_expired_row_is_not_returned(self, store, clock, later):
        store.replace("g", ROWS, later)
        clock.now = later - 0.001
        assert read(store, "g", list(ROWS)) == ROWS
        clock.now = later
        assert read(store, "g", list(ROWS)) == {}

    def test_a_clock_that_is_set_ahead_and_back_loses_at_most_the_cache(self, store, clock, later, caplog):
        store.replace("g", ROWS, later)
        clock.pass_(10**6)
        assert read(store, "g", list(ROWS)) == {}
        clock.pass_(-(10**6))
        assert read(store, "g", list(ROWS)) == ROWS
        assert caplog.messages == []
        clock.pass_(-(10**6))
        for _ in range(3):
            assert read(store, "g", list(ROWS)) == {}
        (message,) = caplog.messages
        assert "the clock was set back" in message
        store.replace("g", {"n": b"new"}, clock() + 1)
        assert read(store, "g", ["n"]) == {"n": b"new"}
        clock.pass_(10**6)
        assert read(store, "g", ["n"]) == {}

    @pytest.mark.parametrize("expires_at", [float("-inf"), 0.0, float("nan")])
    def test_rows_that_have_expired_before_they_are_written_empty_the_group(
        self, store, folder, seal, later, expires_at
    ):
        store.replace("g", ROWS, later)
        store.replace("other", {"n": b"kept"}, later)
        store.replace("g", ROWS, expires_at)
        assert read(store, "g", list(ROWS)) == {}
        assert sql(folder, "SELECT DISTINCT grp FROM rows") == [(name_in_database(seal, "other").encode(),)]

    def test_expired_groups_are_removed_so_that_the_file_does_not_grow(self, store, folder, clock):
        sizes = []
        for _ in range(6):
            for number in range(20):
                store.replace(f"{clock()} {number}", {"n": b"x" * 5000}, clock() + 10)
            clock.pass_(10)
            sizes.append(os.stat(folder / "store.sqlite").st_size)
        assert sizes[-1] == sizes[1]
        store.replace("last", {"n": b"x"}, clock() + 10)
        assert sql(folder, "SELECT count(*) FROM rows") == [(1,)]
        assert sql(folder, "SELECT count(*) FROM groups") == [(1,)]

    def test_rows_that_would_make_the_file_too_large_are_not_written(self, store, folder, later, monkeypatch, caplog):
        monkeypatch.setattr(database, "_MAX_BYTES", 1 << 20)
        store.replace("g", ROWS, later)
        for _ in range(3):
            store.replace("big", {str(number): b"x" * 1000 for number in range(2000)}, later)
        assert read(store, "big", ["1"]) == {}
        assert read(store, "g", list(ROWS)) == ROWS
        assert os.stat(folder / "store.sqlite").st_size <= 1 << 20
        assert [record.message for record in caplog.records if "full" in record.message] == [caplog.messages[-1]]


class TestPrivacy:
    def test_only_the_user_has_access_whatever_the_umask(self, store, folder, later):
        def modes():
            os.umask(0)
            store.replace("g", ROWS, later)
            lease = store.try_lock("g")
            found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.iterdir()]}
            lease.release()
            return found

        modes = in_child(modes)
        assert modes.pop(folder.name) == 0o700
        assert len(modes) == 2
        assert set(modes.values()) == {0o600}

    def test_no_payload_is_in_any_file(self, store, folder, later):
        store.replace("g", ROWS, later)
        store.replace("g", ROWS, later)
        contents = b"".join(path.read_bytes() for path in folder.iterdir())
        assert len(contents) > 1000
        assert b"hunter2" not in contents

    def test_a_row_copied_to_another_name_or_group_is_a_miss(self, store, folder, seal, later):
        store.replace("g", ROWS, later)
        sql(folder, "INSERT INTO rows SELECT grp, ?, sealed FROM rows WHERE name = ?", b"admin", b"password")
        other = name_in_database(seal, "h").encode()
        sql(folder, "INSERT INTO rows SELECT ?, name, sealed FROM rows WHERE name = ?", other, b"password")
        sql(folder, "INSERT INTO groups SELECT ?, expires_at, generation FROM groups", other)
        assert sql(folder, "SELECT count(*) FROM rows") == [(4,)]
        assert read(store, "g", ["admin", "password"]) == {"password": ROWS["password"]}
        assert read(store, "h", ["password"]) == {}

    def test_an_expiry_extended_outside_the_seal_has_no_effect(self, store, folder, clock, later):
        store.replace("g", ROWS, later)
        sql(folder, "UPDATE groups SET expires_at = 1e300")
        clock.now = later
        assert read(store, "g", list(ROWS)) == {}

    def test_a_row_of_an_older_generation_is_a_miss(self, store, folder, later):
        store.replace("g", ROWS, later)
        (old,) = sql(folder, "SELECT grp, name, sealed FROM rows WHERE name = ?", b"password")
        store.replace("g", {"ages": b"3 4"}, later)
        sql(folder, "INSERT INTO rows VALUES (?, ?, ?)", *old)
        assert read(store, "g", list(ROWS)) == {"ages": b"3 4"}

    def test_values_that_the_store_never_wrote_are_a_miss(self, store, folder, seal, later):
        store.replace("g", ROWS, later)
        for value in (7, "text", b"", seal.seal(name_in_database(seal, "g"), "ages", b"short")):
            sql(folder, "UPDATE rows SET sealed = ?", value)
            assert read(store, "g", list(ROWS)) == {}


class TestMissing:
    def test_a_missing_store_is_empty_and_reading_does_not_create_it(self, store, folder, caplog):
        assert read(store, "g", ["n"]) == {}
        store.clear("g")
        store.clear()
        assert store.describe().size == 0
        assert not folder.exists()
        assert caplog.records == []

    def test_no_file_is_kept_open(self, store, later):
        store.replace("g", ROWS, later)
        read(store, "g", list(ROWS))
        store.try_lock("g").release()
        if not os.path.isdir("/proc/self/fd"):
            pytest.skip("this system does not show what a process has open")
        links = [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
        assert not [link for link in links if "host store" in link]

    def test_a_process_loads_only_what_it_needs(self, folder):
        script = f"""
import json, sys
from pathlib import Path
from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.sealing import Seal
store = HostStore(Path({str(folder)!r}), Seal([sys.stdin.readline().strip()]), clock=lambda: 1.0)
store.replace("g", {{"n": b"row"}}, 2.0)
store.try_lock("g").release()
print(json.dumps([len(store.read({{"g": ["n"]}})["g"]), sorted({{"filelock", "redis"}} & set(sys.modules))]))
"""
        environment = {**os.environ, "PYTHONPATH": str(Path(paths.__file__).parents[2])}
        command = [sys.executable, "-c", script]
        key = Fernet.generate_key().decode()
        done = subprocess.run(command, input=key, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [1, []]


class TestClear:
    def test_one_group(self, store, later):
        store.replace("g", ROWS, later)
        store.replace("other", ROWS, later)
        store.clear("g")
        assert read(store, "g", list(ROWS)) == {}
        assert read(store, "other", list(ROWS)) == ROWS

    def test_everything(self, store, folder, later):
        for group in ("g", "other"):
            store.replace(group, ROWS, later)
        (folder / "store.sqlite-journal").write_bytes(b"of a writer that was killed")
        store.clear()
        assert [read(store, group, list(ROWS)) for group in ("g", "other")] == [{}, {}]
        assert not [name for name in os.listdir(folder) if "sqlite" in name]
        store.replace("g", ROWS, later)
        assert read(store, "g", list(ROWS)) == ROWS

    def test_behind_a_process_that_is_stopped_while_it_removes_the_store(self, store, folder, later, monkeypatch):
        monkeypatch.setattr(host_store, "_REMOVAL_WAIT_SECONDS", 0.01)
        store.replace("g", ROWS, later)
        lock = FileLock.acquire(folder / "store.lock")
        assert "another process has" in (store.clear() or "")
        lock.release()
        assert store.clear() is None

    @pytest.mark.usefixtures("impatient")
    def test_where_one_group_cannot_be_removed_everything_is(self, store, folder, later):
        store.replace("g", ROWS, later)
        with closing(sqlite3.connect(folder / "store.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            store.clear("g")
        assert read(store, "g", list(ROWS)) == {}


class TestLocked:
    @pytest.mark.usefixtures("impatient")
    def test_a_locked_store_is_a_miss_and_logged_once(self, store, folder, clock, later, caplog):
        store.replace("g", ROWS, later)
        with closing(sqlite3.connect(folder / "store.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            assert [read(store, "g", list(ROWS)) for _ in range(3)] == [{}] * 3
            store.replace("g", {"ages": b"lost"}, later)
            assert len(caplog.records) == 1
            clock.pass_(3600)
            read(store, "g", list(ROWS))
        clock.pass_(-3600)
        assert read(store, "g", list(ROWS)) == ROWS
        assert ["locked" in message for message in caplog.messages] == [True, True]
        assert {record.levelno for record in caplog.records} == {logging.WARNING}


class TestDescription:
    def test_it_has_folder_size_counts_and_fingerprint(self, store, folder, seal, clock, later):
        store.replace("g", ROWS, later)
        store.replace("other", {"n": b"x"}, later + 10)
        info = store.describe()
        assert (info.folder, info.groups, info.rows) == (folder, 2, 3)
        assert info.size == os.stat(folder / "store.sqlite").st_size > 0
        assert info.fingerprint == seal.fingerprint
        clock.now = later
        assert (store.describe().groups, store.describe().rows) == (1, 1)
