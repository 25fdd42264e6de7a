"""What a fork must not cut in two: it waits, in no order that could lock anyone up, and never for long."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

import pytest

from redshift_secrets.cache import Deadline, forks
from redshift_secrets.cache.flight import Flight
from redshift_secrets.cache.forks import Endings, Uncut
from redshift_secrets.parallel import run_all
from tests.helpers import BOUND, all_landed, in_child


class Inside(threading.Thread):
    """A thread that is in there until it is told to leave."""

    def __init__(self, uncut: Uncut) -> None:
        super().__init__(daemon=True)
        self._uncut = uncut
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
        uncut = Uncut(BOUND)
        inside = [Inside(uncut) for _ in range(8)]
        assert all(thread.there.wait(BOUND) for thread in inside)
        for thread in inside:
            thread.leave()

    def test_a_fork_waits_for_those_who_are_in_there_and_lets_nobody_in_before_it_is_over(self):
        uncut = Uncut(BOUND)
        inside = Inside(uncut)
        assert inside.there.wait(BOUND)
        forked = threading.Event()

        def fork() -> None:
            uncut.before_fork()
            forked.set()

        forking = threading.Thread(target=fork, daemon=True)
        forking.start()
        while not uncut._forks:
            pass
        late = Inside(uncut)
        assert not forked.is_set()
        inside.leave()
        assert forked.wait(BOUND)
        assert not late.there.is_set()
        uncut.after_fork_in_parent()
        assert late.there.wait(BOUND)
        late.leave()

    def test_a_thread_may_go_in_twice_and_fork_in_there(self):
        with forks.uncut, forks.uncut:
            assert in_child(self.enter) == "entered"
        assert in_child(self.enter) == "entered"

    @staticmethod
    def enter() -> str:
        inside = Inside(forks.uncut)
        assert inside.there.wait(BOUND)
        inside.leave()
        return "entered"

    def test_a_thread_in_there_goes_in_again_while_a_fork_waits_for_it(self):
        uncut = Uncut(BOUND)
        with uncut:
            forking = threading.Thread(target=uncut.before_fork, daemon=True)
            forking.start()
            while not uncut._forks:
                pass
            with uncut:
                assert forking.is_alive()
        forking.join(BOUND)
        assert not forking.is_alive()

    def test_who_never_comes_out_holds_up_neither_a_fork_nor_the_child(self):
        uncut = Uncut(bound_seconds=0)
        inside = Inside(uncut)
        assert inside.there.wait(BOUND)
        uncut.before_fork()
        with uncut:
            pass
        uncut.after_fork_in_child()
        uncut.before_fork()
        assert uncut._inside == {}
        inside._leave.set()

    def test_what_was_in_there_in_the_parent_is_not_in_the_child(self):
        inside = Inside(forks.uncut)
        assert inside.there.wait(BOUND)
        threading.Timer(0, inside.leave).start()
        assert in_child(lambda: dict(forks.uncut._inside)) == {}


class TestEndings:
    """A thread that ends takes a lock of OpenSSL's, which a child that is forked at that moment would find taken."""

    def ending(self, endings):
        """The system's number of a thread that has said that it ends."""
        numbers = []

        def end():
            endings.add_this_thread()
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

        endings = Endings(alive.__contains__, sleep)
        alive.add(self.ending(endings))
        endings.before_fork()
        assert len(naps) == 3
        endings.before_fork()
        assert len(naps) == 3

    def test_a_fork_does_not_wait_for_ever_nor_again_for_the_same(self):
        naps = []
        endings = Endings(lambda _thread: True, naps.append, bound_seconds=0.5)
        for _ in range(3):
            self.ending(endings)
        endings.before_fork()
        assert sum(naps) == pytest.approx(0.5)
        endings.before_fork()
        assert sum(naps) == pytest.approx(0.5)

    def test_a_thread_that_ends_does_not_wait_for_itself(self):
        naps = []
        endings = Endings(lambda _thread: True, naps.append)
        endings.add_this_thread()
        endings.before_fork()
        assert naps == []

    def test_those_that_are_gone_do_not_pile_up(self):
        endings = Endings()
        for _ in range(50):
            self.ending(endings)
        assert len(endings._ending) < 10

    def test_each_thread_of_ours_says_so(self, monkeypatch):
        said = []
        monkeypatch.setattr(forks.endings, "add_this_thread", lambda: said.append(threading.current_thread()))
        run_all([lambda: None, lambda: None], threads=2, deadline=Deadline(BOUND))
        all_landed()
        flight = Flight("it", lambda: 1, lambda _flight: None)
        flight.start()
        assert flight.wait(Deadline(BOUND)) == 1
        all_landed()
        assert [thread.name.rpartition(" ")[0] for thread in said] == ["redshift-secrets worker"] * 2 + [
            "redshift-secrets"
        ]


HALFWAY = """
import importlib.abc, os, sys, threading

from redshift_secrets.assembly import AwsOnDemand
from redshift_secrets.cache import Deadline
from redshift_secrets.cache.flight import Flight
from redshift_secrets.settings import Settings

halfway, forking = threading.Event(), threading.Event()


class Slow(importlib.abc.MetaPathFinder):
    # Whoever imports this module is in the middle of boto3, and stays there until somebody forks.
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            halfway.set()
            forking.wait(30)


sys.meta_path.insert(0, Slow())
os.register_at_fork(before=forking.set)  # registered last, so it is the first
aws = AwsOnDemand(Settings.from_kwargs({{"regions": ["eu-west-1"]}}))


def look():
    flight = Flight("the scopes", lambda: len(aws.scopes()), lambda landed: None)
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
