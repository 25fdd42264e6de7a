"""Where on this host the store is, and whether a folder is private enough for it."""

from __future__ import annotations

import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

from redshift_secrets.cache import get_logger

log = get_logger(__name__)

_NAME = "redshift-secrets"
_SHARED_MEMORY = Path("/dev/shm")
_MOUNTS = Path("/proc/self/mounts")


def default_cache_dir(configured: str | None) -> Path:
    """Return the folder for this OS user's store: as configured, else in memory where the system has such a folder, else on
    disk. Raises `FileNotFoundError` where the user has no home that it would have to be in.

    It depends on nothing but the user and `configured`, so that a service and its operator's shell find the same store; and,
    in memory where everybody may create folders, on whether somebody else has taken the place: a warning says so. Nothing
    is created.
    """
    if configured:
        first, *others = Path(configured).parts
        return Path(_home_dir(first[1:]) if first.startswith("~") else first, *others).absolute()
    if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK) and is_memory_backed(_SHARED_MEMORY):
        folder = _SHARED_MEMORY / f"{_NAME}-{os.geteuid()}"
        try:
            check_private_dir(folder)
        except PermissionError as error:
            log.warning("host store: %s. Until then it is on disk", error)
        except FileNotFoundError:
            return folder
        else:
            return folder
    return _home_dir() / ".cache" / _NAME


def _home_dir(user: str = "") -> Path:
    """The home of a user in the passwd database, by default of this process's; `HOME` may be another one."""
    with suppress(KeyError):  # no such user, or a process whose user has no entry
        home = Path((pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid())).pw_dir)
        if home.is_absolute():
            return home
    raise FileNotFoundError(f"there is no home of user {user or os.geteuid()}; set cache.path to an absolute path")


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
