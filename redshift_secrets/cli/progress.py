"""A sign of life on a terminal while something takes its time."""

from __future__ import annotations

import itertools
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_AFTER_SECONDS, _EVERY_SECONDS = 0.5, 0.1
_FRAMES = "|/-\\"
_ERASE = "\r\x1b[K"


class Spinner:
    """Turns on a terminal's last line, from half a second on until it ends."""

    def __init__(self, what: str, stream: TextIO) -> None:
        self._what = what
        self._stream = stream
        self._over = threading.Event()
        self._drawing = threading.Lock()

    def say(self, what: str) -> None:
        """Show something else from the next turn on."""
        self._what = what

    def turn(self) -> None:
        """Draw until it is over."""
        pause = _AFTER_SECONDS
        for frame in itertools.cycle(_FRAMES):
            if self._over.wait(pause):
                return
            pause = _EVERY_SECONDS
            with self._drawing:
                if not self._over.is_set():
                    line = f"{frame} {self._what}"[: shutil.get_terminal_size().columns - 1]
                    self._stream.write(f"{_ERASE}{line}")
                    self._stream.flush()

    def erase(self) -> None:
        """Clear the line, for what is printed there."""
        with self._drawing:
            self._stream.write(_ERASE)
            self._stream.flush()

    def end(self) -> None:
        """Stop, and clear the line."""
        self._over.set()
        self.erase()


_running: list[Spinner] = []


@contextmanager
def spinner(what: str, stream: TextIO | None = None, quiet: bool = False) -> Iterator[None]:
    """Show on a terminal that the work in this block goes on, unless it has to be `quiet`."""
    stream = stream or sys.stderr
    if quiet or not stream.isatty() or _running:
        yield
        return
    shown = Spinner(what, stream)
    _running.append(shown)
    threading.Thread(target=shown.turn, daemon=True).start()
    try:
        yield
    finally:
        _running.clear()
        shown.end()


def say(what: str) -> None:
    """Have a spinner that is running show what is being done now."""
    for shown in _running:
        shown.say(what)


def make_room() -> None:
    """Clear the line of a spinner that is running, before something else is printed."""
    for shown in _running:
        shown.erase()
