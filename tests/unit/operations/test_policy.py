"""Whose policies are printed, what is in them, and what is said where something is not known. That they are enough, and no more
than that, is tested on an AWS that enforces them: `test_policy_enforced.py`."""

from __future__ import annotations

import json

import pytest

from redshift_secrets.aws.permissions import ANY, Permission
from redshift_secrets.model import Scope, VpcEndpoint
from redshift_secrets.operations.policy import FORMS, as_code, documents, plan_policies, read_caller
from redshift_secrets.settings import Settings
from tests.support.fakes import cluster, denied, workgroup
from tests.unit.operations.planned import CALLER, OTHER, SECRET, everything_unseen, plan, tagged

REDSHIFT = "arn:aws:redshift:eu-west-1:123456789012"


def statements(site, number=0):
    """The statements of an identity, by their `Sid`."""
    found = [each for document in site.identities[number].policies.values() for each in document["Statement"]]
    return {each["Sid"]: each for each in found}


def test_a_site_of_one_account_needs_a_policy_for_its_caller_alone():
    site = plan(cluster(tags=tagged(db_user="etl")))
    (caller,) = site.identities
    assert (caller.arn, caller.account, caller.trust) == (CALLER, "123456789012", None)
    assert set(statements(site)) == {"ListClusters", "ListWorkgroups", "LogInToClusters", "ReadTagsOfWorkgroups"}
    assert statements(site)["LogInToClusters"]["Resource"] == [
        f"{REDSHIFT}:dbname:prod/dev",
        f"{REDSHIFT}:dbuser:prod/etl",
    ]
    assert (site.notes, site.complete) == ((), True)


def test_only_kinds_that_are_looked_at_are_listed():
    assert set(statements(plan(cluster(), warehouses="clusters"))) == {"ListClusters", "LogInToClustersAsIamIdentity"}


def test_a_role_of_another_account_trusts_the_caller_who_may_assume_it():
    there = cluster("far", tagged(db_user="etl"), account="210987654321", role_arn=OTHER)
    site = plan(there, accounts=[{"role_arn": OTHER, "external_id": SECRET}])
    caller, role = site.identities
    assert statements(site)["AssumeRoles"]["Resource"] == OTHER
    assert (role.arn, role.account) == (OTHER, "210987654321")
    (trust,) = role.trust["Statement"]
    assert (trust["Principal"], trust["Action"]) == ({"AWS": CALLER}, "sts:AssumeRole")
    assert str(trust["Condition"]["StringEquals"]["sts:ExternalId"]) == "<setting accounts[0].external_id>"
    assert not caller.trust


def test_a_role_of_the_same_account_needs_the_trust_policy_alone():
    """https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html"""
    role = "arn:aws:iam::123456789012:role/reader"
    site = plan(cluster(), role_arn=role)
    assert [each.arn for each in site.identities] == [role]
    unknown = plan(cluster(), role_arn=role, caller=None)
    assert [str(each.arn) for each in unknown.identities] == ["<ARN of the role that Airflow runs as>", role]


def test_the_role_of_the_settings_assumes_those_of_accounts():
    role = "arn:aws:iam::123456789012:role/reader"
    site = plan(role_arn=role, accounts=[{"role_arn": OTHER}])
    reader, other = site.identities
    assert statements(site)["AssumeRoles"]["Resource"] == OTHER
    assert other.trust["Statement"][0]["Principal"] == {"AWS": role}
    assert reader.trust["Statement"][0]["Principal"] == {"AWS": CALLER}


def test_arguments_of_the_role_take_their_own_permissions_and_values_are_not_printed():
    role = "arn:aws:iam::333333333333:role/reader"
    arguments = {
        "Tags": [{"Key": "cost-center", "Value": SECRET}],
        "SourceIdentity": SECRET,
        "ExternalId": SECRET,
        "DurationSeconds": 7200,
        "Policy": "{}",
    }
    site = plan(cluster(), role_arn=role, assume_role_kwargs=arguments, accounts=[{"role_arn": OTHER}])
    found = statements(site)
    assert found["AssumeRoles"]["Action"] == ["sts:AssumeRole", "sts:SetSourceIdentity"]
    assert found["TagSessions"]["Condition"] == {"ForAllValues:StringEquals": {"aws:TagKeys": "cost-center"}}
    assert site.identities[1].max_session_seconds == 7200
    other = site.identities[2].trust["Statement"]
    assert [each["Action"] for each in other] == [["sts:AssumeRole", "sts:SetSourceIdentity"]]
    assert any("session policies" in note for note in site.notes)
    for form in FORMS:
        assert SECRET not in as_code(site, form)
        assert "7200" in as_code(site, form)


