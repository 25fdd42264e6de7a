"""The policies of a site as code: JSON, Terraform and CloudFormation."""

from __future__ import annotations

import json

import pytest
import yaml

from redshift_secrets.operations.policy import as_code, in_account
from tests.support.fakes import cluster
from tests.unit.operations.planned import CALLER, OTHER, SECRET, everything_unseen, plan, tagged


def two_accounts(caller=CALLER):
    there = cluster("far", tagged(db_user="etl"), account="210987654321", role_arn=OTHER)
    return plan(cluster(), there, accounts=[{"role_arn": OTHER, "external_id": SECRET}], caller=caller)


def test_json_has_each_document_as_iam_takes_it():
    caller, role = json.loads(as_code(two_accounts(), "json"))
    assert (caller["identity"], caller["account"]) == (CALLER, "123456789012")
    assert caller["policies"][0]["name"] == "redshift-secrets"
    assert set(caller["policies"][0]["document"]) == {"Version", "Statement"}
    assert "trust_policy" not in caller
    assert role["trust_policy"]["Statement"][0]["Condition"] == {
        "StringEquals": {"sts:ExternalId": "<setting accounts[0].external_id>"}
    }


@pytest.mark.parametrize(("caller", "parameters"), [(CALLER, ()), (None, ("CallerName",))])
def test_cloudformation_has_a_template_for_each_account(caller, parameters):
    first, second = yaml.safe_load_all(as_code(two_accounts(caller), "cloudformation"))
    assert tuple(first.get("Parameters", ())) == parameters
    assert first["Resources"]["CallerPolicy"]["Properties"]["Roles"] == [
        {"Ref": "CallerName"} if caller is None else "airflow"
    ]
    assert second["Parameters"]["ExternalId0"]["NoEcho"] is True
    role = second["Resources"]["Airflow"]["Properties"]
    assert (role["RoleName"], role["Path"]) == ("airflow", "/")
    condition = role["AssumeRolePolicyDocument"]["Statement"][0]["Condition"]
    assert condition == {"StringEquals": {"sts:ExternalId": {"Ref": "ExternalId0"}}}
    assert second["Resources"]["AirflowPolicy"]["Properties"]["Roles"] == [{"Ref": "Airflow"}]


def test_one_account_alone():
    site = in_account(two_accounts(), "210987654321")
    assert [each.arn for each in site.identities] == [OTHER]
    assert "provider" not in as_code(site, "terraform")
    assert in_account(two_accounts(), "999999999999").identities == ()
    # The account of a caller that is not named is that of the warehouses it sees itself, where it sees any.
    assert [each.account for each in two_accounts(None).identities] == ["123456789012", "210987654321"]
    unknown = everything_unseen(accounts=[{"role_arn": OTHER}], caller=None)
    assert [each.account for each in in_account(unknown, "123456789012").identities] == [None]
    assert [each.account for each in in_account(unknown, "210987654321").identities] == ["210987654321"]


def test_what_terraform_takes_for_a_template_is_escaped():
    role = "arn:aws:iam::210987654321:role/${a}/%{b}/x"
    text = as_code(plan(accounts=[{"role_arn": role}]), "terraform")
    assert '= "/$${a}/%%{b}/"' in text
    assert '"Resource" : "arn:aws:iam::210987654321:role/$${a}/%%{b}/x"' in text


def test_a_user_has_policies_attached_too():
    site = plan(cluster(), caller="arn:aws:iam::123456789012:user/team/bot")
    assert 'resource "aws_iam_user_policy_attachment" "caller"' in as_code(site, "terraform")
    assert yaml.safe_load(as_code(site, "cloudformation"))["Resources"]["CallerPolicy"]["Properties"]["Users"] == [
        "bot"
    ]


def test_roles_whose_names_differ_in_signs_alone_are_resources_of_their_own():
    roles = [f"{OTHER.rpartition('/')[0]}/{name}" for name in ("a-b", "a_b", "a-b-policy")]
    roles += [f"{CALLER.rpartition('/')[0]}/caller"]
    here, there = yaml.safe_load_all(
        as_code(plan(cluster(), accounts=[{"role_arn": each} for each in roles]), "cloudformation")
    )
    names = [each["Properties"].get("RoleName") for each in there["Resources"].values()]
    assert sorted(filter(None, names)) == ["a-b", "a-b-policy", "a_b"]
    for found in (here, there):
        for label, each in found["Resources"].items():
            if each["Type"] == "AWS::IAM::ManagedPolicy" and "Ref" in str(each["Properties"]["Roles"]):
                (role,) = each["Properties"]["Roles"]
                name = found["Resources"][role["Ref"]]["Properties"]["RoleName"]
                assert each["Properties"]["ManagedPolicyName"] == f"redshift-secrets-{name}", label
    policies = [each["Properties"].get("ManagedPolicyName") for each in here["Resources"].values()]
    assert sorted(filter(None, policies)) == ["redshift-secrets", "redshift-secrets-caller"]
