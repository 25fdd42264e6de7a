"""A fork waits for code that it must not interrupt: without deadlocks, and never for long."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

import pytest

from redshift_secrets.cache import forks
from redshift_secrets.cache.forks import ExitingThreads, ForkGate
from redshift_secrets.cache.workers import Workers
from tests.support.helpers import BOUND, all_refreshes_done, in_child


class Inside(threading.Thread):
    """A thread that stays inside the gate until `leave` is called."""

    def __init__(self, gate: ForkGate) -> None:
        super().__init__(daemon=True)
        self._gate = gate
        self.entered = threading.Event()
        self._leave = threading.Event()
        self.start()

    def run(self) -> None:
        with self._gate:
            self.entered.set()
            assert self._leave.wait(BOUND)

    def leave(self) -> None:
        self._leave.set()
        self.join(BOUND)


class TestForkGate:
    def test_many_threads_are_inside_at_once(self):
        gate = ForkGate(BOUND)
        inside = [Inside(gate) for _ in range(8)]
        assert all(thread.entered.wait(BOUND) for thread in inside)
        for thread in inside:
            thread.leave()

    def test_a_fork_waits_for_the_threads_inside_and_no_thread_enters_until_it_is_done(self):
        gate = ForkGate(BOUND)
        inside = Inside(gate)
        assert inside.entered.wait(BOUND)
        forked = threading.Event()

        def fork() -> None:
            gate.before_fork()
            forked.set()

        forking = threading.Thread(target=fork, daemon=True)
        forking.start()
        while not gate._forks:
            pass
        late = Inside(gate)
        assert not forked.is_set()
        inside.leave()
        assert forked.wait(BOUND)
        assert not late.entered.is_set()
        gate.after_fork_in_parent()
        assert late.entered.wait(BOUND)
        late.leave()

    def test_a_thread_may_enter_twice_and_fork_inside(self):
        with forks.no_fork_here, forks.no_fork_here:
            assert in_child(self.enter) == "entered"
        assert in_child(self.enter) == "entered"

    @staticmethod
    def enter() -> str:
        inside = Inside(forks.no_fork_here)
        assert inside.entered.wait(BOUND)
        inside.leave()
        return "entered"

    def test_a_thread_inside_enters_again_while_a_fork_waits_for_it(self):
        gate = ForkGate(BOUND)
        with gate:
            forking = threading.Thread(target=gate.before_fork, daemon=True)
            forking.start()
            while not gate._forks:
                pass
            with gate:
                assert forking.is_alive()
        forking.join(BOUND)
        assert not forking.is_alive()

    def test_a_thread_that_never_leaves_blocks_neither_a_fork_nor_the_child(self):
        gate = ForkGate(bound_seconds=0)
        inside = Inside(gate)
        assert inside.entered.wait(BOUND)
        gate.before_fork()
        with gate:
            pass
        gate.after_fork_in_child()
        gate.before_fork()
        assert gate._inside == {}
        inside._leave.set()

    def test_threads_inside_in_the_parent_are_not_inside_in_the_child(self):
        inside = Inside(forks.no_fork_here)
        assert inside.entered.wait(BOUND)
        threading.Timer(0, inside.leave).start()
        assert in_child(lambda: dict(forks.no_fork_here._inside)) == {}


class TestExitingThreads:
    """An exiting thread takes a lock of OpenSSL, which a child forked at that moment would find taken."""

    def exiting(self, exiting_threads):
        """Return the system's id of a thread that has added itself and exited."""
        ids = []

        def run():
            exiting_threads.add_this_thread()
            ids.append(threading.get_native_id())

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(BOUND)
        return ids[0]

    def test_a_fork_waits_until_the_thread_has_exited(self):
        existing, naps = set(), []

        def sleep(seconds):
            naps.append(seconds)
            if len(naps) == 3:
                existing.clear()

        exiting_threads = ExitingThreads(existing.__contains__, sleep)
        existing.add(self.exiting(exiting_threads))
        exiting_threads.before_fork()
        assert len(naps) == 3
        exiting_threads.before_fork()
        assert len(naps) == 3

    def test_a_fork_waits_neither_forever_nor_twice_for_the_same_thread(self):
        naps = []
        exiting_threads = ExitingThreads(lambda _thread: True, naps.append, bound_seconds=0.5)
        for _ in range(3):
            self.exiting(exiting_threads)
        exiting_threads.before_fork()
        assert sum(naps) == pytest.approx(0.5)
        exiting_threads.before_fork()
        assert sum(naps) == pytest.approx(0.5)

    def test_an_exiting_thread_does_not_wait_for_itself(self):
        naps = []
        exiting_threads = ExitingThreads(lambda _thread: True, naps.append)
        exiting_threads.add_this_thread()
        exiting_threads.before_fork()
        assert naps == []

    def test_exited_threads_do_not_pile_up(self):
        exiting_threads = ExitingThreads()
        for _ in range(50):
            self.exiting(exiting_threads)
        assert len(exiting_threads._exiting) < 10

    def test_every_thread_of_this_package_adds_itself(self, monkeypatch):
        added = []
        monkeypatch.setattr(forks.exiting_threads, "add_this_thread", lambda: added.append(threading.current_thread()))
        Workers(1).submit(lambda: None)
        all_refreshes_done()
        assert [thread.name for thread in added] == ["redshift-secrets worker"]


HALFWAY = """
import importlib.abc, os, sys, threading

from redshift_secrets.cache.workers import Deadline, Run, Workers
from redshift_secrets.lookup.caller import caller_fingerprint
from redshift_secrets.lookup.wiring import LazyAwsClient
from redshift_secrets.settings import Settings

halfway, forking = threading.Event(), threading.Event()


class Slow(importlib.abc.MetaPathFinder):
    # Importing this module is a step of importing boto3: it waits there until the process forks.
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            halfway.set()
            forking.wait(30)


sys.meta_path.insert(0, Slow())
os.register_at_fork(before=forking.set)  # registered last, so it is the first
aws = LazyAwsClient(Settings.from_kwargs({{}}), caller_fingerprint(os.environ))
workers = Workers(2)


def use_boto3():
    run = Run(aws.default_region)
    workers.submit(run)
    return run


def result(run):
    run.wait(Deadline(20))
    return run.value


assert "boto3" not in sys.modules
first = use_boto3()
assert halfway.wait(30)
child = os.fork()
found = result(use_boto3())
if child == 0:
    os._exit(0 if found == "eu-west-1" else 1)
assert result(first) == found == "eu-west-1"
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize(
    "module", ["boto3.session", "botocore.client", "urllib3.connection", "boto3.resources.factory"]
)
def test_a_child_forked_while_another_thread_imports_boto3_can_use_it(module):
    script = textwrap.dedent(HALFWAY).format(module=module)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "AWS_DEFAULT_REGION": "eu-west-1",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
