"""The Terraform module says what `redshift-secrets policy` says, its tags are those that lookups read, and what the command prints is
Terraform. Where there is no `terraform`, files are only parsed; the provider of AWS is only used where `terraform init` finds it."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import hcl2
import pytest

from redshift_secrets.lookup import tags
from redshift_secrets.lookup.spec import build_spec
from redshift_secrets.model import Scope
from redshift_secrets.operations.policy import as_code, plan_policies
from redshift_secrets.settings import Settings
from tests.support.fakes import cluster, workgroup

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "terraform"
TERRAFORM = shutil.which("terraform")
needs_terraform = pytest.mark.skipif(TERRAFORM is None, reason="there is no terraform here")

CALLER = "arn:aws:iam::123456789012:role/airflow"
OTHER = "arn:aws:iam::210987654321:role/redshift-secrets"


def terraform(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(TERRAFORM), *arguments],
        cwd=folder,
        env={**os.environ, "CHECKPOINT_DISABLE": "1"},  # it would ask for newer versions
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def policies(settings: dict[str, Any]) -> dict[str, Any]:
    """What the command prints where it can list nothing, by identity: the same patterns instead of names."""
    read = Settings.from_kwargs({"regions": ["eu-west-1"], **settings})
    kinds = {"clusters": "cluster", "workgroups": "workgroup"}
    roles = [(None, read.regions), *((each.role_arn, each.regions or read.regions) for each in read.accounts)]
    unseen: dict[Scope, str] = {
        Scope(kinds[name], region, role): "unseen"  # type: ignore[arg-type]
        for name in read.warehouses
        for role, regions in roles
        for region in regions
    }
    site = plan_policies(read, (), unseen, read.regions, CALLER, lambda spec: None)
    found = json.loads(as_code(site, "json").replace("<setting accounts[0].external_id>", "agreed-word"))
    return {each["identity"]: each for each in found}


def normal(document: dict[str, Any]) -> dict[str, Any]:
    """The statements by `Sid`, with lists for what may be one or several, in one order."""

    def listed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: listed(each) for key, each in value.items()}
        return sorted(value) if isinstance(value, list) else [value]

    return {each["Sid"]: {key: listed(value) for key, value in each.items()} for each in document["Statement"]}


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "both_kinds": ({"db_user": "etl"}, {"db_users": ["etl"]}),
    "a_user_for_each_dag": ({"db_user": "etl_{dag_id}"}, {"db_users": ["etl_*"]}),
    "as_the_iam_identity": ({"warehouses": "clusters"}, {"cluster_iam": True, "workgroups": False}),
    "workgroups": ({"warehouses": "workgroups"}, {"clusters": []}),
    "two_regions": (
        {"regions": ["eu-west-1", "eu-west-3"], "db_user": "etl", "tag_prefix": "af:"},
        {"regions": ["eu-west-1", "eu-west-3"], "db_users": ["etl"], "tag_prefix": "af:"},
    ),
    "groups_and_new_users": (
        {"db_user": "etl", "db_groups": ["a", "b"], "auto_create": True, "database": "dwh"},
        {"db_users": ["etl"], "db_groups": ["a", "b"], "auto_create": True, "databases": ["dwh"]},
    ),
    "another_account": (
        {"db_user": "etl", "accounts": [{"role_arn": OTHER, "external_id": "agreed-word"}]},
        {"db_users": ["etl"], "assume_roles": [OTHER], "session_tags": {"RedshiftDbUser": ["etl"]}},
    ),
}
CONNECTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "one": {"analytics": {"db_user": "etl", "db_groups": ["a", "b"], "auto_create": True, "extra": {"timeout": "5"}}},
    "two": {
        "analytics": {"database": "dwh", "auth": "iam", "duration": 900, "endpoint": "custom-domain"},
        "bi": {"conn_type": "postgres", "team": "finance"},
    },
    "serverless": {"adhoc": {"db_user": "etl", "db_roles": ["readers", "loaders"]}},
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the modules without a provider return for all cases, in one run."""
    folder = tmp_path_factory.mktemp("terraform")
    role = {"arns": [CALLER], "external_id": "agreed-word", "session_tags": {"RedshiftDbUser": ["etl"]}}
    pods = {"oidc_provider_arn": "arn:aws:iam::123456789012:oidc-provider/oidc.eks/id/A", "subjects": ["af:api"]}
    policy, made = str(MODULE / "policy"), str(MODULE / "tags")
    modules: dict[str, Any] = {
        f"policy_{name}": {
            "source": policy,
            "account": "123456789012",
            "allow": {"regions": ["eu-west-1"], "vpc_endpoints": True, **allow},
        }
        for name, (_, allow) in CASES.items()
    }
    secrets = {
        "arn:aws:secretsmanager:eu-west-1:1:secret:s": "arn:aws:kms:eu-west-1:1:key/1",
        "arn:aws:s:eu-west-1:1:t": "",
    }
    modules |= {
        "policy_role": {"source": policy, "account": "210987654321", "allow": {"regions": []}, "trusted": role},
        "policy_pods": {
            "source": policy,
            "account": "123456789012",
            "allow": {"regions": [], "admin_secrets": secrets},
            "service_accounts": pods,
        },
        **{f"tags_{name}": {"source": made, "connections": each} for name, each in CONNECTIONS.items()},
    }
    returned = {name: {"value": f"${{module.{name}}}"} for name in modules}
    (folder / "main.tf.json").write_text(json.dumps({"module": modules, "output": returned}), encoding="utf-8")
    for arguments in (("init", "-input=false"), ("apply", "-input=false", "-auto-approve")):
        done = terraform(folder, *arguments)
        assert done.returncode == 0, done.stderr
    found = json.loads(terraform(folder, "output", "-json").stdout)
    return {name: each["value"] for name, each in found.items()}


