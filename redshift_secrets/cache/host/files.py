"""Empty files that only the OS user can read. They can be made on a disk that is full, and are never opened again."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def make_file(path: Path) -> None:
    """Make an empty file unless there is something at `path`; raises `OSError` where it cannot be made."""
    # O_EXCL sees to it that a database is never opened past sqlite3: closing it would drop sqlite3's locks on it.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def touch(path: Path, moment_ns: int) -> None:
    """Give the file the time `moment_ns` (since the epoch), and make it first if it does not exist; raises `OSError`."""
    make_file(path)
    os.utime(path, ns=(moment_ns, moment_ns), follow_symlinks=False)


def time_ns(path: Path) -> int | None:
    """Return the time of the file, `None` where there is none."""
    try:
        return os.lstat(path).st_mtime_ns
    except FileNotFoundError:
        return None
