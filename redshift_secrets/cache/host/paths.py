"""Where on this host the store is, and whether a folder is private enough for it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_NAME = "redshift-secrets"
_SHARED_MEMORY = Path("/dev/shm")
_MOUNTS = Path("/proc/self/mounts")


def default_cache_dir(configured: str | None, environ: Mapping[str, str]) -> Path:
    """Return the folder for this OS user's store: as configured, else in memory where the system has such a folder, else on
    disk. Raises `FileNotFoundError` where the user has no home that it would have to be in.

    Nothing is created, and nothing is checked that `ensure_private_dir` checks.
    """
    if configured:
        path = Path(os.path.expanduser(configured))
        if path.parts[0].startswith("~"):  # no such user, or one without an entry in the passwd database
            raise FileNotFoundError(f"there is no home for {path.parts[0]}; set cache.path to an absolute path")
        return path.absolute()
    runtime = Path(environ.get("XDG_RUNTIME_DIR", ""))
    # After `su` the variable may still be that of another user.
    if runtime.is_absolute() and _is_own_dir(runtime):
        return runtime / _NAME
    if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK) and is_memory_backed(_SHARED_MEMORY):
        return _SHARED_MEMORY / f"{_NAME}-{os.geteuid()}"
    import platformdirs  # few get here

    with suppress(RuntimeError):  # as newer releases say that there is no home; older ones leave the ~
        path = platformdirs.user_cache_path(_NAME, appauthor=False)
        if not path.parts[0].startswith("~"):
            return path.absolute()
    raise FileNotFoundError(f"user {os.geteuid()} has no home; set cache.path")


def _is_own_dir(folder: Path) -> bool:
    try:
        status = os.stat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and os.access(folder, os.W_OK | os.X_OK)


def ensure_private_dir(folder: Path) -> None:
    """Create the folder unless it exists, for this OS user alone; raises `OSError` where it cannot be created or trusted."""
    try:
        check_private_dir(folder)
    except FileNotFoundError:
        os.makedirs(folder.parent, exist_ok=True)
        with suppress(FileExistsError):  # another process was faster
            os.mkdir(folder, 0o700)
        check_private_dir(folder)


def check_private_dir(folder: Path) -> None:
    """Raise `PermissionError` saying what is wrong and what to do, where other users have access to the folder.

    `FileNotFoundError` where there is none.
    """
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode):
        raise PermissionError(f"{folder} is not a folder itself (a link, or a file); remove it or set cache.path")
    if status.st_uid != os.geteuid():
        raise PermissionError(
            f"{folder} belongs to user {status.st_uid}, not to user {os.geteuid()}; remove it or set cache.path"
        )
    if status.st_mode & 0o077:
        raise PermissionError(f"{folder} is open to others; remove it, or chmod 700 if you trust what is in it")


def is_memory_backed(folder: Path) -> bool:
    """Whether what is written there stays in memory; `False` where the system does not say."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    path = os.path.realpath(folder)
    longest, kind = "", ""
    for line in lines:
        _device, point, found, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(longest):  # of two mounts on one point, the later one covers the other
            longest, kind = point, found
    return kind in ("tmpfs", "ramfs")
