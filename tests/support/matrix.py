"""`make matrix`: the integration suite with each supported Airflow, and nearly all tests with the lowest versions that
`pyproject.toml` names, each in its own virtual environment.

    python -m tests.support.matrix [VERSION ...]

`3.3.1=FILE` is one release with the packages of a constraints file (a path or URL), as `pip install -c` takes it: Airflow publishes
one for each of its releases, and Amazon MWAA installs all packages under that of its Airflow.

Exits with 1 if a version failed or was skipped. The environments stay in `.venvs`, and are made again when `pyproject.toml`
or the Python changes.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from packaging.requirements import Requirement

from tests.support import environments
from tests.support.environments import ROOT, InstallError
from tests.support.interrupts import exit_on_signals

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest

ENVIRONMENTS = ROOT / ".venvs"

LOWEST = "lowest"
"""The row with the lowest version of each package that `pyproject.toml` has a lower bound for, on the oldest Python."""

VERSIONS = {
    LOWEST: (3, 12),
    "2.11": (3, 12),
    "3.0": (3, 12),
    "3.1": (3, 13),
    "3.2": (3, 14),
    "3.3": (3, 14),
    "3.4": (3, 14),
}
"""Each Airflow, with its latest patch release but for `LOWEST`, and the newest Python it supports (its classifiers on PyPI)."""

PINS: Mapping[str, Sequence[str]] = {
    # FastAPI 0.132 does not read a body without a content type, which these tasks send, as JSON: no task starts.
    # Newer Celery executors do not accept what its scheduler queues.
    "3.0": ("fastapi<0.132", "apache-airflow-providers-celery<3.13"),
    # FastAPI 0.137 rejects the models of its Execution API at import ("needs a discriminator field"): no server starts.
    "3.2": ("fastapi<0.137",),
    # So far a beta, which pip takes only where it is named.
    "3.4": ("apache-airflow>=3.4.0b2",),
}
"""Packages whose newest version an Airflow does not work with; its own constraints pin them, too."""

MWAA = (
    "apache-airflow-providers-amazon[aiobotocore]",
    "apache-airflow-providers-celery",
    "apache-airflow-providers-common-sql",
    "apache-airflow-providers-postgres",
    "celery[sqs]",
    "statsd",
    "watchtower",
)
"""What is installed beside Airflow under a constraints file: the packages of the images of Amazon MWAA, but those for its build."""

SUITE = (
    "tests/e2e/test_audit.py",
    "tests/e2e/test_cache_commands.py",
    "tests/e2e/test_commands.py",
    "tests/e2e/test_completion.py",
    "tests/e2e/test_doctor.py",
    "tests/e2e/test_doctor_verdicts.py",
    "tests/e2e/test_exec.py",
    "tests/e2e/test_fallback.py",
    "tests/e2e/test_local_commands.py",
    "tests/e2e/test_metrics_server.py",
    "tests/e2e/test_migrate.py",
    "tests/e2e/test_mwaa.py",
    "tests/e2e/test_policy.py",
    "tests/e2e/test_processes.py",
    "tests/e2e/test_provider.py",
    "tests/e2e/test_user_per_dag.py",
    "tests/integration",
    "tests/unit/airflow",
    "tests/unit/cli",
    "tests/unit/operations/doctor",
    "tests/unit/operations/migrate",
    "tests/unit/settings/test_db_user.py",
    "tests/unit/test_audit_files.py",
    "tests/unit/test_backend.py",
    "tests/unit/test_backend_audit.py",
    "tests/unit/test_backend_environment.py",
    "tests/unit/test_backend_event_loop.py",
    "tests/unit/test_backend_unexpected.py",
    "tests/unit/test_fail_closed.py",
    "tests/unit/test_house.py",
    "tests/unit/test_public_names.py",
    "tests/unit/web",
)
"""The files and folders of tests that use Airflow, except `ONCE` and `NEWEST_ONLY`."""

ONCE: Mapping[str, str] = {
    "tests/e2e/test_caller.py": "uses only the backend",
    "tests/e2e/test_containers.py": "is about the machine",
    "tests/e2e/test_flush.py": "uses only the backend",
    "tests/e2e/test_slow_listings.py": "uses only the backend",
    "tests/e2e/test_tag.py": "uses only AWS; other commands run with each version",
    "tests/e2e/test_teams.py": "uses only the backend",
    "tests/e2e/test_two_regions.py": "uses only the backend",
}
"""Tests that use Airflow but run with the newest version and with the lowest ones alone, and why."""

NEWEST_ONLY: Mapping[str, str] = {
    "tests/e2e/clients": "docs/clients.md is about the newest; hooks and operators run in tests/integration",
    "tests/e2e/test_application_name.py": "runs the Execution API of Airflow 3.3 in memory",
    "tests/e2e/test_demo.py": "its DAGs are written for Airflow 3",
    "tests/e2e/test_event_loop.py": "expects the refusal of the lookup itself; before Airflow 3.2.2 the first use raises it",
    "tests/e2e/test_long_tasks.py": "runs the Execution API of Airflow 3.3 in memory; see tests/integration/test_renewing_hooks.py",
    "tests/unit/airflow/test_questions.py": "imitates a server; with a real one, see tests/integration/test_teams.py",
    "tests/unit/airflow/test_refusals.py": "imitates older versions itself; see tests/integration/test_refusals.py",
    "tests/unit/airflow/test_renewing_connection.py": "only the Connection of Airflow 3.2 and newer renews itself",
    "tests/unit/airflow/test_renewing_hook.py": "runs the Execution API of Airflow 3.3 in memory",
    "tests/unit/lookup/test_extra.py": "is about the drivers and hooks that come with the newest",
    "tests/unit/test_deploy_docs.py": "reads the documentation",
    "tests/unit/test_licenses.py": "is about what is installed by default; older packages state their licenses in other words",
    "tests/unit/test_matrix.py": "is about this list",
}
"""Tests that run with the newest version alone, and why."""


@dataclass(frozen=True)
class Python:
    """An interpreter."""

    path: str
    version: str

    @property
    def minor(self) -> tuple[int, int]:
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)


THIS_PYTHON = Python(sys.executable, sys.version)


@dataclass(frozen=True)
class Outcome:
    """The result of one version: a row of the table."""

    version: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    remark: str = ""
    ok: bool = False


def main(arguments: Sequence[str]) -> int:
    """Run the suite with the given versions, by default all, and print a table."""
    unknown = [each for each in arguments if series(each) not in VERSIONS]
    if unknown:
        print(f"unknown version: {' '.join(unknown)}. Supported: {' '.join(VERSIONS)}", file=sys.stderr)
        return 2
    exit_on_signals("==> Interrupted.")
    outcomes = [run_version(version, python_for(version)) for version in arguments or VERSIONS]
    print(table(outcomes))
    return 0 if all(outcome.ok for outcome in outcomes) else 1


def python_for(version: str) -> Python:
    """Return the Python that `make matrix` runs with; for the lowest versions the oldest one that `pyproject.toml` allows, where
    the machine has it."""
    if version == LOWEST:
        oldest = _pyproject()["project"]["requires-python"].replace(">=", "python")
        command = [oldest, "-c", "import sys; print(sys.executable); print(sys.version)"]
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            # Of a version manager there may be a command that only says that this Python is not installed.
            return Python(*subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[:2])
    return THIS_PYTHON


def run_version(version: str, python: Python) -> Outcome:
    """Make the environment of a version, if it is not ready, and run the suite in it."""
    if python.minor > VERSIONS[series(version)]:
        newest, this = (".".join(map(str, each)) for each in (VERSIONS[series(version)], python.minor))
        return Outcome(
            version,
            remark=f"SKIPPED: does not support Python {this}; make clean, then make PYTHON=python{newest} matrix",
        )
    ENVIRONMENTS.mkdir(exist_ok=True)
    # Locked until the suite has run, so that no other process replaces the environment meanwhile.
    with environments.locked(ENVIRONMENTS / f"{folder_name(version)}.lock"):
        try:
            python_of_version = ready_environment(version, python)
        except InstallError as error:
            print(error, file=sys.stderr)
            return Outcome(version, remark="SKIPPED: its environment could not be made, see above")
        return run_suite(version, python_of_version)


def series(version: str) -> str:
    """Return the key in `VERSIONS` of a version as it is named on the command line."""
    return ".".join(version.partition("=")[0].split(".")[:2])


def folder_name(version: str) -> str:
    """Return the name of the environment of a version, which rows of the table have, too."""
    release, constrained, _ = version.partition("=")
    return f"{release}=" if constrained else version


def ready_environment(version: str, python: Python) -> Path:
    """Return the Python of an environment with this Airflow and everything the tests need."""
    folder = ENVIRONMENTS / folder_name(version)
    release, _, constraints = version.partition("=")
    if constraints:
        return _constrained_environment(folder, python, release, constraints)
    packages = lowest_versions() if version == LOWEST else (f"apache-airflow=={version}.*", *PINS.get(version, ()))
    contents = f"{python.version}\n{environments.pyproject_digest()}\n{' '.join(packages)}\n"
    if environments.read_stamp(folder) != contents:
        with environments.making(folder, contents):
            environments.create(folder, python.path)
            environments.say(f"Installing Airflow {version} and all that the tests need (700 MB, one to five minutes)")
            environments.install(folder, *packages, "--editable", ".[local,redis]", "--group", "test")
    return folder / "bin" / "python"


def _constrained_environment(folder: Path, python: Python, release: str, constraints: str) -> Path:
    """What a user installs follows the constraints file; what only the tests need fits to that."""
    contents = f"{python.version}\n{environments.pyproject_digest()}\n{release} {constraints}\n"
    if environments.read_stamp(folder) != contents:
        with environments.making(folder, contents), tempfile.TemporaryDirectory() as scratch:
            environments.create(folder, python.path)
            environments.say(f"Installing Airflow {release} under {constraints}")
            airflow = (f"apache-airflow[celery,statsd]=={release}", *MWAA)
            environments.install(folder, *airflow, "--editable", ".[redis]", "--constraint", constraints)
            freeze = [folder / "bin" / "python", "-m", "pip", "freeze", "--exclude-editable"]
            installed = subprocess.run(freeze, capture_output=True, text=True, check=True).stdout
            (Path(scratch) / "installed.txt").write_text(installed, encoding="utf-8")
            environments.say("Installing what the tests need beside that")
            tests = ("--editable", ".[local,redis]", "--group", "test", "--constraint", f"{scratch}/installed.txt")
            environments.install(folder, *tests)
    return folder / "bin" / "python"


def lowest_versions() -> list[str]:
    """Return a requirement for exactly the lower bound of each package that `pyproject.toml` gives one; pip chooses the others to
    fit. (`uv pip install --resolution lowest-direct` would raise a bound that does not fit, and say nothing.)"""
    project, groups = _pyproject()["project"], _pyproject()["dependency-groups"]
    named = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    named += [each for name in ("demo", "package", "test") for each in groups[name] if isinstance(each, str)]
    return sorted(
        f"{each.name}=={bound.version}" + (f"; {each.marker}" if each.marker else "")
        for each in map(Requirement, named)
        for bound in each.specifier
        if bound.operator == ">="
    )


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def run_suite(version: str, python: Path) -> Outcome:
    """Run the suite; its output is not captured."""
    environments.say(f"Running the integration suite with Airflow {version}")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        began = time.monotonic()
        parallel = ["--numprocesses", "auto", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
        suite, left_out = (("tests",), NEWEST_ONLY) if version == LOWEST else (SUITE, {**ONCE, **NEWEST_ONLY})
        ignored = [f"--ignore={path}" for path in left_out]
        options = ["-m", "not heavy", "-p", "no:cacheprovider", *parallel, *ignored, f"--junitxml={report}"]
        exit_code = subprocess.run([python, "-m", "pytest", *suite, *options], cwd=ROOT, check=False).returncode
        seconds = time.monotonic() - began
        if not report.is_file():
            return Outcome(version, seconds=seconds, remark=f"FAILED: pytest exited with {exit_code}")
        counts = count_results(report.read_text(encoding="utf-8"))
    failed = counts["failures"] + counts["errors"]
    remark = installed_airflow(python) if exit_code == 0 else f"FAILED: pytest exited with {exit_code}"
    passed = counts["tests"] - failed - counts["skipped"]
    return Outcome(version, passed, failed, counts["skipped"], seconds, remark, ok=exit_code == 0)


def count_results(report: str) -> dict[str, int]:
    """Return the numbers of tests, failures, errors and skipped tests in a JUnit report."""
    suites = list(ElementTree.fromstring(report).iter("testsuite"))
    return {
        name: sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    }


def installed_airflow(python: Path) -> str:
    """Return the full versions of Airflow and Python."""
    script = "import platform, importlib.metadata as m; print(m.version('apache-airflow'), 'on Python', platform.python_version())"
    return subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def table(outcomes: Sequence[Outcome]) -> str:
    """Format the outcomes as a table, a row for each version."""
    lines = [f"{'Airflow':<8}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}"]
    for each in outcomes:
        numbers = f"{each.passed:>8}{each.failed:>8}{each.skipped:>9}{each.seconds:>9.0f}"
        lines.append(f"{folder_name(each.version):<8}{numbers}  {each.remark}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
