"""A lock on a file, which the kernel takes back when the process dies, however it dies.

From `fcntl` and not from a library: each task process that waits for another one's mint needs such a lock. Of 200 that start
together, each spent more on importing filelock than on all the rest of its wait, and held up the one who mints. And where
filelock is loaded, two threads that fork at once make `os.fork` fail (Python 3.13).
https://man7.org/linux/man-pages/man2/flock.2.html
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from redshift_secrets.cache import forks

_ATTEMPTS = 100


class FileLock:
    """A lock that is held. It excludes threads of this process as well; no child of a fork and no program that is started
    has any part in it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor
        forks.reset_in_child(self)

    @classmethod
    def take(cls, path: Path) -> FileLock | None:
        """Return the lock on the file at `path`, which is made where there is none; `None` when somebody else holds it.

        Raises `OSError` where files cannot be locked at all.
        """
        with forks.uncut:  # a child would hold what it does not know of
            for _ in range(_ATTEMPTS):
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # Who had it may have removed the file after it was opened here: the next one will lock another file.
                    if os.fstat(descriptor).st_nlink:
                        return cls(path, descriptor)
                except BlockingIOError:
                    os.close(descriptor)
                    return None
                except BaseException:
                    os.close(descriptor)
                    raise
                os.close(descriptor)
        return None

    def release(self) -> None:
        """Remove the file while nobody else can have it, so that lock files do not pile up, and let go."""
        if self._descriptor is None:  # released before, or in the child of a fork: the file is the parent's
            return
        with suppress(OSError):
            os.unlink(self._path)
        self._close()

    def reset_after_fork(self) -> None:
        """Called in the child, where closing does not free what the parent holds."""
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)

    def __del__(self) -> None:
        self._close()
