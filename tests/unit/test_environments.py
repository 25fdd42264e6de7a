"""`tests/support/environments.py`: when an environment counts as complete, and what is said while it is made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import environments

COLLECTING = """
Obtaining file:///home/someone/redshift-secrets
Collecting apache-airflow>=2.11 (from redshift-secrets==0.1.0)
  Downloading apache_airflow-3.3.2-py3-none-any.whl.metadata (35 kB)
Collecting boto3>=1.34 (from redshift-secrets==0.1.0)
  Using cached boto3-1.44.8-py3-none-any.whl.metadata (6.7 kB)
  Downloading apache_airflow-3.3.2-py3-none-any.whl (12 kB)
"""
INSTALLING = COLLECTING + "Installing collected packages: pytz, boto3, apache-airflow\n"


def test_an_environment_is_complete_once_everything_is_installed(tmp_path: Path) -> None:
    folder = tmp_path / "environment"
    folder.mkdir()
    with environments.making(folder, "demo"):
        assert environments.read_stamp(folder) == ""
    assert environments.read_stamp(folder) == "demo"


@pytest.mark.parametrize("error", [environments.InstallError, KeyboardInterrupt, SystemExit])
def test_an_environment_that_fails_or_is_interrupted_is_removed(error: type[BaseException], tmp_path: Path) -> None:
    folder = tmp_path / "environment"
    folder.mkdir()
    with environments.making(folder, "demo"):
        pass
    with pytest.raises(error), environments.making(folder, "test"):
        raise error
    assert not folder.exists()


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("", "collected 0 packages"),
        (COLLECTING, "collected 2 packages (apache_airflow)"),
        (INSTALLING, "installed 2 of 3 packages"),
    ],
)
def test_progress(log: str, said: str) -> None:
    assert environments.progress(log, 2) == said


def test_a_signal_is_answered_with_one_line_and_an_exit_code() -> None:
    script = (
        "import os, signal; from tests.support.interrupts import exit_on_signals\n"
        "exit_on_signals('Interrupted.')\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "finally:\n    os.kill(os.getpid(), signal.SIGTERM)\n    print('cleaned up')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=environments.ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "Interrupted.\ncleaned up\n", "")


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_is_handled_after_the_block_that_it_must_not_interrupt(number: str) -> None:
    script = (
        "import os, signal; from tests.support.interrupts import deferred_signals, exit_on_signals\n"
        "exit_on_signals('Interrupted.')\n"
        "with deferred_signals():\n"
        f"    os.kill(os.getpid(), signal.{number})\n"
        "    print('recorded', flush=True)\n"
        "print('never')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=environments.ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    expected = 130 if number == "SIGINT" else 143
    assert (done.returncode, done.stdout, done.stderr) == (expected, "recorded\nInterrupted.\n", "")


def test_a_machine_without_chromium_gets_it_or_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(environments.shutil, "which", lambda name: None)
    monkeypatch.setattr(environments, "_run", lambda command, _progress: asked.append(command))
    environments.install_chromium()
    assert [each[-1] for each in asked] == ["update", "chromium"]

    def fail(command: list[str], _progress: object) -> None:
        raise environments.InstallError("apt-get ended with 100")

    monkeypatch.setattr(environments, "_run", fail)
    with pytest.raises(environments.InstallError, match="on Debian, apt-get install chromium"):
        environments.install_chromium()


def test_a_machine_with_chromium_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.delattr(environments, "_run")
    environments.install_chromium()
