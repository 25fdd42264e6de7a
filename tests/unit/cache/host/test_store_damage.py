"""A corrupt host store, a full disk, a folder that others may enter: each is a miss, and is logged once."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing

import pytest

from redshift_secrets.cache.flushes import flush
from redshift_secrets.cache.host import database
from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.sealing import Seal, host_key
from tests.support.helpers import Crowd, in_child
from tests.unit.cache.host.disks import fill
from tests.unit.cache.host.groups import read

ROWS = {"ages": b"1 2", "password": b"hunter2" * 10}
OTHER = {"n": b"other"}


@pytest.fixture
def path(store, folder, later):
    """The file of a store that holds two groups."""
    store.replace("g", ROWS, later)
    store.replace("other", OTHER, later)
    return folder / "store.sqlite"


def is_part(rows: dict[str, bytes], whole: dict[str, bytes]) -> bool:
    return rows.items() <= whole.items()


def works(store: HostStore, later: float) -> bool:
    """Whether the store keeps what is written, at the second try at the latest: some corruption shows only after a write."""
    new = {"ages": b"3 4", "more": b"x" * 100}

    def keeps() -> bool:
        store.replace("g", new, later)
        found = read(store, "g", [*ROWS, *new])
        assert found in (new, {})
        assert is_part(read(store, "other", ["n"]), OTHER)
        return found == new

    return keeps() or keeps()


class TestCorruption:
    def test_flipped_bits_never_change_a_row_and_the_store_goes_on_working(self, path, folder, seal, clock, later):
        sound = path.read_bytes()
        offsets = [offset for offset, byte in enumerate(sound) if byte or offset < 200 or offset % 256 == 0]
        assert len(offsets) > 500
        lost = 0
        for turn, offset in enumerate(offsets):
            flipped = bytearray(sound)
            flipped[offset] ^= 0xFF if turn % 2 else 1 << turn % 8
            path.write_bytes(flipped)
            store = HostStore(folder, seal, clock=clock)
            rows = read(store, "g", list(ROWS))
            assert is_part(rows, ROWS), offset
            assert is_part(read(store, "other", ["n"]), OTHER), offset
            assert works(store, later), offset
            lost += rows != ROWS
        assert lost > 100  # some of the bits mattered

    @pytest.mark.parametrize("left", [0, 1, 15, 16, 99, 100, 512, 8191, 8192, 8193, 16384, 20000])
    def test_a_truncated_file(self, path, store, later, left):
        assert left < path.stat().st_size
        os.truncate(path, left)
        assert is_part(read(store, "g", list(ROWS)), ROWS)
        assert works(store, later)

    @pytest.mark.parametrize("content", [b"hunter2" * 3000, bytes(30000), b"SQLite format 3\0" * 1000])
    def test_a_file_that_is_no_database_is_replaced_and_logged_once(self, path, store, later, caplog, content):
        path.write_bytes(content)
        assert read(store, "g", list(ROWS)) == {}
        assert works(store, later)
        assert len(caplog.messages) <= 1
        assert "hunter2" not in caplog.text

    def test_the_log_names_the_corrupt_file(self, path, store, caplog):
        path.write_bytes(b"x" * 30000)
        for _ in range(3):
            assert read(store, "g", list(ROWS)) == {}
        (message,) = caplog.messages
        assert str(path) in message
        assert "was corrupt and has been deleted" in message

    def test_a_foreign_journal_is_not_played_into_the_next_database(self, path, store, folder, later):
        path.write_bytes(b"x" * 30000)
        (folder / "store.sqlite-journal").write_bytes(bytes.fromhex("d9d505f920a163d7") + b"\xff" * 5000)
        assert read(store, "g", list(ROWS)) == {}
        assert works(store, later)

    @pytest.mark.parametrize(
        "change", ["PRAGMA user_version = 2", "PRAGMA user_version = 0", "DROP TABLE rows", "DROP TABLE groups"]
    )
    def test_the_database_of_another_version_is_replaced(self, path, store, later, change):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(change)
        assert is_part(read(store, "g", list(ROWS)), ROWS)
        assert works(store, later)

    def test_one_of_many_processes_deletes_it(self, path, folder, seal, clock, later, caplog):
        path.write_bytes(b"x" * 30000)

        def logged() -> int:
            caplog.clear()
            assert read(HostStore(folder, seal, clock=clock), "g", list(ROWS)) == {}
            return len(caplog.messages)

        assert sum(Crowd(8, lambda: in_child(logged)).outcomes()) == 1
        assert os.listdir(folder) == []
        assert works(HostStore(folder, seal, clock=clock), later)

    def test_many_processes_that_replace_it_read_what_they_wrote_or_nothing(self, path, folder, seal, clock, later):
        path.write_bytes(b"x" * 30000)

        def write() -> bool:
            store, group = HostStore(folder, seal, clock=clock), str(os.getpid())
            store.replace(group, {"n": group.encode()}, later)
            return read(store, group, ["n"]) in ({}, {"n": group.encode()})

        assert Crowd(8, lambda: in_child(write)).outcomes() == [True] * 8
        assert works(HostStore(folder, seal, clock=clock), later)

    def test_a_write_succeeds_where_another_process_deletes_the_database_first(
        self, path, store, later, monkeypatch, caplog
    ):
        real = database.replace

        def after_deletion(*args: object) -> bool:
            monkeypatch.undo()
            path.unlink()
            return real(*args)

        monkeypatch.setattr(database, "replace", after_deletion)
        store.replace("g", {"ages": b"new"}, later)
        assert read(store, "g", ["ages"]) == {"ages": b"new"}
        assert caplog.messages == []

    def test_a_database_that_has_replaced_the_corrupt_one_is_not_deleted(
        self, path, store, folder, seal, clock, later, monkeypatch
    ):
        path.write_bytes(b"x" * 30000)
        other = HostStore(folder, seal, clock=clock)
        real = database.is_corruption

        def after_replacement(error: Exception) -> bool:
            monkeypatch.undo()
            other.replace("other", OTHER, later)
            return real(error)

        monkeypatch.setattr(database, "is_corruption", after_replacement)
        assert read(store, "g", list(ROWS)) == {}
        assert read(other, "other", ["n"]) == OTHER

    @pytest.mark.parametrize("what", ["file", "folder"])
    def test_a_deleted_store_is_a_miss_without_a_log_line(self, path, store, folder, later, caplog, what):
        shutil.rmtree(folder) if what == "folder" else path.unlink()
        assert read(store, "g", list(ROWS)) == {}
        assert store.describe().groups == 0
        assert caplog.messages == []
        assert works(store, later)


@pytest.mark.attempt("read or replace the host store of another OS user")
class TestNotPrivate:
    def assert_unused(self, store, caplog, reason):
        """Nothing is read, written or locked there, and one line says why."""
        before = sorted(os.listdir(store.describe().folder))
        store.replace("g", {"ages": b"new"}, 1e12)
        assert read(store, "g", list(ROWS)) == {}
        leases = [store.try_lock("g") for _ in range(3)]
        assert None not in leases
        for lease in leases:
            lease.release()
        store.clear("g")
        store.clear()
        assert store.describe().rows == 0
        assert sorted(os.listdir(store.describe().folder)) == before
        (message,) = caplog.messages
        assert reason in message
        assert "remove it" in message

    def test_a_folder_of_another_user(self, path, store, folder, caplog):
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder away")
        os.chown(folder, 65534, -1)
        self.assert_unused(store, caplog, "belongs to user 65534")

    @pytest.mark.parametrize("mode", [0o750, 0o707, 0o701])
    def test_a_folder_that_is_open_to_others(self, path, store, folder, caplog, mode):
        folder.chmod(mode)
        self.assert_unused(store, caplog, "open to others")

    def test_a_link_to_a_folder(self, path, store, folder, caplog, tmp_path):
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
        self.assert_unused(store, caplog, "not a folder itself")

    def test_a_file(self, folder, store, caplog):
        folder.write_text("hello")
        assert read(store, "g", ["n"]) == {}
        assert store.try_lock("g") is not None
        assert folder.read_text() == "hello"
        assert len(caplog.messages) == 1


class TestNotAFile:
    """Reading a pipe blocks."""

    @pytest.mark.parametrize("name", ["store.sqlite", "store.sqlite-journal", "store.sqlite-wal"])
    def test_a_pipe_in_the_folder_is_a_miss_that_is_logged_once_and_blocks_nobody(
        self, store, folder, later, caplog, name
    ):
        store.replace("g", ROWS, later)
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        for _ in range(2):
            assert read(store, "g", list(ROWS)) == {}
            store.replace("g", ROWS, later)
        store.clear()
        assert len(caplog.messages) == 1
        assert f"{name} is not a file; remove it" in caplog.text
        assert None not in [store.try_lock("g") for _ in range(2)]
        (folder / name).unlink()
        assert works(store, later)

    def test_a_pipe_in_the_place_of_a_lock_blocks_nobody(self, store, folder, later):
        store.replace("g", ROWS, later)
        lease = store.try_lock("new")
        (lock,) = folder.glob("*.lock")
        lease.release()
        os.mkfifo(lock)
        store.try_lock("new").release()
        assert read(store, "g", list(ROWS)) == ROWS


class TestDisk:
    def test_on_a_full_disk_the_old_rows_stay(self, mount, seal, clock, later, caplog):
        disk = mount("size=256k")
        store = HostStore(disk / "store", seal, clock=clock)
        store.replace("g", ROWS, later)
        fill(disk)
        for number in range(5):
            store.replace(f"group {number}", {"n": b"x" * 50_000}, later)
            assert read(store, f"group {number}", ["n"]) == {}
            assert read(store, "g", list(ROWS)) == ROWS
        assert len(caplog.messages) == 1
        assert "full" in caplog.text
        (disk / "ballast").unlink()
        assert works(store, later)

    def test_after_a_failed_write_nobody_waits_for_an_entry_that_never_appears(self, mount, seal, clock, later):
        disk = mount("size=256k")
        one, another = (HostStore(disk / "store", seal, clock=clock) for _ in range(2))
        one.replace("g", ROWS, later)
        fill(disk)
        lease = one.try_lock("new")
        assert another.try_lock("new") is None
        one.replace("new", {"n": b"x" * 50_000}, later)
        lease.release()
        assert None not in [store.try_lock("new") for store in (one, another, one, another)]
        clock.pass_(10)
        lease = one.try_lock("new")
        assert another.try_lock("new") is None  # one process finds out whether there is room again
        (disk / "ballast").unlink()
        one.replace("new", {"n": b"x"}, later)
        lease.release()
        assert read(another, "new", ["n"]) == {"n": b"x"}
        lease = another.try_lock("new")
        assert one.try_lock("new") is None
        lease.release()

    def test_a_full_store_can_be_cleared(self, mount, seal, clock, later):
        disk = mount("size=256k")
        store = HostStore(disk / "store", seal, clock=clock)
        for group in ("g", "other"):
            store.replace(group, {"ages": b"x" * 20_000}, later)
        fill(disk)
        store.clear("g")
        assert read(store, "g", ["ages"]) == {}
        store.clear()
        assert [read(store, group, ["ages"]) for group in ("g", "other")] == [{}, {}]
        assert works(store, later)

    def test_what_cannot_be_removed_is_not_said_to_be(self, mount, seal, clock, later):
        disk = mount("size=256k")
        store = HostStore(disk / "store", seal, clock=clock)
        store.replace("g", ROWS, later)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for groups in (["g"], None):
            assert "Read-only file system" in (flush(store, groups) or "")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert read(store, "g", list(ROWS)) == ROWS
        assert flush(store, ["g"]) is None
        assert read(store, "g", list(ROWS)) == {}

    def test_a_disk_that_is_full_before_there_is_a_store(self, mount, seal, clock, later, caplog):
        disk = mount("size=64k,nr_inodes=3")
        fill(disk)
        (disk / "another").mkdir()
        store = HostStore(disk / "store", seal, clock=clock)
        for _ in range(3):
            store.replace("g", ROWS, later)
            assert read(store, "g", list(ROWS)) == {}
            assert store.try_lock("g") is not None
        assert len(caplog.messages) == 1
        with pytest.raises(OSError, match="No space left"):
            host_key(disk / "store")

    def test_no_room_for_a_key(self, mount):
        disk = mount("size=64k")
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            host_key(disk / "store")
        assert os.listdir(disk / "store") == []
        (disk / "ballast").unlink()
        Seal([host_key(disk / "store")])

    def test_a_read_only_disk(self, mount, seal, clock, later, caplog):
        disk = mount("size=256k")
        store = HostStore(disk / "store", seal, clock=clock)
        store.replace("g", ROWS, later)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for _ in range(3):
            store.replace("g", {"ages": b"new"}, later)
            assert read(store, "g", list(ROWS)) == ROWS
            assert store.try_lock("g") is not None
        assert 1 <= len(caplog.messages) <= 3  # one for each kind of failure
        assert "corrupt" not in caplog.text
