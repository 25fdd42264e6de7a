"""The README says what the code does: names of settings and tags, the policy, and the files it points to."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from msgspec.structs import fields

from redshift_secrets.lookup import tags
from redshift_secrets.settings.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_setting_is_in_the_settings_table_and_nothing_else() -> None:
    rows = [line.split("|")[1] for line in section("Settings").splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert documented == {field.name for field in fields(Settings)}


def test_every_tag_is_in_the_tag_table_and_nothing_else() -> None:
    documented = set(re.findall(r"^\| `airflow:([\w.<>-]+)` \|", section("Tags"), re.MULTILINE))
    assert documented == {tags.MARKER, *tags.FIELDS, "extra.<key>"}


def test_the_defaults_of_the_settings_table_are_those_of_the_code() -> None:
    for name, default in re.findall(r"^\| `(\w+)` \| .* \| `?([\w.:]+)`? \|$", section("Settings"), re.MULTILINE):
        value = getattr(Settings(), name)
        if default != "none":
            assert str(value).lower() == default, name


def test_the_policy_in_the_readme_is_the_one_in_the_examples() -> None:
    shown = README.split("<!-- policy -->\n```json\n")[1].split("```")[0]
    assert json.loads(shown) == json.loads((ROOT / "examples" / "policy.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([\w./-]+)\)", README))))
def test_links_lead_to_files(link: str) -> None:
    assert (ROOT / link).exists()


class CloudFormation(yaml.SafeLoader):
    """Reads the short forms of intrinsic functions (`!Ref`, `!Sub`, `!GetAtt`) as their text."""


CloudFormation.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(node))


def tags_in_cloudformation() -> list[dict[str, str]]:
    template = yaml.load((ROOT / "examples" / "cloudformation.yaml").read_text(encoding="utf-8"), CloudFormation)
    tagged = [r["Properties"]["Tags"] for r in template["Resources"].values() if "Tags" in r["Properties"]]
    return [{tag["Key"]: tag["Value"] for tag in one} for one in tagged]


def tags_in_terraform() -> list[dict[str, str]]:
    text = (ROOT / "examples" / "terraform.tf").read_text(encoding="utf-8")
    blocks = re.findall(r"tags = \{\n(.*?)\n  \}", text, re.DOTALL)
    return [dict(re.findall(r'"([^"]+)"\s*=\s*"([^"]*)"', block)) for block in blocks]


@pytest.mark.parametrize("read", [tags_in_cloudformation, tags_in_terraform])
def test_the_tags_of_the_examples_are_understood(read: object) -> None:
    found = read()  # type: ignore[operator]
    assert len(found) == 2
    for resource in found:
        conn_ids, problems = tags.claimed(resource, "airflow:")
        assert conn_ids
        assert not problems
        for conn_id in conn_ids:
            tagged = tags.read(resource, conn_id, "airflow:")
            assert (tagged.errors, tagged.warnings) == ((), ())
