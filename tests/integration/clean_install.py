"""`make package`: the wheel, installed with pip in an empty environment, away from the source.

`make test` does not collect this file: pip takes a minute to install Airflow.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_package import VERSION, build

ROOT = Path(__file__).parents[2]

RIGHT = """
from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.settings import Settings

settings: Settings = RedshiftSecretsBackend(regions=["eu-west-1"]).settings
regions: tuple[str, ...] | None = settings.regions
"""
WRONG = """
from redshift_secrets import RedshiftSecretsBackend

RedshiftSecretsBackend().get_variable(7)
"""


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the checkout, from which the source cannot be imported."""
    return tmp_path_factory.mktemp("away")


@pytest.fixture(scope="module")
def programs(away: Path) -> Path:
    """The folder of commands of a new environment, in which only the wheel was installed."""
    build(ROOT, away / "dist")
    subprocess.run([sys.executable, "-m", "venv", away / "venv"], check=True)
    programs = away / "venv" / "bin"
    (wheel,) = (away / "dist").glob("*.whl")
    subprocess.run([programs / "python", "-m", "pip", "install", "--quiet", wheel], check=True)
    return programs


def run(away: Path, *command: Path | str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=away, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_its_dependencies_are_compatible(away: Path, programs: Path) -> None:
    done = run(away, programs / "python", "-m", "pip", "check")
    assert done.returncode == 0, done.stdout


def test_the_command_starts(away: Path, programs: Path) -> None:
    done = run(away, programs / "redshift-secrets", "--help")
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("list", "show", "test", "cache", "flush", "local"))


def test_the_stand_in_has_its_data_and_names_the_missing_extra(away: Path, programs: Path) -> None:
    script = "from importlib.resources import files; print(files('redshift_secrets.local') / 'warehouses.yaml')"
    path = Path(run(away, programs / "python", "-c", script).stdout.strip())
    assert path.read_bytes() == (ROOT / "redshift_secrets" / "local" / "warehouses.yaml").read_bytes()
    assert away in path.parents
    done = run(away, programs / "redshift-secrets", "local", "up")
    assert done.returncode == 2
    assert "redshift-secrets[local]" in done.stderr
    assert "Traceback" not in done.stderr


def test_airflow_lists_the_provider(away: Path, programs: Path) -> None:
    done = run(away, programs / "airflow", "providers", "list", "--output", "json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout[done.stdout.index("[{") :])
    assert [row["version"] for row in rows if row["package_name"] == "redshift-secrets"] == [VERSION]


@pytest.mark.parametrize(
    ("text", "said"), [(RIGHT, "Success: no issues found"), (WRONG, 'has incompatible type "int"')]
)
def test_mypy_finds_its_types(text: str, said: str, away: Path, programs: Path) -> None:
    (away / "user.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", programs / "python", "user.py"]
    done = run(away, *map(str, command))
    assert said in done.stdout, done.stdout + done.stderr
