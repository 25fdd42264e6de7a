"""A stand-in in the background: `redshift-secrets local up --detach` starts it, `down` stops it. There is one for an OS user.

What runs says so in a file that it has locked for as long as it does, so that nobody takes a file that was left, or another process of
the same number, for it.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redshift_secrets.local import command

_START_SECONDS, _STOP_SECONDS = 180.0, 60.0
_PAUSE_SECONDS = 0.1


class DetachedError(Exception):
    """It cannot be started or stopped; the message says why."""


def state_file() -> Path:
    """Return the file that says what runs in the background for this OS user."""
    return Path(tempfile.gettempdir()) / f"redshift-secrets-local-{os.getuid()}.json"


def start(config: Path | None, port: int, env_file: Path | None, *, pause: Callable[[float], None]) -> list[str]:
    """Start one and return what to print once it serves. `pause` takes seconds. Raises `DetachedError`, also where one runs already."""
    state = state_file()
    running = _running(state)
    if running is not None:
        raise DetachedError(f"one runs already (process {running['pid']}): stop it with redshift-secrets local down")
    log = state.with_suffix(".log")
    for left in (state, log):
        left.unlink(missing_ok=True)
    arguments = [str(config.resolve()) if config else "", str(port), str(env_file.resolve()) if env_file else ""]
    with open(os.open(log, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "redshift_secrets.local.detached", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    for _ in range(int(_START_SECONDS / _PAUSE_SECONDS)):
        found = _running(state)
        if found is not None and found["lines"]:
            return list(found["lines"])
        if child.poll() is not None:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            log.unlink(missing_ok=True)
            raise DetachedError(lines[-1] if lines else f"it ended with {child.returncode}")
        pause(_PAUSE_SECONDS)
    child.terminate()
    raise DetachedError(f"it did not start within {_START_SECONDS:g} s; see {log}")


def stop(*, pause: Callable[[float], None]) -> str:
    """Stop the one that runs, and return what takes its environment back in a shell. Raises `DetachedError` where none does."""
    state = state_file()
    found = _running(state)
    if found is None:
        raise DetachedError("no stand-in runs in the background")
    os.kill(int(found["pid"]), signal.SIGTERM)
    for _ in range(int(_STOP_SECONDS / _PAUSE_SECONDS)):
        if _running(state) is None:
            state.with_suffix(".log").unlink(missing_ok=True)
            return str(found["unset"])
        pause(_PAUSE_SECONDS)
    raise DetachedError(f"process {found['pid']} did not stop within {_STOP_SECONDS:g} s")


def _running(state: Path) -> dict[str, Any] | None:
    """Return what the file says, `None` where nothing runs that has locked it."""
    try:
        descriptor = os.open(state, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DetachedError(f"{state} cannot be used: {error.strerror}") from None
    with open(descriptor, encoding="utf-8") as file:
        about = os.fstat(descriptor)
        if about.st_uid != os.getuid() or not stat.S_ISREG(about.st_mode):
            raise DetachedError(f"{state} belongs to somebody else")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                return dict(json.loads(file.read()))
            except ValueError:
                return {"pid": 0, "lines": [], "unset": ""}  # it is being written
        return None


def main(config: str, port: str, env_file: str) -> None:
    """Run one until it is told to stop, with the file of this OS user."""
    state = state_file()
    descriptor = os.open(state, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:

            def say(lines: list[str], unset: str) -> None:
                json.dump({"pid": os.getpid(), "lines": lines, "unset": unset}, file)
                file.flush()

            command.up(
                Path(config) if config else None, int(port), env_file=Path(env_file) if env_file else None, ready=say
            )
    except (command.ConfigError, command.EnvFileError, OSError) as error:
        sys.exit(str(error))
    finally:
        state.unlink(missing_ok=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
