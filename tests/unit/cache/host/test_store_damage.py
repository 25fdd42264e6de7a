"""The host tier on bad ground: flipped bits, full disks, folders of somebody else. A miss each time, said once."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing, suppress

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.cache.host import database
from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.sealing import Seal, host_key
from tests.support.helpers import Crowd, in_child

SEAL = Seal([Fernet.generate_key().decode()])
ROWS = {"ages": b"1 2", "password": b"hunter2" * 10}
OTHER = {"n": b"other"}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(folder, clock):
    return HostStore(folder, SEAL, clock=clock)


@pytest.fixture
def later(clock):
    return clock() + 100


@pytest.fixture
def path(store, folder, later):
    """The file of a store that holds two groups."""
    store.replace("g", ROWS, later)
    store.replace("other", OTHER, later)
    return folder / "store.sqlite"


def parts_of(rows: dict[str, bytes], whole: dict[str, bytes]) -> bool:
    return rows.items() <= whole.items()


def works(store: HostStore, later: float) -> bool:
    """Whether the store keeps what it is given, if need be at the second try: some damage shows after a write only."""
    new = {"ages": b"3 4", "more": b"x" * 100}

    def kept() -> bool:
        store.replace("g", new, later)
        found = store.read("g", [*ROWS, *new])
        assert found in (new, {})
        assert parts_of(store.read("other", ["n"]), OTHER)
        return found == new

    return kept() or kept()


class TestDamage:
    def test_no_flipped_bits_anywhere_are_believed_or_keep_it_from_working(self, path, folder, clock, later):
        sound = path.read_bytes()
        offsets = [offset for offset, byte in enumerate(sound) if byte or offset < 200 or offset % 256 == 0]
        assert len(offsets) > 500
        lost = 0
        for turn, offset in enumerate(offsets):
            flipped = bytearray(sound)
            flipped[offset] ^= 0xFF if turn % 2 else 1 << turn % 8
            path.write_bytes(flipped)
            store = HostStore(folder, SEAL, clock=clock)
            rows = store.read("g", list(ROWS))
            assert parts_of(rows, ROWS), offset
            assert parts_of(store.read("other", ["n"]), OTHER), offset
            assert works(store, later), offset
            lost += rows != ROWS
        assert lost > 100  # it did hit something

    @pytest.mark.parametrize("left", [0, 1, 15, 16, 99, 100, 512, 8191, 8192, 8193, 16384, 20000])
    def test_a_file_that_was_cut_off(self, path, store, later, left):
        assert left < path.stat().st_size
        os.truncate(path, left)
        assert parts_of(store.read("g", list(ROWS)), ROWS)
        assert works(store, later)

    @pytest.mark.parametrize("content", [b"hunter2" * 3000, bytes(30000), b"SQLite format 3\0" * 1000])
    def test_a_file_that_is_something_else_is_replaced_and_said_once(self, path, store, later, caplog, content):
        path.write_bytes(content)
        assert store.read("g", list(ROWS)) == {}
        assert works(store, later)
        assert len(caplog.messages) <= 1
        assert "hunter2" not in caplog.text

    def test_what_was_damaged_is_said_with_its_place(self, path, store, caplog):
        path.write_bytes(b"x" * 30000)
        for _ in range(3):
            assert store.read("g", list(ROWS)) == {}
        (message,) = caplog.messages
        assert str(path) in message
        assert "damaged" in message

    def test_a_journal_of_somebody_else_is_not_played_into_the_next_store(self, path, store, folder, later):
        path.write_bytes(b"x" * 30000)
        (folder / "store.sqlite-journal").write_bytes(bytes.fromhex("d9d505f920a163d7") + b"\xff" * 5000)
        assert store.read("g", list(ROWS)) == {}
        assert works(store, later)

    @pytest.mark.parametrize(
        "change", ["PRAGMA user_version = 2", "PRAGMA user_version = 0", "DROP TABLE rows", "DROP TABLE groups"]
    )
    def test_another_versions_store_is_replaced(self, path, store, later, change):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(change)
        assert parts_of(store.read("g", list(ROWS)), ROWS)
        assert works(store, later)

    def test_only_one_of_many_who_notice_puts_it_away(self, path, folder, clock, later, caplog):
        path.write_bytes(b"x" * 30000)

        def look() -> int:
            caplog.clear()
            assert HostStore(folder, SEAL, clock=clock).read("g", list(ROWS)) == {}
            return len(caplog.messages)

        assert sum(Crowd(8, lambda: in_child(look)).outcomes()) == 1
        assert os.listdir(folder) == []
        assert works(HostStore(folder, SEAL, clock=clock), later)

    def test_many_who_put_it_away_and_write_get_what_is_right_or_nothing(self, path, folder, clock, later):
        path.write_bytes(b"x" * 30000)

        def write() -> bool:
            mine, group = HostStore(folder, SEAL, clock=clock), str(os.getpid())
            mine.replace(group, {"n": group.encode()}, later)
            return mine.read(group, ["n"]) in ({}, {"n": group.encode()})

        assert Crowd(8, lambda: in_child(write)).outcomes() == [True] * 8
        assert works(HostStore(folder, SEAL, clock=clock), later)

    def test_what_is_put_away_by_another_process_in_between_is_written_all_the_same(
        self, path, store, later, monkeypatch, caplog
    ):
        real = database.replace

        def too_late(*args: object) -> bool:
            monkeypatch.undo()
            path.unlink()
            return real(*args)

        monkeypatch.setattr(database, "replace", too_late)
        store.replace("g", {"ages": b"new"}, later)
        assert store.read("g", ["ages"]) == {"ages": b"new"}
        assert caplog.messages == []

    def test_a_new_store_put_there_since_is_left_alone(self, path, store, folder, clock, later, monkeypatch):
        path.write_bytes(b"x" * 30000)
        other = HostStore(folder, SEAL, clock=clock)
        real = database.is_damage

        def while_the_other_is_faster(error: Exception) -> bool:
            monkeypatch.undo()
            other.replace("other", OTHER, later)
            return real(error)

        monkeypatch.setattr(database, "is_damage", while_the_other_is_faster)
        assert store.read("g", list(ROWS)) == {}
        assert other.read("other", ["n"]) == OTHER

    @pytest.mark.parametrize("whole", [True, False])
    def test_what_is_deleted_under_it(self, path, store, folder, later, caplog, whole):
        shutil.rmtree(folder) if whole else path.unlink()
        assert store.read("g", list(ROWS)) == {}
        assert store.describe().groups == 0
        assert caplog.messages == []
        assert works(store, later)


class TestSomebodyElses:
    def unused(self, store, caplog, saying):
        """Nothing is read, written or locked there, and one line says why."""
        before = sorted(os.listdir(store.describe().folder))
        store.replace("g", {"ages": b"new"}, 1e12)
        assert store.read("g", list(ROWS)) == {}
        claims = [store.claim("g") for _ in range(3)]
        assert None not in claims
        for claim in claims:
            claim.release()
        store.clear("g")
        store.clear()
        assert store.describe().rows == 0
        assert sorted(os.listdir(store.describe().folder)) == before
        (message,) = caplog.messages
        assert saying in message
        assert "remove it" in message

    def test_a_folder_of_another_user(self, path, store, folder, caplog):
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder away")
        os.chown(folder, 65534, -1)
        self.unused(store, caplog, "belongs to user 65534")

    @pytest.mark.parametrize("mode", [0o750, 0o707, 0o701])
    def test_a_folder_that_is_open_to_others(self, path, store, folder, caplog, mode):
        folder.chmod(mode)
        self.unused(store, caplog, "open to others")

    def test_a_link_to_a_folder(self, path, store, folder, caplog, tmp_path):
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
        self.unused(store, caplog, "not a folder itself")

    def test_a_file(self, folder, store, caplog):
        folder.write_text("hello")
        assert store.read("g", ["n"]) == {}
        assert store.claim("g") is not None
        assert folder.read_text() == "hello"
        assert len(caplog.messages) == 1


@pytest.fixture
def mount(tmp_path):
    """Mount a small memory disk with these options, or skip."""
    point = tmp_path / "disk"
    point.mkdir()
    mounted = []

    def mount(options: str):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(point)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
        mounted.append(point)
        return point

    try:
        if os.geteuid() != 0:
            pytest.skip("mounting a small disk takes root")
        yield mount
    finally:
        for each in mounted:
            subprocess.run(["umount", str(each)], check=True)


class TestDisk:
    def fill(self, disk):
        with open(disk / "ballast", "wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        assert os.statvfs(disk).f_bavail == 0

    def test_full_under_load_loses_nothing_but_what_is_written(self, mount, clock, later, caplog):
        disk = mount("size=256k")
        store = HostStore(disk / "store", SEAL, clock=clock)
        store.replace("g", ROWS, later)
        self.fill(disk)
        for number in range(5):
            store.replace(f"group {number}", {"n": b"x" * 50_000}, later)
            assert store.read(f"group {number}", ["n"]) == {}
            assert store.read("g", list(ROWS)) == ROWS
        assert len(caplog.messages) == 1
        assert "full" in caplog.text
        first, second = store.claim("g"), store.claim("g")
        assert first is not None
        assert second is None
        first.release()
        (disk / "ballast").unlink()
        assert works(store, later)

    def test_a_full_disk_can_be_emptied(self, mount, clock, later):
        disk = mount("size=256k")
        store = HostStore(disk / "store", SEAL, clock=clock)
        for group in ("g", "other"):
            store.replace(group, {"ages": b"x" * 20_000}, later)
        self.fill(disk)
        store.clear("g")
        assert store.read("g", ["ages"]) == {}
        store.clear()
        assert [store.read(group, ["ages"]) for group in ("g", "other")] == [{}, {}]
        assert works(store, later)

    def test_full_before_there_is_a_store(self, mount, clock, later, caplog):
        disk = mount("size=64k,nr_inodes=3")
        self.fill(disk)
        (disk / "another").mkdir()
        store = HostStore(disk / "store", SEAL, clock=clock)
        for _ in range(3):
            store.replace("g", ROWS, later)
            assert store.read("g", list(ROWS)) == {}
            assert store.claim("g") is not None
        assert len(caplog.messages) == 1
        with pytest.raises(OSError, match="No space left"):
            host_key(disk / "store")

    def test_no_room_for_a_key(self, mount):
        disk = mount("size=64k")
        self.fill(disk)
        with pytest.raises(OSError, match="No space left"):
            host_key(disk / "store")
        assert os.listdir(disk / "store") == []
        (disk / "ballast").unlink()
        Seal([host_key(disk / "store")])

    def test_read_only(self, mount, clock, later, caplog):
        disk = mount("size=256k")
        store = HostStore(disk / "store", SEAL, clock=clock)
        store.replace("g", ROWS, later)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for _ in range(3):
            store.replace("g", {"ages": b"new"}, later)
            assert store.read("g", list(ROWS)) == ROWS
            assert store.claim("g") is not None
        assert 1 <= len(caplog.messages) <= 3  # one for each thing that cannot be done
        assert "damaged" not in caplog.text
