"""A lock on a file, which the kernel releases when the process ends, however it ends.

From `fcntl` and not from a library: each task process that waits for another one's mint needs such a lock. Of 200 that start
together, each spent more on importing filelock than on all the rest of its wait, and slowed the minting process down. And
where filelock is loaded, two threads that fork at once make `os.fork` fail (Python 3.13).
https://man7.org/linux/man-pages/man2/flock.2.html
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from redshift_secrets.cache import forks

_ATTEMPTS = 100
_NONE = -1


class FileLock:
    """A lock that is held. It excludes threads of this process as well; no child of a fork and no started program inherits
    it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self.descriptor = descriptor
        forks.reset_in_child(self)

    @classmethod
    def acquire(cls, path: Path) -> FileLock | None:
        """Return the lock on the file at `path`, which is created if it does not exist; `None` when another process or thread holds it.

        Raises `OSError` where files cannot be locked at all.
        """
        with forks.no_fork_here:  # a child would hold a lock that it does not know of
            for _ in range(_ATTEMPTS):
                lock = cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
                try:
                    fcntl.flock(lock.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # The last owner may have removed the file after it was opened here: the next one will lock another file.
                    if lock.is_at_its_path():
                        return lock
                except (BlockingIOError, PermissionError):  # the latter by some network file systems
                    lock.close()
                    return None
                except BaseException:
                    lock.close()
                    raise
                lock.close()
        return None

    def renew(self) -> None:
        """Do nothing: the kernel keeps the lock as long as the process lives."""

    def release(self) -> None:
        """Remove the file while nobody else can have it, so that lock files do not accumulate, and release the lock."""
        if self.descriptor == _NONE:  # released before, or in the child of a fork: the file is the parent's
            return
        with suppress(OSError):
            if self.is_at_its_path():
                os.unlink(self._path)
        self.close()

    def is_at_its_path(self) -> bool:
        """Whether the locked file is still the one at its path."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), os.lstat(self._path))
        except FileNotFoundError:
            return False

    def reset_after_fork(self) -> None:
        """Called in the child, where closing does not free what the parent holds."""
        self.close()

    def close(self) -> None:
        """Release the lock, and leave the file."""
        descriptor, self.descriptor = self.descriptor, _NONE
        if descriptor != _NONE:
            with suppress(OSError):
                os.close(descriptor)

    def __del__(self) -> None:
        self.close()


def remove_old_locks(folder: Path, prefix: str, before: float) -> None:
    """Remove the lock files with this prefix that killed processes left behind, if they are older than `before`, in seconds
    since the epoch; never raises."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.stat().st_mtime < before:
                lock = FileLock.acquire(folder / entry.name)
                if lock is not None:
                    lock.release()
