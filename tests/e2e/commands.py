"""Runs `redshift-secrets` in a process of its own, as a user does.

Tests of what a terminal shows, of shells and of signals start `COMMAND` themselves, with an interpreter that has imported nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support import forked

COMMAND = (str(Path(sys.executable).parent / "redshift-secrets"),)
PATIENT_COMMAND = (sys.executable, "-m", "tests.e2e.patient_command")
"""The same command, in a process that gives a busy Redis time."""


def run(
    *arguments: str, command: tuple[str, ...] = COMMAND, environment: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; it must not end with a traceback."""
    done = forked.run([*command, *arguments], environment)
    assert "Traceback" not in done.stderr, done.stderr
    return done
