"""The host store among processes: leases exclude each other and end with their process, rows are whole or missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from redshift_secrets.cache.host import database
from redshift_secrets.cache.host.store import HostStore
from tests.support.helpers import BOUND, Crowd, in_child


class Child:
    """A forked process that calls `work`, and pauses where that calls its argument, until `kill` or `end`."""

    def __init__(self, work: Callable[[Callable[[], None]], None]) -> None:
        here, there = os.pipe()
        go_on, self._go_on = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._go_on)

            def pause() -> None:
                os.write(there, b"!")
                os.read(go_on, 1)

            status = 1
            try:
                work(pause)
                status = 0
            finally:
                os._exit(status)
        os.close(there)
        os.close(go_on)
        assert os.read(here, 1) == b"!", "the child ended early"
        os.close(here)

    def end(self) -> int:
        """Let it continue to its end and return its exit status."""
        os.close(self._go_on)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.end()


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


class TestManyProcesses:
    @pytest.fixture(autouse=True)
    def patient(self, monkeypatch):
        monkeypatch.setattr(database, "_WRITE_WAIT_SECONDS", BOUND)

    def test_fifty_children_of_a_busy_parent_read_at_once(self, store, later):
        # The parent's threads are in the middle of sqlite3 calls when it forks.
        store.replace("g", {"n": b"row"}, later)
        done = threading.Event()

        def busy() -> None:
            number = 0
            while not done.is_set():
                number += 1
                store.read("g", ["n"])
                store.replace("busy", {"n": b"%d" % number}, later)

        threads = [threading.Thread(target=busy, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()

        def read() -> bool:
            while store.read("g", ["n"]) != {"n": b"row"}:
                pass  # the database was locked for too long, which is a miss
            return True

        try:
            with children(50, read) as statuses:
                assert statuses() == [0] * 50
        finally:
            done.set()
            for thread in threads:
                thread.join(BOUND)
        assert not any(thread.is_alive() for thread in threads)

    def test_no_write_of_twelve_processes_at_once_is_lost(self, store, later):
        def write(number: int) -> bool:
            for _ in range(5):
                store.replace(f"group {number}", {"n": b"%d" % number}, later)
            return True

        with children(12, write) as statuses:
            assert statuses() == [0] * 12
        for number in range(12):
            assert store.read(f"group {number}", ["n"]) == {"n": b"%d" % number}

    def test_readers_never_see_part_of_a_group(self, store, later):
        names = [str(number) for number in range(40)]

        def replace(generation: int) -> None:
            store.replace("g", dict.fromkeys(names, b"%d" % generation * 200), later)

        def write(_number: int) -> bool:
            for generation in range(60):
                replace(generation)
            return True

        replace(0)
        seen = []
        with children(2, write) as statuses:
            while len(seen) < 300:
                rows = store.read("g", names)
                assert len(rows) in (0, len(names))  # none where the database was locked for too long
                assert len(set(rows.values())) <= 1
                seen += [set(rows.values())]
            assert statuses() == [0, 0]
        assert any(seen)

    @pytest.mark.parametrize("calls", range(0, 1800, 180))
    def test_a_writer_that_is_killed_leaves_the_old_rows_or_the_new_ones(self, store, later, calls):
        names, replace = [str(number) for number in range(300)], database.replace
        store.replace("g", dict.fromkeys(names, b"before" * 100), later)

        def write(pause: Callable[[], None]) -> None:
            made = 0

            def count(_frame: object, event: str, _argument: object) -> None:
                nonlocal made
                made += event == "c_call"  # most of these calls are into SQLite
                if made > calls:
                    os.kill(os.getpid(), signal.SIGKILL)

            def replace_and_count(*arguments: Any) -> bool:
                sys.setprofile(count)
                return replace(*arguments)

            database.replace = replace_and_count
            pause()
            store.replace("g", dict.fromkeys(names, b"after" * 100), later)

        assert Child(write).end() == -signal.SIGKILL
        rows = store.read("g", names)
        assert len(rows) == len(names)
        assert set(rows.values()) in ({b"before" * 100}, {b"after" * 100})
        store.replace("g", {"n": b"after"}, later)
        assert store.read("g", ["n"]) == {"n": b"after"}

    def test_a_writer_that_is_killed_halfway_leaves_the_rows_before_it(self, store, folder, later):
        store.replace("g", dict.fromkeys(map(str, range(500)), b"before"), later)

        class KilledHalfway(dict):
            def items(self):
                yield from list(super().items())[:400]
                assert Path(folder / "store.sqlite-journal").exists()
                os.kill(os.getpid(), signal.SIGKILL)

        def write(pause: Callable[[], None]) -> None:
            pause()
            sealed = KilledHalfway({str(number): b"after" * 500 for number in range(500)})
            database.replace(folder / "store.sqlite", "g", database.Rows(b"after", sealed), later, later - 1)

        assert Child(write).end() == -signal.SIGKILL
        assert (folder / "store.sqlite-journal").exists()
        assert store.read("g", ["1", "499"]) == {"1": b"before", "499": b"before"}


@contextmanager
def children(count: int, work: Callable[..., bool]):
    """Start `count` children at once; yields a function that waits for them and returns their exit statuses, 0 where
    `work` returned `True`."""
    pids = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = 0 if work(*[number][: work.__code__.co_argcount]) else 2
            finally:
                os._exit(status)
        pids.append(pid)

    def statuses() -> list[int | None]:
        end = time.monotonic() + BOUND
        found: dict[int, int] = {}
        while len(found) < count and time.monotonic() < end:
            for pid in set(pids) - set(found):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    found[pid] = os.waitstatus_to_exitcode(status)
            threading.Event().wait(0.005)
        return [found.get(pid) for pid in pids]

    try:
        yield statuses
    finally:
        for pid in pids:
            try:
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
            except ChildProcessError:
                pass  # it has ended before
