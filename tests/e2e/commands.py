"""Runs `redshift-secrets` as a user does, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = (str(Path(sys.executable).parent / "redshift-secrets"),)
PATIENT_COMMAND = (sys.executable, "-m", "tests.e2e.patient_command")
"""The same command, in a process that gives a busy Redis time."""


def run(
    *arguments: str, command: tuple[str, ...] = COMMAND, environment: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; it must not end with a traceback."""
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done