@needs_terraform
@pytest.mark.parametrize("case", CASES)
def test_the_module_allows_what_the_command_prints(outputs: dict[str, Any], case: str) -> None:
    printed = policies(CASES[case][0])[CALLER]["policies"][0]["document"]
    assert normal(outputs[f"policy_{case}"]["policy"]) == normal(printed)


@needs_terraform
def test_the_module_trusts_as_the_command_prints(outputs: dict[str, Any]) -> None:
    printed = policies(CASES["another_account"][0])[OTHER]["trust_policy"]
    assert normal(outputs["policy_role"]["trust_policy"]) == normal(printed)


@needs_terraform
def test_service_accounts_and_admin_secrets(outputs: dict[str, Any]) -> None:
    (trust,) = outputs["policy_pods"]["trust_policy"]["Statement"]
    assert trust["Action"] == ["sts:AssumeRoleWithWebIdentity"]
    conditions = {"oidc.eks/id/A:aud": ["sts.amazonaws.com"], "oidc.eks/id/A:sub": ["system:serviceaccount:af:api"]}
    assert trust["Condition"] == {"StringEquals": conditions}
    statements = normal(outputs["policy_pods"]["policy"])
    assert len(statements["ReadAdminSecrets"]["Resource"]) == 2
    (decrypt,) = [each for sid, each in statements.items() if sid.startswith("Decrypt")]
    assert decrypt["Condition"]["StringEquals"]["kms:ViaService"] == ["secretsmanager.eu-west-1.amazonaws.com"]
    assert decrypt["Resource"] == ["arn:aws:kms:eu-west-1:1:key/1"]


@needs_terraform
@pytest.mark.parametrize("name", CONNECTIONS)
def test_the_tags_of_the_module_are_read_as_they_are_meant(outputs: dict[str, Any], name: str) -> None:
    found = outputs[f"tags_{name}"]["tags"]
    settings = Settings.from_kwargs({"role_arn": OTHER} if name == "serverless" else {})
    warehouse = (workgroup if name == "serverless" else cluster)(tags=found, custom_domain="dw.example.com")
    assert tags.claimed(found, "airflow:") == (tuple(sorted(CONNECTIONS[name])), ())
    for conn_id, fields in CONNECTIONS[name].items():
        spec = build_spec(warehouse, conn_id, settings)
        assert (spec.errors, spec.warnings) == ((), ())
        for field, value in fields.items():
            if field != "extra":
                assert getattr(spec, field) == (tuple(value) if isinstance(value, list) else value)
        assert spec.extra["sslmode"] == "verify-full"
    if name == "one":
        assert build_spec(warehouse, "analytics", settings).extra["timeout"] == 5


