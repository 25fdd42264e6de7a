"""This package as Airflow's own commands see it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import airflow
import jsonschema
import pytest


def airflow_says(*command: str) -> list[dict[str, str]]:
    airflow_command = Path(sys.executable).with_name("airflow")
    done = subprocess.run(
        [airflow_command, *command, "--output", "json"], capture_output=True, text=True, timeout=120, check=True
    )
    rows: list[dict[str, str]] = json.loads(done.stdout[done.stdout.index("[{") :])
    return rows


def test_the_entry_point_gives_what_airflows_schema_takes() -> None:
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
def test_airflow_providers_shows_us(command: str, column: str, value: str) -> None:
    rows = airflow_says("providers", *command.split())
    assert [row[column] for row in rows if "redshift" in " ".join(row.values())].count(value) == 1
