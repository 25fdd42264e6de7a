"""`redshift-secrets policy` as a user runs it, and its output given back to an AWS that enforces it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from tests.e2e.commands import run
from tests.e2e.conftest import REMOTE_ROLE, SETTINGS, STRICT_ROLE, MakeBroker
from tests.support.airflow_parts import backend_environment

pytestmark = pytest.mark.airflow

CALLER = "arn:aws:iam::123456789012:user/airflow"


@pytest.fixture
def environment(stand_in: StandIn) -> dict[str, str]:
    return {**os.environ, **backend_environment(**{**SETTINGS, "aws_timeout_seconds": 10})}


def test_what_it_prints_is_enough_for_every_connection(
    stand_in: StandIn, make_broker: MakeBroker, environment: dict[str, str]
) -> None:
    done = run("policy", "--caller", CALLER, environment=environment)
    assert done.returncode == 0, done.stderr
    driver, external_id = done.stderr.splitlines()
    assert driver.startswith("note: by-connector, serverless-connector: with auth connector the driver mints as")
    assert external_id == (
        f"note: {STRICT_ROLE}: <setting accounts[1].external_id> stands for a value that is not printed"
    )
    assert "agreed-word" not in done.stdout
    printed = json.loads(done.stdout.replace("<setting accounts[1].external_id>", "agreed-word"))
    assert [each["identity"] for each in printed] == [CALLER, REMOTE_ROLE, STRICT_ROLE]
    stand_in.aws.set_policies(config.parse({"policies": printed}).policies)
    try:
        broker = make_broker()
        specs = broker.inventory.snapshot().specs
        assert len(specs) > 15
        assert all(broker.connection(conn_id) for conn_id in specs)
        listed = run("list", "-o", "json", environment=environment)
        assert (listed.returncode, len(json.loads(listed.stdout))) == (0, len(specs))
        # doctor tries nothing that lookups can do without, but for the endpoints that no tag selects.
        found = run("doctor", "-o", "json", environment=environment)
        problems = [each["message"] for each in json.loads(found.stdout) if each["verdict"] == "problem"]
        assert problems == []
        # Nor is it enough for anything else.
        denied = run(
            "tag",
            "arn:aws:redshift:us-east-1:222222222222:cluster:remote",
            "--database",
            "other",
            "--yes",
            environment=environment,
        )
        assert "is not authorized to perform: redshift:CreateTags" in denied.stderr
    finally:
        stand_in.aws.set_policies(())


def test_forms_and_accounts(stand_in: StandIn, environment: dict[str, str]) -> None:
    terraform = run("policy", "-o", "terraform", "--account", "222222222222", environment=environment)
    assert terraform.returncode == 0
    assert 'resource "aws_iam_role" "airflow-remote_222222222222"' in terraform.stdout
    assert "333333333333" not in terraform.stdout
    stack = run(
        "policy", "-o", "cloudformation", "--account", "333333333333", "--caller", CALLER, environment=environment
    )
    assert "Type: AWS::IAM::Role" in stack.stdout
    assert "\n---\n" not in stack.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--caller", "airflow"), "--caller must be the ARN of an IAM role or user"),
        (("--account", "999999999999", "--caller", CALLER), "nothing is to be created in account 999999999999"),
        (("-o", "hcl"), "hcl"),
    ],
)
def test_mistakes(stand_in: StandIn, environment: dict[str, str], arguments: Any, message: str) -> None:
    done = run("policy", *arguments, environment=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in " ".join(done.stderr.split())


def test_without_aws_it_prints_what_is_configured_and_says_so(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {
        **kept,
        "HOME": str(tmp_path),
        "AWS_EC2_METADATA_DISABLED": "true",
        **backend_environment(regions=["eu-west-1"], db_user="etl", warehouses="clusters"),
    }
    done = run("policy", "--caller", CALLER, environment=environment)
    assert done.returncode == 4
    assert "clusters in eu-west-1: warehouses are written as *" in done.stderr
    (caller,) = json.loads(done.stdout)
    statements = {each["Sid"]: each for each in caller["policies"][0]["document"]["Statement"]}
    base = "arn:aws:redshift:eu-west-1:123456789012"
    assert statements["LogInToClusters"]["Resource"] == [f"{base}:dbname:*/*", f"{base}:dbuser:*/etl"]
