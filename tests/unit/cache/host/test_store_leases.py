"""Leases of the host store: they exclude each other, and end with their process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from redshift_secrets.cache.host.store import HostStore
from tests.support.helpers import Crowd, in_child
from tests.unit.cache.host.children import Child


def lock(store: HostStore, group: str = "g"):
    lease = store.try_lock(group)
    assert lease is not None, "another one has the lease"
    return lease


def is_free(store: HostStore, group: str = "g") -> bool:
    lease = store.try_lock(group)
    if lease is None:
        return False
    lease.release()
    return True


class TestLeases:
    def test_one_at_a_time_for_each_group(self, store):
        first = lock(store)
        assert store.try_lock("g") is None
        assert is_free(store, "other")
        first.release()
        assert is_free(store)

    @pytest.mark.parametrize(
        "group", ["0123456789abcdef" * 4 + mark for mark in ("", "!", "+", "?")] + ["../g", "\0\ud800"]
    )
    def test_any_name_that_a_group_has_is_that_of_a_file_in_the_folder(self, store, folder, group):
        lease = lock(store, group)
        assert store.try_lock(group) is None
        assert [store.is_taken(group), store.is_taken(f"{group}x")] == [True, False]
        (file,) = os.listdir(folder)
        lease.release()
        assert not store.is_taken(group)
        assert os.listdir(folder) == []
        assert file.startswith("lease-")

    def test_renewing_changes_nothing(self, store):
        lease = lock(store)
        lease.renew()
        assert not is_free(store)
        lease.release()
        lease.renew()
        assert is_free(store)

    def test_releasing_twice_does_not_release_the_next_lease(self, store):
        first = lock(store)
        first.release()
        second = lock(store)
        first.release()
        assert not is_free(store)
        second.release()

    def test_threads_exclude_each_other(self, store):
        leases = Crowd(8, lambda: store.try_lock("g")).outcomes()
        assert sorted(lease is None for lease in leases) == [False] + [True] * 7

    def test_processes_exclude_each_other(self, store):
        child = Child(lambda pause: (lock(store), pause()))
        assert not is_free(store)
        assert child.end() == 0
        assert is_free(store)

    def test_of_racing_processes_one_at_a_time_has_the_lease(self, store, folder, tmp_path):
        inside, count = tmp_path / "inside", 6

        def race() -> int:
            won = 0
            while won < 10:
                lease = store.try_lock("g")
                if lease is not None:
                    os.mkdir(inside)  # fails where another process has the lease too
                    os.rmdir(inside)
                    lease.release()
                    won += 1
            return won

        assert Crowd(count, lambda: in_child(race)).outcomes() == [10] * count
        assert os.listdir(folder) == []

    def test_the_lease_of_a_killed_process_is_free(self, store):
        child = Child(lambda pause: (lock(store), pause()))
        assert not is_free(store)
        child.kill()
        assert is_free(store)

    def test_the_lease_of_a_killed_process_is_free_while_its_child_runs(self, store, tmp_path):
        grandchild = tmp_path / "pid"

        def work(pause: Callable[[], None]) -> None:
            lease = lock(store)
            grandchild.write_text(str(Child(lambda wait: (wait(), wait())).pid))
            pause()
            lease.release()

        child = Child(work)
        child.kill()
        try:
            os.kill(int(grandchild.read_text()), 0)  # raises unless it is running
            assert is_free(store)
        finally:
            os.kill(int(grandchild.read_text()), signal.SIGKILL)

    def test_a_child_does_not_inherit_its_parents_lease(self, store):
        lease = lock(store)

        def in_the_child() -> list[bool]:
            before = is_free(store)
            lease.release()
            return [before, is_free(store)]

        assert in_child(in_the_child) == [False, False]
        assert not is_free(store)
        lease.release()
        assert is_free(store)

    def test_a_running_child_does_not_keep_the_lease_that_its_parent_released(self, store):
        lease = lock(store)
        child = Child(lambda pause: pause())
        lease.release()
        assert is_free(store)
        assert child.end() == 0

    def test_a_started_program_does_not_keep_the_lease_that_its_parent_released(self, store):
        lease = lock(store)
        program = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
        try:
            lease.release()
            assert is_free(store)
            assert program.poll() is None
        finally:
            program.communicate(b"\n")

    def test_lock_files_do_not_accumulate(self, store, folder, clock, later):
        for number in range(20):
            lock(store, f"group {number}").release()
        assert os.listdir(folder) == []

        def lock_five(pause: Callable[[], None]) -> None:
            leases = [lock(store, f"group {number}") for number in range(5)]
            pause()
            del leases

        Child(lock_five).kill()
        held = lock(store, "held")
        assert len(os.listdir(folder)) == 6
        clock.now = time.time()
        store.replace("g", {"n": b"x"}, clock() + 100)
        assert len(os.listdir(folder)) == 7  # the locks are young, and may be in use
        clock.pass_(3601)
        store.replace("g", {"n": b"x"}, clock() + 100)
        assert len(os.listdir(folder)) == 2  # the store, and the lock that is held
        assert not is_free(store, "held")
        held.release()

    def test_a_lease_that_is_garbage_collected_is_free(self, store):
        lease = store.try_lock("g")
        del lease
        assert is_free(store)
