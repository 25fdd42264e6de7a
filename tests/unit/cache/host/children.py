"""Forked children of a test, which it pauses, kills, or lets run to their end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager

from tests.support.helpers import BOUND


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
