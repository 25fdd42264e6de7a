"""That `make matrix` leaves nothing out in silence. The suites themselves it runs; this is about the table and the list."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import matrix
from tests.support.matrix import ROOT, SUITE, VERSIONS, Outcome

TOUCHES_AIRFLOW = re.compile(
    r"^(from|import) (airflow\b|redshift_secrets\.backend|redshift_secrets import .*\b(RedshiftSecretsBackend|compat)\b)"
    r"|AIRFLOW__SECRETS|airflow_parts",
    re.MULTILINE,
)
NEWEST_ONLY = {
    "tests/e2e/test_demo.py": "its DAGs are written for Airflow 3",
    "tests/e2e/clients": "the table of clients is that of the newest; hooks and operators run in tests/integration",
    "tests/e2e/test_long_tasks.py": "runs the Execution API of Airflow 3.3 in memory; see tests/integration/test_renewing_hooks.py",
    "tests/e2e/test_who_did_it.py": "as above",
    "tests/unit/airflow/test_renewing_hook.py": "as above",
    "tests/unit/airflow/test_renewing_connection.py": "only the Connection of Airflow 3.2 and newer renews itself",
    "tests/unit/airflow/test_refusals.py": "plays the older ones itself; see tests/integration/test_refusals.py",
    "tests/e2e/test_teams.py": "asks the backend alone",
    "tests/e2e/test_who_asks.py": "asks the backend alone",
    "tests/unit/test_deploy_docs.py": "reads our pages",
    "tests/unit/test_matrix.py": "is about this list",
}


def test_every_test_that_touches_airflow_is_in_the_suite() -> None:
    in_suite = {
        path
        for each in SUITE
        for path in ([ROOT / each] if each.endswith(".py") else sorted((ROOT / each).rglob("*.py")))
    }
    assert all(path.is_file() for path in in_suite)
    files = {path for path in (ROOT / "tests").rglob("test_*.py") if TOUCHES_AIRFLOW.search(path.read_text("utf-8"))}
    left_out = {str(path.relative_to(ROOT)) for path in files - in_suite}
    assert [each for each in sorted(left_out) if not each.startswith(tuple(NEWEST_ONLY))] == []


def test_a_python_that_is_too_new_is_told_and_is_no_success() -> None:
    outcome = matrix.outcome_of("2.11", (3, 13))
    assert outcome.remark.startswith("NOT RUN: needs Python 3.12 or older, this is 3.13")
    assert not outcome.ok


def test_an_environment_that_cannot_be_made_is_told_and_is_no_success(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(matrix, "ENVIRONMENTS", tmp_path)

    def make(version: str) -> Path:
        raise subprocess.CalledProcessError(1, [sys.executable, "-m", "pip", "install", "--quiet"])

    monkeypatch.setattr(matrix, "ready_environment", make)
    outcome = matrix.outcome_of("3.0", (3, 10))
    assert outcome.remark == "NOT RUN: -m pip install --quiet ... ended with 1"
    assert not outcome.ok


@pytest.mark.parametrize(("ok", "code"), [((True, True), 0), ((True, False), 1)])
def test_one_failure_makes_it_fail(
    ok: tuple[bool, ...], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = dict(zip(("2.11", "3.3"), ok, strict=True))
    monkeypatch.setattr(
        matrix, "outcome_of", lambda version, _: Outcome(version, 7, 1, 2, 65.4, "x", outcomes[version])
    )
    assert matrix.main(["2.11", "3.3"]) == code
    assert capsys.readouterr().out.splitlines()[1:] == [
        "2.11           7       1        2       65  x",
        "3.3            7       1        2       65  x",
    ]


def test_a_version_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert matrix.main(["2.10"]) == 2
    assert capsys.readouterr().err == f"no such version: 2.10. There are: {' '.join(VERSIONS)}\n"


def test_counts_of_a_report() -> None:
    report = '<testsuites><testsuite tests="9" failures="1" errors="2" skipped="3"/></testsuites>'
    assert matrix.counted(report) == {"tests": 9, "failures": 1, "errors": 2, "skipped": 3}
