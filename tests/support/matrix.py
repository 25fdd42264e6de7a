"""`make matrix`: the integration suite with each Airflow that we support, in a virtual environment for each.

    python -m tests.support.matrix [VERSION ...]

Ends with 1 when a version failed, or could not be tried at all. The environments stay in `.venvs`, and are made again when
`pyproject.toml` or the Python has changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venvs"

VERSIONS = {"2.11": (3, 12), "3.0": (3, 12), "3.1": (3, 13), "3.2": (3, 14), "3.3": (3, 14)}
"""Each Airflow, of which the latest patch is taken, and the newest Python that it supports (its classifiers on PyPI)."""

BESIDE: Mapping[str, Sequence[str]] = {
    # From 0.132 on FastAPI takes a body without a content type, as these tasks send it, for no JSON: no task starts.
    # And newer Celery executors cannot take what its scheduler queues.
    "3.0": ("fastapi<0.132", "apache-airflow-providers-celery<3.13"),
    # From 0.137 on the models of its Execution API are refused while they are imported ("needs a discriminator field"): no
    # server starts.
    "3.2": ("fastapi<0.137",),
}
"""What an Airflow cannot be run beside in its newest version, as its own constraints would have it."""

SUITE = (
    "tests/e2e/test_cache_commands.py",
    "tests/e2e/test_commands.py",
    "tests/e2e/test_fallback.py",
    "tests/e2e/test_metrics_server.py",
    "tests/e2e/test_processes.py",
    "tests/e2e/test_provider.py",
    "tests/e2e/test_user_for_each_dag.py",
    "tests/integration",
    "tests/unit/test_backend.py",
    "tests/unit/test_backend_environment.py",
    "tests/unit/airflow/test_compat.py",
    "tests/unit/airflow/test_fallback.py",
    "tests/unit/test_house.py",
    "tests/unit/lookup/test_metrics.py",
)
"""All that talks to a real Airflow, but for the demo, whose DAGs are written for Airflow 3."""


@dataclass(frozen=True)
class Outcome:
    """What came of one version: a row of the table."""

    version: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    remark: str = ""
    ok: bool = False


def main(arguments: Sequence[str]) -> int:
    """Try the versions that are named, all when none is; print a table."""
    unknown = [each for each in arguments if each not in VERSIONS]
    if unknown:
        print(f"no such version: {' '.join(unknown)}. There are: {' '.join(VERSIONS)}", file=sys.stderr)
        return 2
    outcomes = [outcome_of(version, sys.version_info[:2]) for version in arguments or VERSIONS]
    print(table(outcomes))
    return 0 if all(outcome.ok for outcome in outcomes) else 1


def outcome_of(version: str, python: tuple[int, int]) -> Outcome:
    """Make the environment of a version, if need be, and run the suite in it."""
    if python > VERSIONS[version]:
        newest, this = (".".join(map(str, each)) for each in (VERSIONS[version], python))
        return Outcome(
            version,
            remark=f"NOT RUN: needs Python {newest} or older, this is {this}; make clean, then name one: PYTHON=",
        )
    ENVIRONMENTS.mkdir(exist_ok=True)
    # Held until the suite has run, so that nobody makes the environment anew under it.
    with open(ENVIRONMENTS / f"{version}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            python_of_it = ready_environment(version)
        except subprocess.CalledProcessError as error:
            return Outcome(
                version, remark=f"NOT RUN: {' '.join(map(str, error.cmd[1:5]))} ... ended with {error.returncode}"
            )
        return run_suite(version, python_of_it)


def ready_environment(version: str) -> Path:
    """Return the Python of an environment that has this Airflow and all that the tests need."""
    folder = ENVIRONMENTS / version
    python, stamp = folder / "bin" / "python", folder / ".installed"
    pyproject = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    wanted = f"{sys.version}\n{pyproject}\n{' '.join(BESIDE.get(version, ()))}\n"
    if not stamp.is_file() or stamp.read_text() != wanted:
        print(f"==> Making {folder.relative_to(ROOT)} (one to five minutes)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--upgrade", "pip"], check=True)
        airflow = [f"apache-airflow=={version}.*", *BESIDE.get(version, ())]
        what = [*airflow, "--editable", ".[local,redis]", "--group", "test"]
        subprocess.run([*pip, *what], cwd=ROOT, check=True)
        stamp.write_text(wanted)
    return python


def run_suite(version: str, python: Path) -> Outcome:
    """Run the suite, whose output goes where ours does."""
    print(f"==> Running the integration suite with Airflow {version}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        began = time.monotonic()
        spread = ["--numprocesses", "auto", "--maxprocesses", "4", "--dist", "loadfile"]
        options = ["-m", "not heavy", "-p", "no:cacheprovider", *spread, f"--junitxml={report}"]
        command = [python, "-m", "pytest", *SUITE, *options]
        ended_with = subprocess.run(command, cwd=ROOT, check=False).returncode
        seconds = time.monotonic() - began
        if not report.is_file():
            return Outcome(version, seconds=seconds, remark=f"FAILED: pytest ended with {ended_with}")
        counts = counted(report.read_text(encoding="utf-8"))
    failed = counts["failures"] + counts["errors"]
    remark = installed_airflow(python) if ended_with == 0 else f"FAILED: pytest ended with {ended_with}"
    passed = counts["tests"] - failed - counts["skipped"]
    return Outcome(version, passed, failed, counts["skipped"], seconds, remark, ok=ended_with == 0)


def counted(report: str) -> dict[str, int]:
    """Return the numbers of tests, failures, errors and skipped ones of a report in JUnit's form."""
    suites = list(ElementTree.fromstring(report).iter("testsuite"))
    return {
        name: sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    }


def installed_airflow(python: Path) -> str:
    """Return the version of Airflow in full, with that of the Python."""
    script = "import platform, importlib.metadata as m; print(m.version('apache-airflow'), 'on Python', platform.python_version())"
    return subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the table for people: a row for each version."""
    lines = [f"{'Airflow':<8}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}"]
    for each in outcomes:
        numbers = f"{each.passed:>8}{each.failed:>8}{each.skipped:>9}{each.seconds:>9.0f}"
        lines.append(f"{each.version:<8}{numbers}  {each.remark}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
