"""Answer Ctrl-C at once, and still clean up."""

from __future__ import annotations

import os
import signal
import sys
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
