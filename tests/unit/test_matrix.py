"""`make matrix`: its list of tests is complete, and its table hides no failure. The suites themselves do not run here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support import matrix
from tests.support.environments import ROOT, InstallError
from tests.support.matrix import NEWEST_ONLY, SUITE, VERSIONS, Outcome

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
    assert all(file.is_file() for file in files(SUITE) | files(NEWEST_ONLY))
    use_airflow = {path for path in (ROOT / "tests").rglob("test_*.py") if USES_AIRFLOW.search(path.read_text("utf-8"))}
    assert sorted(use_airflow - files(SUITE) - files(NEWEST_ONLY)) == []


def test_a_python_that_is_too_new_is_skipped_and_is_no_success() -> None:
    outcome = matrix.run_version("2.11", (3, 13))
    assert outcome.remark == "SKIPPED: does not support Python 3.13; make clean, then make PYTHON=python3.12 matrix"
    assert not outcome.ok


def test_an_environment_that_cannot_be_made_is_skipped_and_is_no_success(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(version: str) -> Path:
        raise InstallError("pip install ended with 1")

    monkeypatch.setattr(matrix, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(matrix, "ready_environment", make)
    outcome = matrix.run_version("3.0", (3, 10))
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


def test_counts_of_a_report() -> None:
    report = '<testsuites><testsuite tests="9" failures="1" errors="2" skipped="3"/></testsuites>'
    assert matrix.count_results(report) == {"tests": 9, "failures": 1, "errors": 2, "skipped": 3}
