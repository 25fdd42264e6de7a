"""Processes as OpenShift and Docker run them: any user id, without an entry in the passwd database, without HOME, on a root
that nobody can write to, with little room in `/dev/shm` or none.

A mount namespace makes that of this machine, so it needs root; nothing outside of the namespace changes.
"""

from __future__ import annotations

import os
import pwd
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.environments import ROOT

UID = 1000650000
"""A user id as OpenShift gives one to a project."""

SHARED_MEMORY: Mapping[str, str] = {
    "64 MB": "mount -t tmpfs -o size=64m,mode=1777 shm /dev/shm",
    "full": "mount -t tmpfs -o size=64m,mode=1777 shm /dev/shm; head -c 70M /dev/zero > /dev/shm/ballast 2>&- || true",
    "read-only": "mount -t tmpfs -o size=64m,mode=1777 shm /dev/shm; mount -o remount,ro /dev/shm",
    # Not removed: it is the machine's. What is mounted has all that a process needs of /dev, and no such folder.
    "missing": "mount -t tmpfs -o mode=755 dev /dev; "
    + "; ".join(
        f"mknod -m 666 /dev/{name} c 1 {minor}"
        for name, minor in (("null", 3), ("zero", 5), ("random", 8), ("urandom", 9))
    ),
}
"""Commands that make `/dev/shm` what it is in a container, by what it is."""


def skip_without_namespaces() -> None:
    """Skip a test on a machine that does not let it make such a namespace."""
    try:
        done = subprocess.run(
            ["unshare", "--mount", "setpriv", "--version"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("this machine has no `unshare`")
    if done.returncode != 0:
        pytest.skip(f"no mount namespace with another user can be made here: {done.stderr.strip()}")
    with pytest.raises(KeyError):
        pwd.getpwuid(UID)


def run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], shared_memory: str = "64 MB"
) -> subprocess.CompletedProcess[str]:
    """Run a command in a container to its end, with exactly this environment.

    `folder` is one that every user can read. In it `writable`, alone in the whole container, can be written to.
    """
    (folder / "writable").mkdir(exist_ok=True)
    steps = [
        "set -e",
        *_opened([Path(sys.base_prefix), Path(sys.prefix), ROOT], folder),
        f"mount -t tmpfs -o mode=1777 writable {folder}/writable",
        SHARED_MEMORY[shared_memory],
        "mount -o remount,ro,bind /",
        f"exec setpriv --reuid {UID} --regid 0 --clear-groups --no-new-privs {shlex.join(command)}",
    ]
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(steps)],
        env={"PATH": os.environ["PATH"], **environment},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def _opened(paths: Iterable[Path], folder: Path) -> list[str]:
    """Return commands that make `paths` readable for every user, where a folder above them is closed to others."""
    closed = {path: _closed_above(path) for path in {path.resolve() for path in paths}}
    to_do = {path: above for path, above in closed.items() if above is not None}
    copies = {path: folder / f"opened-{number}" for number, path in enumerate(sorted(to_do))}
    steps = [f"mkdir -p {copy}; mount --bind {path} {copy}" for path, copy in copies.items()]
    steps += [f"mount -t tmpfs -o mode=755 opened {above}" for above in sorted(set(to_do.values()))]
    return steps + [f"mkdir -p {path}; mount --bind {copy} {path}" for path, copy in copies.items()]


def _closed_above(path: Path) -> Path | None:
    for parent in [*reversed(path.parents), path]:
        if not parent.stat().st_mode & stat.S_IXOTH:
            return parent
    return None
