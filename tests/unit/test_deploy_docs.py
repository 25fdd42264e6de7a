"""docs/deploy.md can be copied: every block parses, and this backend accepts the settings in it."""

from __future__ import annotations

import configparser
import importlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.secrets import BaseSecretsBackend
from cryptography.fernet import Fernet

from redshift_secrets.settings import Settings
from tests.integration.site import WORKERS_ASK_THE_SERVER

PAGE = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the blocks of a text, each with its language."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


CHART = (Path(__file__).parents[2] / "examples" / "helm-values.yaml").read_text(encoding="utf-8")
BLOCKS = [block for title, text in SECTIONS.items() if title != "Teams" for block in blocks(text)]


class Compose(yaml.SafeLoader):
    """Reads an alias whose anchor is in the file that the block is merged into as an empty mapping."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):  # type: ignore[no-untyped-call]
            self.get_event()  # type: ignore[no-untyped-call]
            return yaml.MappingNode("tag:yaml.org,2002:map", [])
        return super().compose_node(parent, index)


def read_settings(language: str, block: str) -> dict[str, str]:
    """Return what a block sets, by the name of the environment variable that would set the same."""
    if language == "ini":
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(block)
        return _variables({section: dict(parser.items(section)) for section in parser.sections()})
    if language == "json":  # the options of MWAA
        return {f"AIRFLOW__{name.replace('.', '__').upper()}": value for name, value in json.loads(block).items()}
    if language == "yaml":
        found = yaml.load(block, Compose)
        compose = found.get("x-airflow-common", {}).get("environment")
        return dict(compose) if compose else _variables(found["config"])  # the chart's values
    return dict(line.split("=", 1) for line in block.splitlines())


def _variables(config: dict[str, dict[str, str]]) -> dict[str, str]:
    return {
        f"AIRFLOW__{section}__{key}".upper(): value
        for section, options in config.items()
        for key, value in options.items()
    }


@pytest.mark.parametrize(
    ("language", "block"), [*BLOCKS, ("yaml", CHART)], ids=[*(str(number) for number in range(len(BLOCKS))), "chart"]
)
def test_a_block_sets_what_airflow_and_this_backend_accept(language: str, block: str) -> None:
    found = read_settings(language, block)
    assert found.pop("AIRFLOW__SECRETS__BACKEND") == "redshift_secrets.RedshiftSecretsBackend"
    assert Settings.from_kwargs(json.loads(found.pop("AIRFLOW__SECRETS__BACKEND_KWARGS"))).db_user == "airflow_etl"
    assert found in ({}, WORKERS_ASK_THE_SERVER)


def test_the_setting_for_the_workers_is_the_one_that_the_integration_tests_run_with() -> None:
    (path,) = WORKERS_ASK_THE_SERVER.values()
    module, _, name = path.rpartition(".")
    assert issubclass(getattr(importlib.import_module(module), name), BaseSecretsBackend)
    assert sum(WORKERS_ASK_THE_SERVER.items() <= read_settings(*each).items() for each in BLOCKS) == 3


def test_every_topology_has_a_section_with_a_block() -> None:
    for topology in (
        "Plain virtual machines",
        "Docker Compose",
        "The official Helm chart",
        "KubernetesExecutor",
        "Amazon MWAA",
        "Astronomer",
    ):
        assert "```" in SECTIONS[topology], topology


def test_the_values_of_the_chart_are_those_of_the_page_with_a_role_for_each_component_that_resolves() -> None:
    (shown,) = [yaml.safe_load(text) for _, text in blocks(SECTIONS["The official Helm chart"])]
    values = yaml.safe_load(CHART)
    assert values["config"] == shown["config"]
    assert set(shown) <= set(values)
    subjects = re.search(r"subjects += (\[.*\])", CHART)
    assert subjects is not None
    named = [subject.removeprefix("airflow:airflow-") for subject in json.loads(subjects[1])]
    components = {"apiServer": "api-server", "triggerer": "triggerer", "dagProcessor": "dag-processor"}
    assert sorted(named) == sorted(components[each] for each in values if each in components)
    roles = {values[each]["serviceAccount"]["annotations"]["eks.amazonaws.com/role-arn"] for each in components}
    assert roles == {"arn:aws:iam::123456789012:role/redshift-secrets"}  # the name that the Terraform module gives it


def test_the_chart_writes_a_configuration_that_is_read_back() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    for section, options in yaml.safe_load(CHART)["config"].items():
        parser[section] = options
    text = io.StringIO()
    parser.write(text)
    read = read_settings("ini", text.getvalue())
    assert read == read_settings("yaml", CHART)


def test_with_teams_only_the_api_servers_have_the_url_and_key_of_the_fleet_store() -> None:
    compose, chart = (yaml.safe_load(text) for _, text in blocks(SECTIONS["Teams"]))
    ((service, values),) = compose["services"].items()
    assert service == "airflow-apiserver"
    ((name, value),) = values["environment"].items()
    key = Fernet.generate_key().decode()
    cache = json.loads(value.replace("${AIRFLOW_REDSHIFT_CACHE_KEY}", key))
    assert Settings.from_kwargs({"cache": cache}).cache.redis_url.shown == cache["redis_url"]
    assert (list(chart), chart["apiServer"]["env"][0]["name"]) == (["apiServer"], name)
    assert name == "AIRFLOW__SECRETS__BACKEND_KWARG__CACHE"


def test_where_all_processes_have_the_fleet_store_the_page_points_to_what_holds_with_teams() -> None:
    sections = [text for title, text in SECTIONS.items() if title != "Teams" and "redis_url" in text]
    assert len(sections) == 2
    assert all("](#teams)" in text for text in sections)
    for language, block in BLOCKS:
        found = read_settings(language, block)
        if WORKERS_ASK_THE_SERVER.items() <= found.items():
            assert "redis_url" not in found["AIRFLOW__SECRETS__BACKEND_KWARGS"]
