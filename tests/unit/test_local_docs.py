"""docs/local.md against the code that reads `warehouses.yaml`."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from redshift_secrets.local.config import Cluster, Database, Role, Warehouses, Workgroup, parse

TEXT = (Path(__file__).parents[2] / "docs" / "local.md").read_text(encoding="utf-8")
EXAMPLES = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
ROWS = dict(re.findall(r"^\| `(\w+)` \| `(.+?)`[^`|]*.*\|.*\|$", TEXT, re.MULTILINE))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: next(iter(example)))
def test_each_example_loads(example):
    assert parse(example) != Warehouses()


@pytest.mark.parametrize(
    ("kind", "entries"),
    [
        (Cluster, "clusters"),
        (Workgroup, "workgroups"),
        (Role, "roles"),
    ],
)
def test_each_key_has_an_example(kind, entries):
    (example,) = [each[entries][0] for each in EXAMPLES if entries in each]
    assert set(example) == {field.name for field in fields(kind)}


def test_each_key_of_a_database_has_an_example():
    assert set(EXAMPLES[0]["clusters"][0]["database"]) == {field.name for field in fields(Database)}


def test_policies_have_an_example_of_each_part():
    (example,) = [each["policies"] for each in EXAMPLES if "policies" in each]
    assert {key for entry in example for key in entry} == {"identity", "policies", "trust_policy"}
    assert {field.name for field in fields(Warehouses)} == {key for each in EXAMPLES for key in each}
    for name in ("policies", "trust_policy"):
        parse({"policies": [{"identity": ROWS["identity"], name: yaml.safe_load(ROWS[name])}]})


@pytest.mark.parametrize("name", sorted({field.name for kind in (Cluster, Workgroup, Role) for field in fields(kind)}))
def test_each_key_is_in_a_table_with_a_value_that_loads(name):
    value = yaml.safe_load(ROWS[name])
    for kind, key, needed in (
        (Cluster, "clusters", {"identifier": "x"}),
        (Workgroup, "workgroups", {"name": "x"}),
        (Role, "roles", {"arn": "arn:aws:iam::222222222222:role/x"}),
    ):
        if name in {field.name for field in fields(kind)}:
            parse({key: [{**needed, name: value}]})
