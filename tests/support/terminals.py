"""Commands on a terminal of a given width."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping, Sequence

_SECONDS = 300


class OnATerminal:
    """A command whose input, output and errors are a terminal of `columns`. `await_text` waits for what it shows."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], columns: int) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        # COLUMNS would be asked before the terminal.
        kept = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self._process = subprocess.Popen(
            command, env={**kept, "TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self._raw = b""
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                more = os.read(self._ours, 65536)
            except OSError:  # its end is closed
                more = b""
            with self._changed:
                self._raw += more
                self._changed.notify_all()
            if not more:
                return

    def await_text(self, text: str) -> None:
        """Return once the command has shown this."""
        with self._changed:
            assert self._changed.wait_for(lambda: text.encode() in self._raw, _SECONDS), self._raw.decode()

    def type(self, keys: str) -> None:
        """Press these keys."""
        os.write(self._ours, keys.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.killpg(self._process.pid, signal.SIGINT)

    def has_ended(self, seconds: float) -> bool:
        """Whether the command ends within `seconds`."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode is not None

    def end(self, seconds: float = _SECONDS) -> int:
        """Return the exit code, within `seconds`."""
        try:
            return self._process.wait(seconds)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._reader.join(_SECONDS)
            os.close(self._ours)

    @property
    def raw(self) -> str:
        """Everything that it has written."""
        return self._raw.decode().replace("\r\n", "\n")

    @property
    def shown(self) -> str:
        """What is left on the terminal: without colours, and without lines that were written over."""
        lines = [line.rpartition("\x1b[K")[2].rpartition("\r")[2] for line in self.raw.split("\n")]
        return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))
