"""Runs `redshift-secrets` as a user does, in a process of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = (str(Path(sys.executable).parent / "redshift-secrets"),)
PATIENT_COMMAND = (sys.executable, "-m", "tests.e2e.patient_command")
"""The same command, in a process that gives a busy Redis time."""


def run(
    *arguments: str, command: tuple[str, ...] = COMMAND, environment: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; it must not end with a traceback."""
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def run_at_terminal(
    *arguments: str, columns: int, environment: Mapping[str, str] = os.environ, no_color: bool = False
) -> tuple[int, str]:
    """Run the command on a pseudo terminal of so many columns; return its exit code and what the terminal got, line ends as they are
    in files."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    own = {"TERM": "xterm", **({"NO_COLOR": "1"} if no_color else {})}
    kept = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "TERM")}
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env={**kept, **own},
        stdin=writer,
        stdout=writer,
        stderr=writer,
        start_new_session=True,
    )
    os.close(writer)
    printed = b""
    watchdog = threading.Timer(300, process.kill)
    watchdog.start()
    try:
        with contextlib.suppress(OSError):  # what Linux says when the other end is closed
            while part := os.read(reader, 65536):
                printed += part
        return process.wait(), printed.decode().replace("\r\n", "\n")
    finally:
        watchdog.cancel()
        os.close(reader)


def as_seen(printed: str) -> list[str]:
    """Return the lines that a terminal shows in the end, without colours: what a spinner has drawn is gone."""
    plain = re.sub(r"\x1b\[\d*m", "", printed)
    return [line.rpartition("\x1b[K")[2].rpartition("\r")[2] for line in plain.split("\n")]
