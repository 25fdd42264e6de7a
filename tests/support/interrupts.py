"""Answer Ctrl-C at once, and still clean up."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType


def exit_on_signals(message: str) -> None:
    """Exit at SIGINT (130) or SIGTERM (143) through `SystemExit`, after printing `message`.

    Further signals are ignored, so that they do not interrupt the cleanup.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        os.write(1, f"{message}\n".encode())  # `print` is not reentrant
        sys.exit(128 + number)

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, leave)


@contextlib.contextmanager
def deferred_signals() -> Iterator[None]:
    """Handle SIGINT and SIGTERM at the end of the block, so that they cannot come between a process's start and the record
    of it, which would leave it running."""
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread alone
        return
    arrived: list[int] = []
    before = {
        each: signal.signal(each, lambda number, _frame: arrived.append(number))
        for each in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)
        for number in arrived:
            signal.raise_signal(number)
