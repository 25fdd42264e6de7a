"""`make package`: the wheel, installed with pip in an empty environment, away from the source.

Leaves in `dist/` what a release consists of: wheel, sdist, and the bill of materials of what was installed. `make test` does not
collect this file: pip takes a minute to install Airflow.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.sbom import NAME, bill_of_materials
from tests.unit.test_package import VERSION, build

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
SBOM = DIST / f"redshift_secrets-{VERSION}.cdx.json"
PIP = (sys.executable, "-m", "pip", "--python")

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

STRICTLY_VALID = """
import json, pathlib, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
print(JsonStrictValidator(SchemaVersion.from_version(json.loads(text)["specVersion"])).validate_str(text))
"""


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the checkout, from which the source cannot be imported."""
    return tmp_path_factory.mktemp("away")


@pytest.fixture(scope="module")
def environment(away: Path) -> Path:
    """A new environment, in which only the wheel was installed."""
    shutil.rmtree(DIST, ignore_errors=True)
    build(ROOT, DIST)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", away / "venv"], check=True)
    (wheel,) = DIST.glob("*.whl")
    subprocess.run([*PIP, away / "venv", "install", "--quiet", wheel], check=True)
    return away / "venv"


@pytest.fixture(scope="module")
def programs(environment: Path) -> Path:
    """The folder of commands of that environment."""
    return environment / "bin"


def run(away: Path, *command: Path | str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=away, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_its_dependencies_are_compatible(away: Path, environment: Path) -> None:
    done = run(away, *PIP, environment, "check")
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


@pytest.fixture(scope="module")
def bom_python(away: Path) -> Path:
    """The Python of an environment that makes and validates bills of materials."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", away / "bom"], check=True)
    group = f"{ROOT / 'pyproject.toml'}:bom"
    subprocess.run([*PIP, away / "bom", "install", "--quiet", "--group", group], check=True)
    return away / "bom" / "bin" / "python"


@pytest.fixture(scope="module")
def sbom(environment: Path, bom_python: Path) -> dict[str, Any]:
    """The bill of materials beside wheel and sdist."""
    SBOM.write_text(json.dumps(bill_of_materials(environment, bom_python), indent=2), encoding="utf-8")
    return json.loads(SBOM.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_the_bill_of_materials_is_cyclonedx(away: Path, bom_python: Path, sbom: dict[str, Any]) -> None:
    done = run(away, bom_python, "-c", STRICTLY_VALID, SBOM)
    assert (done.stdout, done.stderr) == ("None\n", "")
    assert {"serialNumber", "metadata", "components", "dependencies"} <= sbom.keys()
    assert "timestamp" in sbom["metadata"]


def test_it_names_all_that_was_installed_with_versions_and_licenses(sbom: dict[str, Any], environment: Path) -> None:
    (packages,) = environment.glob("lib/python*/site-packages")
    installed = {
        (canonicalize_name(each.metadata["Name"]), each.version)
        for each in metadata.distributions(path=[str(packages)])
    }
    (htmx,) = (each for each in sbom["components"] if each["purl"].startswith("pkg:npm/"))
    assert (htmx["name"], htmx["licenses"]) == ("htmx.org", [{"license": {"id": "0BSD"}}])
    components = [sbom["metadata"]["component"], *(each for each in sbom["components"] if each is not htmx)]
    assert {(canonicalize_name(each["name"]), each["version"]) for each in components} == installed
    assert components[0]["purl"] == f"pkg:pypi/{NAME}@{VERSION}"
    assert [each["name"] for each in components if not each.get("licenses") or not each.get("purl")] == []
    words = [each["license"].get("name") for one in components for each in one["licenses"] if "license" in each]
    assert "" not in words
    assert "None" not in words


def test_it_says_what_depends_on_what(sbom: dict[str, Any], environment: Path) -> None:
    (packages,) = environment.glob("lib/python*/site-packages")
    (own,) = metadata.distributions(name=NAME, path=[str(packages)])
    declared = [Requirement(each) for each in own.requires or []]
    names = {each["bom-ref"]: canonicalize_name(each["name"]) for each in sbom["components"]}
    needed = {each["ref"]: {names[ref] for ref in each.get("dependsOn", [])} for each in sbom["dependencies"]}
    directly = needed[sbom["metadata"]["component"]["bom-ref"]]
    # The tool also counts what only an extra asks for, if something else has it installed.
    assert {canonicalize_name(each.name) for each in declared if each.marker is None} <= directly
    assert directly <= {canonicalize_name(each.name) for each in declared}


def test_it_has_no_link_and_no_path(sbom: dict[str, Any], away: Path) -> None:
    text = SBOM.read_text(encoding="utf-8").replace(sbom["$schema"], "")
    assert re.findall(r"(?:https?|file)://[^\"\s]+|pypi\.org|pythonhosted", text) == []
    assert not any(str(folder) in text for folder in (ROOT, away, Path.home(), sys.prefix, sys.base_prefix))
