"""This package in the output of Airflow's own commands."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import airflow
import jsonschema
import pytest

pytestmark = pytest.mark.airflow


def airflow_rows(*command: str) -> list[dict[str, str]]:
    airflow_command = Path(sys.executable).with_name("airflow")
    done = subprocess.run(
        [airflow_command, *command, "--output", "json"], capture_output=True, text=True, timeout=300, check=True
    )
    rows: list[dict[str, str]] = json.loads(done.stdout[done.stdout.index("[{") :])
    return rows


def test_the_entry_point_fits_the_schema_of_airflow() -> None:
    (entry,) = [each for each in entry_points(group="apache_airflow_provider") if each.dist.name == "redshift-secrets"]
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(entry.load()(), schema)


@pytest.mark.parametrize(
    ("command", "column", "value"),
    [
        ("secrets", "secrets_backend_class_name", "redshift_secrets.RedshiftSecretsBackend"),
        ("list", "version", version("redshift-secrets")),
        ("get redshift-secrets", "Version", version("redshift-secrets")),
    ],
)
def test_airflow_lists_the_package(command: str, column: str, value: str) -> None:
    rows = airflow_rows("providers", *command.split())
    assert [row[column] for row in rows if "redshift" in " ".join(row.values())].count(value) == 1
