"""Make virtual environments, for the Makefile and for `make matrix`.

    python3 -m tests.support.environments demo|test

prepares `.venv` for `make demo`, or for everything else. It runs on a bare Python, before anything is installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from tests.support.interrupts import deferred_signals, exit_on_signals

ROOT = Path(__file__).parents[2]

_DEMO = ("--editable", ".[local]", "--group", "demo")
_TEST = ("--editable", ".[local,redis]", "--group", "test", "--group", "clients", "--group", "lint")
_DBT = ("--group", "dbt")
_PROGRESS_SECONDS = 3.0


class InstallError(Exception):
    """An environment could not be made; the message says why."""


def main(arguments: list[str]) -> int:
    """Prepare `.venv` for `demo` or `test`."""
    if sys.version_info < (3, 10):  # noqa: UP036 - any Python can be the one that runs this
        say("Python 3.10 or newer is needed; name one with: make PYTHON=python3.12 ...")
        return 1
    (purpose,) = arguments
    exit_on_signals("==> Interrupted; an unfinished .venv is removed.")
    try:
        with locked(ROOT / ".venv.lock"):
            _prepare(ROOT / ".venv", purpose)
    except InstallError as error:
        say(str(error))
        return 1
    return 0


def _prepare(folder: Path, purpose: str) -> None:
    demo, test = (f"{each}\n{pyproject_digest()}\n" for each in ("demo", "test"))
    if purpose == "test":
        install_chromium()
    found, wanted = read_stamp(folder), demo if purpose == "demo" else test
    if found in (wanted, test):
        return
    with making(folder, wanted):
        if found != demo:
            create(folder)
        if purpose == "demo":
            say("Installing Airflow and the stand-in for AWS and Redshift (550 MB, about a minute)")
            install(folder, *_DEMO)
        else:
            say("Installing all that tests, linters and benchmarks need (1.3 GB, two to five minutes)")
            install(folder, *_TEST)
            create(folder / "dbt")
            install(folder / "dbt", *_DBT)


def chromium() -> str | None:
    """Return the Chromium of this machine."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def install_chromium() -> None:
    """Install the browser that tests of the page in Airflow use, where there is none; raises `InstallError`."""
    if chromium() is not None:
        return
    say("Installing Chromium for the tests of the page in Airflow (100 MB)")
    privileged = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    try:
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
            _run([*privileged, "apt-get", *command], lambda _log: "apt-get")
    except (InstallError, OSError) as error:
        raise InstallError(f"{error}\nChromium is missing: on Debian, apt-get install chromium") from None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock on `path`, so that two processes never make one environment together."""
    with open(path, "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Waiting for another process, which uses {path.stem}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read_stamp(folder: Path) -> str:
    """Return the `contents` that `making` recorded for the environment in `folder`; empty if it is missing or incomplete."""
    try:
        return (folder / ".installed").read_text(encoding="utf-8")
    except OSError:
        return ""


@contextlib.contextmanager
def making(folder: Path, contents: str) -> Iterator[None]:
    """Make or extend the environment in `folder`; one that is interrupted or fails is removed."""
    stamp = folder / ".installed"
    stamp.unlink(missing_ok=True)
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    stamp.write_text(contents, encoding="utf-8")


def pyproject_digest() -> str:
    """Return a digest of `pyproject.toml`, which says what to install."""
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()


def create(folder: Path, python: str = sys.executable) -> None:
    """Create an empty environment with a pip that knows `--group`."""
    say(f"Creating {folder.relative_to(ROOT)} with {python}")
    try:
        _run([python, "-m", "venv", "--clear", str(folder)], lambda _log: "unpacking pip")
    except InstallError as error:
        raise InstallError(f"{error}\nOn Debian and Ubuntu: apt-get install python3-venv") from None
    install(folder, "pip>=25.1")


def install(folder: Path, *requirements: str) -> None:
    """Run `pip install`, and say every few seconds how far it is."""
    before = _count_installed(folder)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--no-input", "--disable-pip-version-check"]
    _run(
        [*pip, "install", "--progress-bar", "off", *requirements],
        lambda log: progress(log, _count_installed(folder) - before),
    )


def _run(command: list[str], progress: Callable[[str], str]) -> None:
    """Run a command, print every few seconds what `progress` makes of its output, and raise `InstallError` if it fails."""
    with tempfile.TemporaryFile() as log:
        process: subprocess.Popen[bytes] | None = None
        try:
            with deferred_signals():
                # In a session of its own, so that an interrupt reaches this process alone, and ends here all that was started.
                process = subprocess.Popen(
                    command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            while _is_running(process):
                print(f"    {progress(_read(log))}", flush=True)
        finally:
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode != 0:
            last_lines = "\n".join(_read(log).splitlines()[-20:])
            raise InstallError(f"{' '.join(command)} ended with {process.returncode}:\n{last_lines}")


def progress(log: str, installed: int) -> str:
    """Say how far pip is by what it has printed; it prints nothing between the first package it installs and the last."""
    installing = re.search(r"^Installing collected packages: (.*)", log, re.MULTILINE)
    if installing is not None:
        return f"installed {installed} of {installing[1].count(',') + 1} packages"
    collected = re.findall(r"^ *(?:Downloading|Processing|Using cached) (?:\S*/)?(\w+)-", log, re.MULTILINE)
    return f"collected {len(set(collected))} packages" + (f" ({collected[-1]})" if collected else "")


def _is_running(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_PROGRESS_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _read(log: IO[bytes]) -> str:
    # Not `seek` and `read`: pip shares the position in this file.
    return os.pread(log.fileno(), os.fstat(log.fileno()).st_size, 0).decode(errors="replace")


def _count_installed(folder: Path) -> int:
    return sum(1 for _ in folder.glob("lib/python*/site-packages/*.dist-info"))


def say(message: str) -> None:
    """Print one step."""
    print(f"==> {message}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
