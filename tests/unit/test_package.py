"""The contents of the wheel and the sdist. `make package` installs the wheel in an empty environment."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = metadata.version("redshift-secrets")


def build(source: Path, folder: Path, *what: str) -> None:
    """Build with the installed packages, so that no test needs the network."""
    command = [sys.executable, "-m", "build", "--no-isolation", *what, "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(folder: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(folder / f"redshift_secrets-{VERSION}-py3-none-any.whl")


@pytest.fixture(scope="module")
def described(wheel: zipfile.ZipFile) -> Message:
    return Parser().parsestr(wheel.read(f"redshift_secrets-{VERSION}.dist-info/METADATA").decode())


def files_under(*names: str) -> set[str]:
    paths = [
        path for name in names for path in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*"))
    ]
    return {str(path.relative_to(ROOT)) for path in paths if path.is_file() and "__pycache__" not in path.parts}


def test_the_wheel_contains_the_package_with_its_types_and_data_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    information = {name for name in names if name.startswith(f"redshift_secrets-{VERSION}.dist-info/")}
    assert names - information == files_under("redshift_secrets")
    assert {"redshift_secrets/py.typed", "redshift_secrets/local/warehouses.yaml"} <= names
    assert {"redshift_secrets/web/templates/page.html", "redshift_secrets/web/static/htmx-LICENSE.txt"} <= names
    assert wheel.read(f"redshift_secrets-{VERSION}.dist-info/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_has_metadata_readme_and_changelog(described: Message) -> None:
    assert described["License-Expression"] == "Apache-2.0 AND 0BSD"
    assert described["Requires-Python"] == ">=3.10"
    assert set(described.get_all("Provides-Extra", [])) == {"redis", "local"}
    assert "apache-airflow>=2.11" in described.get_all("Requires-Dist", [])
    text = described.get_payload()
    assert (ROOT / "README.md").read_text(encoding="utf-8").strip() in text
    assert text.rstrip().endswith((ROOT / "CHANGELOG.md").read_text(encoding="utf-8").strip())
    assert f"## {VERSION}" in text


def test_the_wheel_declares_the_command_the_provider_and_the_plugin(wheel: zipfile.ZipFile) -> None:
    assert wheel.read(f"redshift_secrets-{VERSION}.dist-info/entry_points.txt").decode().split() == [
        "[console_scripts]", "redshift-secrets", "=", "redshift_secrets.cli.app:main",
            "[airflow.plugins]", "redshift_secrets", "=", "redshift_secrets.web.plugin:RedshiftConnectionsPlugin",
        "[apache_airflow_provider]", "provider_info", "=", "redshift_secrets.airflow.provider_info:get_provider_info",
    ]  # fmt: skip


def test_the_sdist_contains_the_whole_project(folder: Path) -> None:
    with tarfile.open(folder / f"redshift_secrets-{VERSION}.tar.gz") as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    folders = ("redshift_secrets", "tests", "examples", "terraform", "bench", "docs")
    assert names == {
        *files_under(*folders, "README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE"),
        *files_under("Makefile", "pyproject.toml", ".gitignore"),
        "PKG-INFO",
    }
