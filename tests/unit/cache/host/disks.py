"""A disk without room."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def fill(disk: Path) -> None:
    with open(disk / "ballast", "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    assert os.statvfs(disk).f_bavail == 0