@functools.cache
def parsed(path: Path) -> Any:
    return hcl2.loads(path.read_text(encoding="utf-8"))


def test_the_module_has_an_argument_for_every_tag() -> None:
    text = (MODULE / "tags" / "main.tf").read_text(encoding="utf-8")
    assert all(f"{name.replace('-', '_')} " in text for name in (*tags.FIELDS, "extra"))


@pytest.mark.parametrize("path", sorted(MODULE.rglob("*.tf")), ids=lambda path: str(path.relative_to(MODULE)))
def test_each_file_is_terraform(path: Path) -> None:
    assert parsed(path)


@needs_terraform
def test_files_are_formatted() -> None:
    done = terraform(MODULE, "fmt", "-check", "-recursive", "-no-color")
    assert (done.returncode, done.stdout) == (0, "")


@needs_terraform
def test_the_module_is_valid_where_the_provider_can_be_had(tmp_path: Path) -> None:
    shutil.copytree(MODULE, tmp_path / "terraform")
    usage = (MODULE / "README.md").read_text(encoding="utf-8").split("```hcl\n")[1].split("```")[0]
    usage = usage.split('resource "aws_redshift_cluster"')[0]
    (tmp_path / "main.tf").write_text(
        f'provider "aws" {{\n  alias  = "other"\n  region = "us-east-1"\n}}\nvariable "external_id" {{}}\n{usage}',
        encoding="utf-8",
    )
    done = terraform(tmp_path, "init", "-input=false", "-no-color")
    if done.returncode != 0:
        pytest.skip("the provider of AWS cannot be had here")
    done = terraform(tmp_path, "validate", "-no-color")
    assert done.returncode == 0, done.stderr


def printed_terraform() -> str:
    settings = Settings.from_kwargs(
        {"regions": ["eu-west-1"], "accounts": [{"role_arn": OTHER, "external_id": "agreed-word"}]}
    )
    there = {"account": "210987654321", "role_arn": OTHER}
    warehouses = [cluster(), cluster("far", {"airflow:conn-id": "far", "airflow:db-user": "etl"}, **there)]
    specs = [build_spec(each, each.tags["airflow:conn-id"], settings) for each in warehouses]
    return as_code(plan_policies(settings, specs, {}, ("eu-west-1",), None, lambda spec: None), "terraform")


def test_what_the_command_prints_is_terraform() -> None:
    found = hcl2.loads(printed_terraform())
    kinds = [kind.strip('"') for each in found["resource"] for kind in each if not kind.startswith("__")]
    assert kinds == [
        "aws_iam_policy",
        "aws_iam_role_policy_attachment",
        "aws_iam_role",
        "aws_iam_policy",
        "aws_iam_role_policy_attachment",
    ]
    names = [name.strip('"') for each in found["variable"] for name in each if not name.startswith("__")]
    assert names == ["caller_arn", "external_id_0"]


@needs_terraform
def test_what_the_command_prints_is_formatted_and_valid(tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text(printed_terraform() + "\n", encoding="utf-8")
    done = terraform(tmp_path, "fmt", "-check", "-diff", "-no-color")
    assert (done.returncode, done.stdout) == (0, "")
    alias = 'provider "aws" {\n  alias  = "account_210987654321"\n  region = "us-east-1"\n}\n'
    (tmp_path / "providers.tf").write_text(alias, encoding="utf-8")
    if terraform(tmp_path, "init", "-input=false").returncode != 0:
        pytest.skip("the provider of AWS cannot be had here")
    done = terraform(tmp_path, "validate", "-no-color")
    assert done.returncode == 0, done.stderr
