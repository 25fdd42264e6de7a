"""The host tier among processes: one renews, whoever dies frees the others, and nothing crosses a fork."""

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

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.sealing import Seal
from tests.support.helpers import BOUND, Crowd, in_child

SEAL = Seal([Fernet.generate_key().decode()])


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(folder, clock):
    return HostStore(folder, SEAL, clock=clock)


@pytest.fixture
def later(clock):
    return clock() + 100


class Child:
    """A forked process that says when it is where the test wants it, and stays there until it is killed or told to end."""

    def __init__(self, work: Callable[[Callable[[], None]], None]) -> None:
        here, there = os.pipe()
        self._told, self._tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._tell)

            def stay() -> None:
                os.write(there, b"!")
                os.read(self._told, 1)

            status = 1
            try:
                work(stay)
                status = 0
            finally:
                os._exit(status)
        os.close(there)
        os.close(self._told)
        assert os.read(here, 1) == b"!", "the child died"
        os.close(here)

    def end(self) -> int:
        """Let it go on to its end and return its exit status."""
        os.close(self._tell)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.end()


def get(store: HostStore, group: str = "g"):
    claim = store.claim(group)
    assert claim is not None, "another process has the claim"
    return claim


def claimable(store: HostStore, group: str = "g") -> bool:
    claim = store.claim(group)
    if claim is None:
        return False
    claim.release()
    return True


class TestClaims:
    def test_one_at_a_time_for_each_group(self, store):
        first = get(store)
        assert store.claim("g") is None
        assert claimable(store, "other")
        first.release()
        assert claimable(store)

    def test_releasing_twice_does_not_free_the_next_holder(self, store):
        first = get(store)
        first.release()
        second = get(store)
        first.release()
        assert not claimable(store)
        second.release()

    def test_threads_exclude_each_other(self, store):
        claims = Crowd(8, lambda: store.claim("g")).outcomes()
        assert sorted(claim is None for claim in claims) == [False] + [True] * 7

    def test_processes_exclude_each_other(self, store):
        child = Child(lambda stay: (get(store), stay()))
        assert not claimable(store)
        assert child.end() == 0
        assert claimable(store)

    def test_racing_processes_are_never_in_there_together(self, store, folder, tmp_path):
        inside, count = tmp_path / "inside", 6

        def race() -> int:
            won = 0
            while won < 10:
                claim = store.claim("g")
                if claim is not None:
                    os.mkdir(inside)  # fails where another one is in there
                    os.rmdir(inside)
                    claim.release()
                    won += 1
            return won

        assert Crowd(count, lambda: in_child(race)).outcomes() == [10] * count
        assert os.listdir(folder) == []

    def test_a_killed_holder_frees_the_others(self, store):
        child = Child(lambda stay: (get(store), stay()))
        assert not claimable(store)
        child.kill()
        assert claimable(store)

    def test_a_killed_holder_frees_the_others_while_a_child_of_it_lives_on(self, store, tmp_path):
        grandchild = tmp_path / "pid"

        def work(stay: Callable[[], None]) -> None:
            claim = get(store)
            grandchild.write_text(str(Child(lambda sit: (sit(), sit())).pid))
            stay()
            claim.release()

        child = Child(work)
        child.kill()
        try:
            os.kill(int(grandchild.read_text()), 0)  # it is alive
            assert claimable(store)
        finally:
            os.kill(int(grandchild.read_text()), signal.SIGKILL)

    def test_a_child_has_nothing_of_its_parents_claim(self, store):
        claim = get(store)

        def in_the_child() -> list[bool]:
            before = claimable(store)
            claim.release()
            return [before, claimable(store)]

        assert in_child(in_the_child) == [False, False]
        assert not claimable(store)
        claim.release()
        assert claimable(store)

    def test_a_child_that_lives_on_does_not_keep_what_its_parent_released(self, store):
        claim = get(store)
        child = Child(lambda stay: stay())
        claim.release()
        assert claimable(store)
        assert child.end() == 0

    def test_a_program_that_is_started_does_not_keep_it_either(self, store):
        claim = get(store)
        program = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
        try:
            claim.release()
            assert claimable(store)
            assert program.poll() is None
        finally:
            program.communicate(b"\n")

    def test_lock_files_do_not_pile_up(self, store, folder, clock, later):
        for number in range(20):
            get(store, f"group {number}").release()
        assert os.listdir(folder) == []

        def killed(stay: Callable[[], None]) -> None:
            for number in range(5):
                assert store.claim(f"group {number}")
            stay()

        Child(killed).kill()
        held = get(store, "held")
        assert len(os.listdir(folder)) == 6
        clock.now = time.time()
        store.replace("g", {"n": b"x"}, clock() + 100)
        assert len(os.listdir(folder)) == 7  # they may be somebody's
        clock.pass_(3601)
        store.replace("g", {"n": b"x"}, clock() + 100)
        assert len(os.listdir(folder)) == 2  # the store, and what is held
        assert not claimable(store, "held")
        held.release()

    def test_a_claim_that_is_forgotten_is_free(self, store):
        claim = store.claim("g")
        del claim
        assert claimable(store)


