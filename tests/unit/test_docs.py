"""README and contract say what the code does: names of settings and tags, the policy, and the files they point to."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from msgspec.structs import fields

from redshift_secrets.aws.minting import session_tags
from redshift_secrets.lookup import tags
from redshift_secrets.model import MintRequest
from redshift_secrets.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRACT = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
NOT_BUILT = "*(not built yet"


def section(title: str, page: str = README) -> str:
    return page.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_setting_is_in_the_settings_table_and_nothing_else() -> None:
    rows = [line.split("|")[1] for line in section("Settings").splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert documented == {field.name for field in fields(Settings)}


def test_every_tag_is_in_the_tag_table_and_nothing_else() -> None:
    documented = set(re.findall(r"^\| `airflow:([\w.<>-]+)` \|", section("Tags"), re.MULTILINE))
    assert documented == {tags.MARKER, *tags.FIELDS, "extra.<key>"}


def test_the_keys_of_extra_that_a_tag_may_set_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section("What a tag may set in `extra`", page), re.MULTILINE)
    assert {conn_type: {*re.findall(r"`(\w+)`", keys)} for conn_type, keys in rows} == tags.EXTRA_KEYS


def test_the_defaults_of_the_settings_table_are_those_of_the_code() -> None:
    for name, default in re.findall(r"^\| `(\w+)` \| .* \| `?([\w.:]+)`? \|$", section("Settings"), re.MULTILINE):
        value = getattr(Settings(), name)
        if default != "none":
            assert str(value).lower() == default, name


def settings_in_the_contract() -> dict[str, bool]:
    """Return the settings that the contract lists, and whether each is marked as not built yet."""
    paragraph = next(text for text in section("Settings", CONTRACT).split("\n\n") if text.startswith("`tag_prefix`"))
    text = re.sub(r"(?<!\*)\([^()]*\)", "", paragraph.replace("\n", " "))
    return {name: bool(mark) for name, mark in re.findall(r"`(\w+)`( \*\(not built yet)?", text)}


def test_the_contract_names_every_setting_and_marks_those_that_are_not_built() -> None:
    listed = settings_in_the_contract()
    built = {field.name for field in fields(Settings)}
    assert built <= listed.keys()
    assert {name for name, marked in listed.items() if marked} == listed.keys() - built


def test_the_contract_names_every_tag_and_marks_those_that_are_not_built() -> None:
    rows = re.findall(r"^\| `airflow:([\w.<>-]+)`(.*?) \|", section("Tags", CONTRACT), re.MULTILINE)
    listed = {name: mark.strip().startswith(NOT_BUILT) for name, mark in rows}
    built = {tags.MARKER, *tags.FIELDS, "extra.<key>"}
    assert built <= listed.keys()
    assert {name for name, marked in listed.items() if marked} == listed.keys() - built


@pytest.mark.parametrize("folder", ["docs", "redshift_secrets", "tests"])
def test_the_contract_is_referred_to_by_headings_and_never_by_numbers(folder: str) -> None:
    numbered = re.compile(r"\bsections? \d|\bof the desig[n]\b", re.IGNORECASE)
    files = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".md", ".py", ".yaml")]
    found = {str(path.relative_to(ROOT)): numbered.findall(path.read_text(encoding="utf-8")) for path in files}
    assert {path for path, references in found.items() if references} == set()


def test_headings_of_the_contract_that_the_code_refers_to_exist() -> None:
    headings = set(re.findall(r"^## (.+)$", CONTRACT, re.MULTILINE))
    files = [path for folder in ("docs", "redshift_secrets", "tests") for path in (ROOT / folder).rglob("*.py")]
    named = {
        name for path in files for name in re.findall(r'docs/contract\.md, "([A-Z][^"]+)"', path.read_text("utf-8"))
    }
    assert named <= headings


def test_the_policy_in_the_readme_is_the_one_in_the_examples() -> None:
    shown = README.split("<!-- policy -->\n```json\n")[1].split("```")[0]
    assert json.loads(shown) == json.loads((ROOT / "examples" / "policy.json").read_text(encoding="utf-8"))


def policy_in_security_page(title: str) -> list[dict[str, Any]]:
    """Return the statements of the policy under a heading."""
    page = section(title, (ROOT / "docs" / "security.md").read_text("utf-8"))
    (policy,) = re.findall(r"```json\n(\{\n.*?)```", page, re.DOTALL)
    return list(json.loads(policy)["Statement"])


def test_the_trust_policy_names_the_session_tags_of_the_code() -> None:
    request = MintRequest(
        auth="iam", arn="a", kind="workgroup", identifier="w", account="1", region="r", role_arn=None, database="d",
        db_user="u", db_groups=("g",), auto_create=False, duration=900, admin_secret_arn=None, db_roles=("r",),
        session_role_arn="role",
    )  # fmt: skip
    keys = {key for key, _ in session_tags(request)}
    assume, tag = policy_in_security_page("Users, groups and roles by session tags")
    assert (assume["Action"], tag["Action"]) == ("sts:AssumeRole", "sts:TagSession")
    conditions = tag["Condition"]
    assert set(conditions["StringLikeIfExists"]) == {f"aws:RequestTag/{key}" for key in keys}
    assert set(conditions["ForAllValues:StringEquals"]["aws:TagKeys"]) == keys


def test_the_policy_for_tagging_names_operations_that_set_tags_of_warehouses() -> None:
    (statement,) = policy_in_security_page("Who may tag")
    sets_tags = set()
    for service in ("redshift", "redshift-serverless"):
        model = botocore.session.get_session().get_service_model(service)
        assert {action.partition(":")[2] for action in statement["Action"] if action.startswith(f"{service}:")} <= set(
            model.operation_names
        )
        for name in model.operation_names:
            shape = model.operation_model(name).input_shape
            if shape is not None and re.match("(Create|Delete|Tag|Untag)(Cluster$|Workgroup$|Tags$|Resource$)", name):
                sets_tags |= {f"{service}:{name}" for each in shape.members if each.lower() in ("tags", "tagkeys")}
    assert len(sets_tags) == 6
    assert sets_tags <= set(statement["Action"])


PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link, heading in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", text):
        target = (page.parent / link) if link else page
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, heading


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
