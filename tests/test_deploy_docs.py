"""docs/deploy.md can be copied: every block parses, and the settings in it are ones that we take."""

from __future__ import annotations

import configparser
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from redshift_secrets.backend import RedshiftSecretsBackend
from redshift_secrets.settings import Settings

PAGE = (Path(__file__).parents[1] / "docs" / "deploy.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


class Compose(yaml.SafeLoader):
    """Takes an alias whose anchor is in the file that the block is merged into for an empty mapping."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):  # type: ignore[no-untyped-call]
            self.get_event()  # type: ignore[no-untyped-call]
            return yaml.MappingNode("tag:yaml.org,2002:map", [])
        return super().compose_node(parent, index)


def configured(language: str, block: str) -> list[tuple[str, str | None]]:
    """Return each backend that a block configures, with its kwargs as Airflow would read them."""
    return list(_from_ini(block) if language == "ini" else _from_environment(_variables(language, block)))


def _from_ini(block: str) -> Iterator[tuple[str, str | None]]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(block)
    for section, key in (("secrets", "backend"), ("workers", "secrets_backend")):
        if parser.has_option(section, key):
            yield parser.get(section, key), parser.get(section, f"{key}_kwargs", fallback=None)


def _from_environment(variables: list[dict[str, str]]) -> Iterator[tuple[str, str | None]]:
    for environment in variables:
        yield environment["AIRFLOW__SECRETS__BACKEND"], environment.get("AIRFLOW__SECRETS__BACKEND_KWARGS")


def _variables(language: str, block: str) -> list[dict[str, str]]:
    if language == "json":
        options = json.loads(block)
        return [{f"AIRFLOW__{name.replace('.', '__').upper()}": value for name, value in options.items()}]
    if language == "yaml":
        found = yaml.load(block, Compose)
        services = found.get("services", found)
        environments = [
            part.get("environment", part.get("env")) if isinstance(part, dict) else part for part in services.values()
        ]
        return [
            {each["name"]: each["value"] for each in environment} if isinstance(environment, list) else environment
            for environment in environments
        ]
    return [dict(line.split("=", 1) for line in block.splitlines())]


@pytest.mark.parametrize(("language", "block"), BLOCKS, ids=[str(number) for number in range(len(BLOCKS))])
def test_a_block_configures_what_airflow_and_we_take(language: str, block: str) -> None:
    backends = configured(language, block)
    assert backends
    for path, kwargs in backends:
        module, _, name = path.rpartition(".")
        backend = getattr(importlib.import_module(module), name)
        if backend is RedshiftSecretsBackend:
            assert kwargs is not None
            assert Settings.from_kwargs(json.loads(kwargs)).db_user == "airflow_etl"
        else:
            assert kwargs is None


def test_every_topology_has_its_section_with_a_block() -> None:
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    for topology in (
        "Plain virtual machines",
        "Docker Compose",
        "The official Helm chart",
        "KubernetesExecutor",
        "Amazon MWAA",
        "Astronomer",
    ):
        assert "```" in sections[topology], topology
