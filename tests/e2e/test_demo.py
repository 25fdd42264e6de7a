"""What `make demo` runs: a real Airflow with real task processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.airflow


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A separate folder for temporary files, which PostgreSQL's OS user can enter when root runs this."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


def start(temporary: Path) -> tuple[subprocess.Popen[str], threading.Timer]:
    process = subprocess.Popen(
        [sys.executable, "-m", "examples"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    watchdog = threading.Timer(400, process.kill)
    watchdog.start()
    return process, watchdog


def test_the_demo_shows_what_it_promises_and_leaves_nothing(temporary: Path) -> None:
    process, watchdog = start(temporary)
    try:
        assert process.stdout is not None
        output = process.stdout.read()
        assert process.wait() == 0, output
    finally:
        watchdog.cancel()
    for line in (
        "airflow_etl wrote 3 rows",
        "bi_readonly read north 120.00, south 80.00",
        "bi_readonly may read sales, but not delete from it",
        "analytics: airflow_etl in analytics",
        "finance: month_end in ledger",
        "sandbox: IAM:airflow in dev",
        "redshift:GetClusterCredentials",
        "OK: none of the 4 passwords appears in the ",
    ):
        assert line in output, output
    assert not list(temporary.iterdir())


def test_an_interrupted_demo_leaves_nothing(temporary: Path) -> None:
    process, watchdog = start(temporary)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "Starting Airflow" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait() == 130, rest
    finally:
        watchdog.cancel()
    assert rest == "==> Interrupted; everything is stopped and removed.\n"
    assert not list(temporary.iterdir())
    marker = str(temporary).encode()
    environments = [path for path in Path("/proc").glob("[0-9]*/environ") if _reads(path, marker)]
    assert not environments, "processes of the demo are still running"


def _reads(path: Path, marker: bytes) -> bool:
    try:
        return f"/{os.getpid()}/" not in str(path) and marker in path.read_bytes()
    except OSError:
        return False