def test_session_tags_are_named_with_their_values():
    role = "arn:aws:iam::123456789012:role/reader"
    warehouse = workgroup(tags=tagged(db_user="bi", db_roles="readers loaders"))
    site = plan(warehouse, cluster(tags=tagged(auth="iam")), role_arn=role, db_user="etl_{dag_id}", caller=None)
    conditions = statements(site)["TagSessions"]["Condition"]
    assert conditions == {
        "StringLikeIfExists": {
            "aws:RequestTag/RedshiftDbRoles": "readers:loaders",
            "aws:RequestTag/RedshiftDbUser": ["bi", "etl_*"],
        },
        "ForAllValues:StringEquals": {"aws:TagKeys": ["RedshiftDbRoles", "RedshiftDbUser"]},
    }
    assert site.identities[1].trust["Statement"][1]["Condition"] == conditions


def test_names_that_a_policy_cannot_hold_are_written_as_patterns():
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html: up to U+00FF."""
    warehouse = workgroup(tags=tagged(db_roles="l\u00e4ser \u043b\u044e\u0434\u0438"))
    site = plan(warehouse, role_arn=OTHER)
    values = statements(site)["TagSessions"]["Condition"]["StringLikeIfExists"]
    assert values == {"aws:RequestTag/RedshiftDbRoles": "l\u00e4ser:????"}


def test_a_connection_for_the_driver_takes_what_the_driver_does():
    site = plan(cluster(tags=tagged(auth="connector", db_user="etl", db_groups="g", auto_create="true")))
    assert {"LogInToClusters", "JoinGroups", "CreateDatabaseUsers"} <= set(statements(site))
    (note,) = site.notes
    assert note.startswith("analytics: with auth connector the driver mints as the identity of the task")
    assert "LogInToWorkgroups" in statements(plan(workgroup(tags=tagged(auth="connector"))))


def test_endpoints_of_another_accounts_warehouse_are_listed_in_both():
    there = cluster("far", tagged(db_user="etl", endpoint="vpc:near"), account="210987654321", role_arn=OTHER)
    broken = plan(there, accounts=[{"role_arn": OTHER}])
    assert "VPC endpoint" in broken.notes[0]  # it has none of that name
    there = cluster(
        "far",
        tagged(db_user="etl", endpoint="vpc:near"),
        account="210987654321",
        role_arn=OTHER,
        vpc_endpoints=(VpcEndpoint("near", "h", 1),),
    )
    site = plan(there, accounts=[{"role_arn": OTHER}])
    for number in (0, 1):
        assert statements(site, number)["ListVpcEndpoints"]["Action"] == "redshift:DescribeEndpointAccess"


def test_a_connection_that_cannot_be_served_gets_nothing_and_is_named():
    site = plan(cluster(tags=tagged(auth="secret")))
    assert "ReadAdminSecrets" not in statements(site)
    assert site.notes[0].startswith(
        "'analytics' is left out, since it cannot be served: tag airflow:auth = secret is refused"
    )


def test_the_key_of_an_admin_secret_is_only_there_where_it_is_the_customers():
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:redshift!prod-awsuser-AbCdEf"
    warehouse = cluster(tags=tagged(auth="secret"), admin_secret_arn=arn)
    own = "arn:aws:kms:eu-west-1:123456789012:key/1"
    assert "DecryptAdminSecrets" not in statements(plan(warehouse, allow_admin_secret=True))
    site = plan(warehouse, allow_admin_secret=True, key=lambda spec: own)
    assert statements(site)["DecryptAdminSecrets"]["Resource"] == own

    def unknown(spec):
        raise denied("secretsmanager:DescribeSecret")

    site = plan(warehouse, allow_admin_secret=True, key=unknown)
    assert statements(site)["DecryptAdminSecrets"]["Resource"] == "arn:aws:kms:eu-west-1:123456789012:key/*"
    assert "kms:Decrypt is not needed where" in site.notes[0]
    assert "secretsmanager:DescribeSecret" in site.notes[0]


def test_what_was_not_seen_is_written_as_wildcards_and_said():
    site = everything_unseen(db_user="etl")
    found = statements(site)
    assert found["LogInToClusters"]["Resource"] == [f"{REDSHIFT}:dbname:*/*", f"{REDSHIFT}:dbuser:*/etl"]
    marked = {"Null": {"aws:ResourceTag/airflow:conn-id": "false"}}
    for sid in ("LogInToWorkgroups", "DescribeWorkgroups"):
        assert found[sid]["Resource"] == "arn:aws:redshift-serverless:eu-west-1:123456789012:workgroup/*"
        assert found[sid]["Condition"] == marked
    assert found["ListVpcEndpoints"]["Action"] == [
        "redshift-serverless:ListEndpointAccess",
        "redshift:DescribeEndpointAccess",
    ]
    assert site.complete is False
    (note,) = site.notes
    assert note.startswith("clusters in eu-west-1, Serverless workgroups in eu-west-1: warehouses are written as *")
    assert note.endswith("AWS does not answer")


def test_a_user_that_only_tags_name_is_not_written_as_a_wildcard():
    """It would be a way to log in as the admin user."""
    site = everything_unseen(auth="db-user")
    assert "LogInToClusters" not in statements(site)
    assert not any(":dbuser:" in json.dumps(each) for each in statements(site).values())


def test_a_scope_that_was_seen_stays_exact_beside_one_that_was_not():
    site = plan(cluster(tags=tagged(db_user="etl")), unseen={Scope("workgroup", "eu-west-1", None): "denied"})
    assert statements(site)["LogInToClusters"]["Resource"] == [
        f"{REDSHIFT}:dbname:prod/dev",
        f"{REDSHIFT}:dbuser:prod/etl",
    ]
    assert "LogInToWorkgroups" in statements(site)


def test_an_account_that_may_claim_nothing_gets_no_login():
    site = everything_unseen(allowed_accounts=["999999999999"], db_user="etl")
    assert set(statements(site)) == {"ListClusters", "ListVpcEndpoints", "ListWorkgroups", "ReadTagsOfWorkgroups"}


def test_admin_secrets_that_were_not_seen():
    site = everything_unseen(auth="secret", allow_admin_secret=True)
    assert statements(site)["ReadAdminSecrets"]["Resource"] == (
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:redshift!*"
    )
    assert "StringLike" in statements(site)["DecryptAdminSecrets"]["Condition"]


def test_neither_region_nor_account_is_known():
    settings = Settings.from_kwargs({"db_user": "etl"})
    scopes = {Scope(kind, ANY, None): "no region" for kind in ("cluster", "workgroup")}
    site = plan_policies(settings, (), scopes, (ANY,), None, lambda spec: None)
    assert statements(site)["ListClusters"]["Resource"] == "arn:aws:redshift:*:*:cluster:*"
    assert "Condition" not in statements(site)["ListWorkgroups"]
    assert any("--caller" in note for note in site.notes)


def test_the_account_of_a_caller_that_is_not_known_is_that_of_what_it_sees():
    assert statements(plan(cluster(), caller=None))["ListClusters"]["Resource"] == f"{REDSHIFT}:cluster:*"


def test_other_partitions():
    china = cluster(arn="arn:aws-cn:redshift:cn-north-1:123456789012:cluster:prod", region="cn-north-1")
    site = plan(china, regions=["cn-north-1"], home=("cn-north-1",), caller=None)
    assert statements(site)["ListClusters"]["Resource"] == "arn:aws-cn:redshift:cn-north-1:123456789012:cluster:*"


@pytest.mark.parametrize(
    ("text", "arn"),
    [
        (CALLER, CALLER),
        ("arn:aws:iam::123456789012:user/team/bot", "arn:aws:iam::123456789012:user/team/bot"),
        ("arn:aws:sts::123456789012:assumed-role/airflow/worker-1", CALLER),
        ("arn:aws-cn:sts::123456789012:assumed-role/airflow/worker-1", "arn:aws-cn:iam::123456789012:role/airflow"),
    ],
)
def test_callers(text, arn):
    assert read_caller(f" {text}\n") == arn


@pytest.mark.parametrize("text", ["airflow", "arn:aws:iam::123456789012:root", "arn:aws:s3:::bucket", ""])
def test_what_is_no_caller(text):
    with pytest.raises(ValueError, match="must be the ARN of an IAM role or user"):
        read_caller(text)


def many(number, name="cluster"):
    return [cluster(f"{name}-{n:03}", {**tagged(db_user="etl"), "airflow:conn-id": f"c{n}"}) for n in range(number)]


def test_policies_are_split_where_one_outgrows_its_limit():
    site = plan(*many(100))
    found = site.identities[0].policies
    assert list(found) == [f"redshift-secrets-{n}" for n in range(1, len(found) + 1)]
    assert len(found) == 3
    assert all(documents.size(each) <= documents.MOST_POLICY_CHARACTERS for each in found.values())
    resources = [
        r for each in found.values() for s in each["Statement"] if s["Sid"] == "LogInToClusters" for r in s["Resource"]
    ]
    assert len(resources) == len(set(resources)) == 200
    assert site.notes == ()


def test_more_policies_than_a_role_may_have_are_said():
    site = plan(*many(400, "a-cluster-with-a-long-name-that-says-what-it-is-for"))
    assert len(site.identities[0].policies) > documents.MOST_POLICIES
    assert "IAM lets a role have 10" in site.notes[0]


def test_a_trust_policy_that_is_too_long_is_said():
    groups = [workgroup(f"w{n}", tagged(db_user=f"a_user_with_a_long_name_{n:03}")) for n in range(100)]
    site = plan(*groups, role_arn=OTHER)
    assert "its trust policy has" in site.notes[0]
    groups = [workgroup(f"w{n}", tagged(db_user=f"a_user_with_a_long_name_{n:03}")) for n in range(300)]
    assert "a policy is longer than IAM allows" in plan(*groups, role_arn=OTHER).notes[0]


def test_the_order_does_not_depend_on_that_of_warehouses():
    forward = plan(*many(20), workgroup())
    backward = plan(*reversed([*many(20), workgroup()]))
    for form in FORMS:
        assert as_code(forward, form) == as_code(backward, form)


def test_statements_allow_exactly_what_was_asked_for():
    here = (("StringEquals", "aws:RequestedRegion", ("a",)),)
    there = (("StringEquals", "aws:RequestedRegion", ("b",)),)
    both = (("StringEquals", "k", ("1",)), ("StringEquals", "l", ("2",)))
    found = documents.statements(
        [
            Permission("List", "s:A", "*", here),
            Permission("List", "s:A", "*", there),
            Permission("List", "s:B", "*", here),
            Permission("Read", "s:C", "arn:x"),
            Permission("Read", "s:C", "arn:y"),
            Permission("Read", "s:D", "arn:x"),
            Permission("Open", "s:E", "arn:x", both),
            Permission("Open", "s:E", "arn:y", both),
            Permission("Wide", "s:F", "arn:*"),
            Permission("Wide", "s:F", "arn:x"),
        ]
    )
    plain = [(each["Sid"], each["Action"], each["Resource"], each.get("Condition")) for each in found]
    region = {"StringEquals": {"aws:RequestedRegion": ["a", "b"]}}
    assert plain == [
        ("List", "s:A", "*", region),
        ("List2", "s:B", "*", {"StringEquals": {"aws:RequestedRegion": "a"}}),
        ("Open", "s:E", ["arn:x", "arn:y"], {"StringEquals": {"k": "1", "l": "2"}}),
        ("Read", "s:C", ["arn:x", "arn:y"], None),
        ("Read2", "s:D", "arn:x", None),
        ("Wide", "s:F", "arn:*", None),
    ]
