"""The mark that tells other processes of a flush: it changes each time, and whatever happens, nothing is raised."""

from __future__ import annotations

import os
import time

import pytest

from redshift_secrets.cache.host.store import HostStore
from tests.support.helpers import Crowd, in_child


def marks(store: HostStore, flushes: int) -> list[str]:
    """Flush, and return the mark after each time."""
    found = []
    for _ in range(flushes):
        store.mark_flushed()
        mark = store.flush_mark()
        assert mark is not None
        found.append(mark)
    return found


def test_there_is_none_before_the_first_flush(store, folder, later):
    assert store.flush_mark() is None
    assert not folder.exists()
    store.replace("g", {"n": b"row"}, later)
    assert store.flush_mark() is None


def test_it_changes_with_each_flush_and_not_between_them(store):
    assert len(set(marks(store, 5))) == 5
    assert store.flush_mark() == store.flush_mark()


def test_it_is_that_of_all_processes(store, folder, seal, clock):
    (first,) = marks(store, 1)
    (second,) = in_child(lambda: marks(HostStore(folder, seal, clock=clock), 1))
    assert store.flush_mark() == second != first


def test_it_changes_where_the_clock_was_set_back(store, clock):
    clock.now = time.time()
    found = marks(store, 2)
    clock.pass_(-(10**6))
    found += marks(store, 2)
    clock.pass_(10**6)
    assert len(set(found + marks(store, 2))) == 6


def test_it_changes_where_the_file_was_removed(store, folder):
    (first,) = marks(store, 1)
    (folder / "flushed").unlink()
    (folder / "another").touch()  # takes the number of the file that was removed
    assert marks(store, 1) != [first]


def test_many_at_once_change_it(store):
    (before,) = marks(store, 1)
    assert Crowd(8, lambda: store.mark_flushed()).outcomes() == [None] * 8
    assert store.flush_mark() not in (None, before)


def test_it_stays_when_the_store_is_cleared_and_when_it_is_written(store, later):
    (mark,) = marks(store, 1)
    store.clear()
    store.clear("g")
    store.replace("g", {"n": b"row"}, later)
    assert store.flush_mark() == mark


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("nowhere", path)])
def test_what_else_has_its_name_blocks_nobody(store, folder, later, make, caplog):
    store.replace("g", {"n": b"row"}, later)
    make(folder / "flushed")
    assert len(set(marks(store, 3))) == 3
    assert os.listdir(folder).count("nowhere") == 0
    assert caplog.messages == []


def test_in_a_folder_that_is_open_to_others_there_is_none(store, folder, caplog):
    marks(store, 1)
    folder.chmod(0o755)
    for _ in range(3):
        store.mark_flushed()
        assert store.flush_mark() is None
    (message,) = caplog.messages
    assert "open to others" in message


def test_on_a_full_disk_it_changes(full_disk, seal, clock):
    store = HostStore(full_disk / "store", seal, clock=clock)
    assert len(set(marks(store, 3))) == 3


def test_where_no_file_can_be_made_an_old_mark_changes_and_a_new_one_is_missed(mount, seal, clock, caplog):
    disk = mount("size=64k,nr_inodes=4")
    store = HostStore(disk / "store", seal, clock=clock)
    (first,) = marks(store, 1)
    (disk / "the last file that there is room for").touch()
    assert marks(store, 1) != [first]
    (disk / "store" / "flushed").unlink()
    (disk / "another").touch()
    for _ in range(3):
        store.mark_flushed()
        assert store.flush_mark() is None
    (message,) = caplog.messages
    assert "No space left" in message