class TestManyProcesses:
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
                pass  # locked for too long, which is a miss
            return True

        try:
            with children(50, read) as statuses:
                assert statuses() == [0] * 50
        finally:
            done.set()
            for thread in threads:
                thread.join(BOUND)
        assert not any(thread.is_alive() for thread in threads)

    def test_no_write_of_many_at_once_is_lost(self, store, later):
        def write(number: int) -> bool:
            for _ in range(5):
                store.replace(f"group {number}", {"n": b"%d" % number}, later)
            return True

        with children(12, write) as statuses:
            assert statuses() == [0] * 12
        for number in range(12):
            assert store.read(f"group {number}", ["n"]) == {"n": b"%d" % number}

    def test_readers_never_see_half_of_a_group(self, store, later):
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
                assert len(rows) in (0, len(names))  # none at all where the store was locked too long
                assert len(set(rows.values())) <= 1
                seen += [set(rows.values())]
            assert statuses() == [0, 0]
        assert any(seen)

    @pytest.mark.parametrize("nap", [number / 500 for number in range(10)])
    def test_a_writer_that_is_killed_leaves_all_of_a_group_or_none(self, store, later, nap):
        names = [str(number) for number in range(300)]

        def write(stay: Callable[[], None]) -> None:
            threading.Thread(target=stay, daemon=True).start()
            for generation in range(10**6):
                store.replace("g", dict.fromkeys(names, b"%d" % generation * 200), later)

        child = Child(write)
        threading.Event().wait(nap)  # not to wait for anything, but to be killed at another point each time
        child.kill()
        rows = store.read("g", names)
        assert len(rows) in (0, len(names))
        assert len(set(rows.values())) <= 1
        store.replace("g", {"n": b"after"}, later)
        assert store.read("g", ["n"]) == {"n": b"after"}

    def test_a_writer_killed_in_the_middle_leaves_what_was_there(self, store, folder, later):
        store.replace("g", dict.fromkeys(map(str, range(500)), b"before"), later)

        class DiesHalfway(dict):
            def items(self):
                yield from list(super().items())[:400]
                assert Path(folder / "store.sqlite-journal").exists()
                os.kill(os.getpid(), signal.SIGKILL)

        def write(stay: Callable[[], None]) -> None:
            from redshift_secrets.cache.host import database

            stay()
            sealed = DiesHalfway({str(number): b"after" * 500 for number in range(500)})
            database.replace(folder / "store.sqlite", "g", database.Rows(b"after", sealed), later, later - 1)

        assert Child(write).end() == -signal.SIGKILL
        assert (folder / "store.sqlite-journal").exists()
        assert store.read("g", ["1", "499"]) == {"1": b"before", "499": b"before"}


@contextmanager
def children(count: int, work: Callable[..., bool]):
    """Start `count` children at once; what it gives returns their exit statuses, 0 where `work` returned `True`."""
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
                pass  # it has been waited for
