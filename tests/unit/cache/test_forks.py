"""What a fork must not cut in two: it waits, in no order that could lock anyone up, and never for long."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

import pytest

from redshift_secrets.cache import Deadline, forks
from redshift_secrets.cache.forks import ExitingThreads, ForkGate
from redshift_secrets.cache.single_flight import BackgroundCall
from redshift_secrets.lookup.parallel import run_all
from tests.support.helpers import BOUND, all_refreshes_done, in_child


class Inside(threading.Thread):
    """A thread that is in there until it is told to leave."""

    def __init__(self, gate: ForkGate) -> None:
        super().__init__(daemon=True)
        self._uncut = gate
        self.there = threading.Event()
        self._leave = threading.Event()
        self.start()

    def run(self) -> None:
        with self._uncut:
            self.there.set()
            assert self._leave.wait(BOUND)

    def leave(self) -> None:
        self._leave.set()
        self.join(BOUND)


class TestUncut:
    def test_many_threads_are_in_there_at_once(self):
        gate = ForkGate(BOUND)
        inside = [Inside(gate) for _ in range(8)]
        assert all(thread.there.wait(BOUND) for thread in inside)
        for thread in inside:
            thread.leave()

    def test_a_fork_waits_for_those_who_are_in_there_and_lets_nobody_in_before_it_is_over(self):
        gate = ForkGate(BOUND)
        inside = Inside(gate)
        assert inside.there.wait(BOUND)
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
        assert not late.there.is_set()
        gate.after_fork_in_parent()
        assert late.there.wait(BOUND)
        late.leave()

    def test_a_thread_may_go_in_twice_and_fork_in_there(self):
        with forks.no_fork_here, forks.no_fork_here:
            assert in_child(self.enter) == "entered"
        assert in_child(self.enter) == "entered"

    @staticmethod
    def enter() -> str:
        inside = Inside(forks.no_fork_here)
        assert inside.there.wait(BOUND)
        inside.leave()
        return "entered"

    def test_a_thread_in_there_goes_in_again_while_a_fork_waits_for_it(self):
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

    def test_who_never_comes_out_holds_up_neither_a_fork_nor_the_child(self):
        gate = ForkGate(bound_seconds=0)
        inside = Inside(gate)
        assert inside.there.wait(BOUND)
        gate.before_fork()
        with gate:
            pass
        gate.after_fork_in_child()
        gate.before_fork()
        assert gate._inside == {}
        inside._leave.set()

    def test_what_was_in_there_in_the_parent_is_not_in_the_child(self):
        inside = Inside(forks.no_fork_here)
        assert inside.there.wait(BOUND)
        threading.Timer(0, inside.leave).start()
        assert in_child(lambda: dict(forks.no_fork_here._inside)) == {}


class TestEndings:
    """A thread that ends takes a lock of OpenSSL's, which a child that is forked at that moment would find taken."""

    def ending(self, exiting_threads):
        """The system's number of a thread that has said that it ends."""
        numbers = []

        def end():
            exiting_threads.add_this_thread()
            numbers.append(threading.get_native_id())

        thread = threading.Thread(target=end)
        thread.start()
        thread.join(BOUND)
        return numbers[0]

    def test_a_fork_waits_until_the_system_has_no_such_thread_any_more(self):
        alive, naps = set(), []

        def sleep(seconds):
            naps.append(seconds)
            if len(naps) == 3:
                alive.clear()

        exiting_threads = ExitingThreads(alive.__contains__, sleep)
        alive.add(self.ending(exiting_threads))
        exiting_threads.before_fork()
        assert len(naps) == 3
        exiting_threads.before_fork()
        assert len(naps) == 3

    def test_a_fork_does_not_wait_for_ever_nor_again_for_the_same(self):
        naps = []
        exiting_threads = ExitingThreads(lambda _thread: True, naps.append, bound_seconds=0.5)
        for _ in range(3):
            self.ending(exiting_threads)
        exiting_threads.before_fork()
        assert sum(naps) == pytest.approx(0.5)
        exiting_threads.before_fork()
        assert sum(naps) == pytest.approx(0.5)

    def test_a_thread_that_ends_does_not_wait_for_itself(self):
        naps = []
        exiting_threads = ExitingThreads(lambda _thread: True, naps.append)
        exiting_threads.add_this_thread()
        exiting_threads.before_fork()
        assert naps == []

    def test_those_that_are_gone_do_not_pile_up(self):
        exiting_threads = ExitingThreads()
        for _ in range(50):
            self.ending(exiting_threads)
        assert len(exiting_threads._ending) < 10

    def test_each_thread_of_ours_says_so(self, monkeypatch):
        said = []
        monkeypatch.setattr(forks.exiting_threads, "add_this_thread", lambda: said.append(threading.current_thread()))
        run_all([lambda: None, lambda: None], threads=2, deadline=Deadline(BOUND))
        all_refreshes_done()
        flight = BackgroundCall("it", lambda: 1, lambda _flight: None)
        flight.start()
        assert flight.wait(Deadline(BOUND)) == 1
        all_refreshes_done()
        assert [thread.name.rpartition(" ")[0] for thread in said] == ["redshift-secrets worker"] * 2 + [
            "redshift-secrets"
        ]


HALFWAY = """
import importlib.abc, os, sys, threading

from redshift_secrets.lookup.wiring import LazyAwsClient
from redshift_secrets.cache import Deadline
from redshift_secrets.cache.single_flight import BackgroundCall
from redshift_secrets.settings.settings import Settings

halfway, forking = threading.Event(), threading.Event()


class Slow(importlib.abc.MetaPathFinder):
    # Whoever imports this module is in the middle of boto3, and stays there until somebody forks.
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            halfway.set()
            forking.wait(30)


sys.meta_path.insert(0, Slow())
os.register_at_fork(before=forking.set)  # registered last, so it is the first
aws = LazyAwsClient(Settings.from_kwargs({{"regions": ["eu-west-1"]}}))


def look():
    flight = BackgroundCall("the scopes", lambda: len(aws.scopes()), lambda landed: None)
    flight.start()
    return flight


assert "boto3" not in sys.modules
first = look()
assert halfway.wait(30)
child = os.fork()
outcome = look().wait(Deadline(20))
if child == 0:
    os._exit(0 if outcome == 2 else 1)
assert first.wait(Deadline(20)) == outcome == 2
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("module", ["boto3.session", "botocore.client", "urllib3.connection", "s3transfer.manager"])
def test_a_fork_while_another_thread_loads_boto3_leaves_the_child_with_all_of_it(module):
    script = textwrap.dedent(HALFWAY).format(module=module)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
