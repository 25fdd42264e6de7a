"""docs/contract.md, "Ways of authenticating": the user, groups and database roles that session tags of an assumed role name."""

from __future__ import annotations

import pytest

from redshift_secrets.model import MintRequest
from redshift_secrets.operations.inspect import field_views
from tests.unit.lookup.test_spec import ROLE, P, build, only_error


@pytest.mark.parametrize(
    ("kind", "tags", "settings", "user", "groups", "roles"),
    [
        ("workgroup", {"db-user": "etl"}, {}, "etl", (), ()),
        ("workgroup", {"db-roles": "a b"}, {}, None, (), ("a", "b")),
        ("workgroup", {"auth": "iam", "db-user": "etl", "db-roles": "a"}, {}, "etl", (), ("a",)),
        ("workgroup", {}, {"db_user": "etl", "db_roles": ["a"]}, "etl", (), ("a",)),
        ("workgroup", {}, {"db_user": "etl", "auth": "db-user"}, "etl", (), ()),
        ("workgroup", {}, {"db_user": "etl", "db_groups": ["x"], "auto_create": True}, "etl", (), ()),
        ("workgroup", {"db-user": "bi"}, {"db_user": "etl"}, "bi", (), ()),
        ("cluster", {"auth": "iam", "db-groups": "x y"}, {}, None, ("x", "y"), ()),
        ("cluster", {"auth": "iam", "db-user": "bi"}, {"db_groups": "x", "db_roles": "a"}, "bi", ("x",), ()),
        ("cluster", {}, {"auth": "iam", "db_user": "etl"}, "etl", (), ()),
    ],
)
@pytest.mark.parametrize("own_account", [True, False], ids=["own account", "another account"])
def test_the_role_of_the_account_is_assumed_with_tags(kind, tags, settings, user, groups, roles, own_account):
    configured = {"role_arn": ROLE} if own_account else {"role_arn": "arn:aws:iam::123456789012:role/first"}
    spec = build(tags, {**settings, **configured}, kind, **({} if own_account else {"role_arn": ROLE}))
    assert (spec.auth, spec.session_role_arn, spec.errors, spec.warnings) == ("iam", ROLE, (), ())
    request = MintRequest.of(spec)
    assert (request.db_user, request.db_groups, request.db_roles) == (user, groups, roles)
    assert (request.session_role_arn, request.role_arn) == (ROLE, None if own_account else ROLE)


@pytest.mark.parametrize(
    ("kind", "tags", "settings"),
    [
        ("workgroup", {}, {"role_arn": ROLE}),
        ("workgroup", {"db-roles": ""}, {"role_arn": ROLE}),
        ("workgroup", {}, {"db_user": "etl"}),
        ("workgroup", {}, {"db_user": "etl_{dag_id}"}),
        ("cluster", {"auth": "iam"}, {"db_user": "etl", "db_groups": "x"}),
        ("cluster", {"auth": "iam"}, {"db_roles": "a", "role_arn": ROLE}),
    ],
)
def test_without_anything_to_name_or_a_role_the_iam_identity_logs_in(kind, tags, settings):
    spec = build(tags, settings, kind)
    assert (spec.auth, spec.session_role_arn, spec.per_dag) == ("iam", None, False)
    assert (spec.errors, spec.warnings) == ((), ())
    request = MintRequest.of(spec)
    assert (request.db_user, request.db_groups, request.db_roles, request.session_role_arn) == (None, (), (), None)


@pytest.mark.parametrize(
    ("kind", "tags", "settings", "message"),
    [
        ("workgroup", {"db-user": "etl"}, {}, f"tag {P}db-user cannot be honoured: Serverless takes it"),
        (
            "workgroup",
            {"db-user": "etl", "db-roles": "a"},
            {},
            f"tag {P}db-user and tag {P}db-roles cannot be honoured: Serverless",
        ),
        ("workgroup", {"db-roles": "a"}, {"db_user": "etl"}, f"tag {P}db-roles cannot be honoured: Serverless"),
        ("workgroup", {}, {"db_roles": "a"}, "setting db_roles cannot be honoured: Serverless takes it"),
        ("cluster", {"auth": "iam", "db-user": "etl"}, {}, f"tag {P}db-user cannot be honoured: auth = iam takes it"),
        ("cluster", {"auth": "iam", "db-groups": "x"}, {}, f"tag {P}db-groups cannot be honoured: auth = iam takes it"),
    ],
)
def test_without_a_role_what_asks_for_tags_is_refused_with_what_to_do(kind, tags, settings, message):
    error = only_error(build(tags, settings, kind))
    assert error.startswith(message)
    assert (
        "no role is configured for account 123456789012. Set role_arn to a role there whose trust policy allows"
        in error
    )
    assert " use db-user," in error if kind == "cluster" else " use db-user," not in error


def test_a_template_names_the_user_of_each_dag_where_tags_do():
    spec = build(settings={"db_user": "etl_{dag_id}", "role_arn": ROLE}, kind="workgroup")
    assert (spec.per_dag, spec.db_user, spec.errors) == (True, "etl_{dag_id}", ())


def test_groups_that_do_not_fit_into_a_session_tag_are_refused_and_elsewhere_are_not():
    groups = [f"group_{number:02}" for number in range(30)]
    spec = build({"auth": "iam"}, {"db_groups": groups, "role_arn": ROLE})
    assert "setting db_groups has 269 characters as a session tag, and AWS allows 256: name fewer" in only_error(spec)
    assert build(settings={"db_groups": groups, "db_user": "etl", "role_arn": ROLE}).errors == ()
    assert build({"auth": "iam"}, {"db_groups": groups}).errors == ()


def test_more_session_tags_than_aws_allows_are_refused_where_there_would_be_as_many():
    def settings(number):
        others = [{"Key": f"k{each}", "Value": "v"} for each in range(number)]
        return {"role_arn": ROLE, "assume_role_kwargs": {"Tags": others}}

    tags = {"db-user": "etl", "db-roles": "a"}
    assert build(tags, settings(48), "workgroup").errors == ()
    error = only_error(build(tags, settings(49), "workgroup"))
    assert error.startswith(
        f"tag {P}db-user and tag {P}db-roles cannot be honoured: with 49 Tags in assume_role_kwargs there"
    )
    assert build({"db-user": "etl"}, settings(49), "workgroup").errors == ()
    assert build({}, settings(50), "workgroup").errors == ()
    other = "arn:aws:iam::210987654321:role/other"  # which the arguments are not for
    assert build(tags, settings(50), "workgroup", role_arn=other).errors == ()


@pytest.mark.parametrize(
    ("kind", "tags", "settings", "expected"),
    [
        (
            "workgroup",
            {"db-roles": "a b"},
            {"db_user": "etl", "role_arn": ROLE},
            {
                "user": ("etl", f"setting db_user, as a session tag of {ROLE}"),
                "db_roles": (("a", "b"), f"tag {P}db-roles, as a session tag of {ROLE}"),
                "db_groups": ((), "not used with auth iam"),
            },
        ),
        (
            "workgroup",
            {},
            {"db_user": "etl", "db_groups": "x", "auto_create": True},
            {
                "user": (
                    "(IAM identity)",
                    "auth iam; setting db_user is not used: no role is configured for account 123456789012 (role_arn)",
                ),
                "db_groups": ((), "not used with auth iam"),
                "auto_create": (False, "not used with auth iam"),
            },
        ),
        ("workgroup", {}, {}, {"user": ("(IAM identity)", "auth iam"), "db_roles": ((), "not used with auth iam")}),
        (
            "workgroup",
            {"db-roles": "a"},
            {"role_arn": ROLE},
            {
                "user": ("(IAM identity)", "auth iam"),
                "db_roles": (("a",), f"tag {P}db-roles, as a session tag of {ROLE}"),
            },
        ),
        (
            "cluster",
            {"auth": "iam"},
            {"db_user": "etl", "db_groups": "x"},
            {
                "user": (
                    "(IAM identity)",
                    "auth iam; setting db_user is not used: no role is configured for account 123456789012 (role_arn)",
                ),
                "db_roles": ((), "not used with auth iam"),
            },
        ),
        (
            "cluster",
            {"db-user": "etl", "db-groups": "x"},
            {"role_arn": ROLE},
            {
                "user": ("etl", f"tag {P}db-user"),
                "db_groups": (("x",), f"tag {P}db-groups"),
                "db_roles": ((), "not used with auth db-user"),
            },
        ),
    ],
)
def test_show_says_what_the_login_goes_by(kind, tags, settings, expected):
    rows = {each.name: (each.value, each.source) for each in field_views(build(tags, settings, kind))}
    assert {name: rows[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("sys:monitor", "no colon"),
        ("a/b", "must be a database role"),
        ("1st", "must be a database role"),
        ("a*", "must be a database role"),
        ('quo"ted', "must be a database role"),
        ("x" * 128, "1 to 127"),
        (" ".join(f"role_{number:03}" for number in range(30)), "must fit into one session tag of 256 characters"),
    ],
)
def test_a_role_that_no_session_tag_can_name_is_refused_when_it_is_listed(value: str, wrong: str):
    error = only_error(build({"db-roles": value}, {"role_arn": ROLE}, "workgroup"))
    assert error.startswith(f"tag {P}db-roles ")
    assert wrong in error


@pytest.mark.parametrize("value", ["readers", "Readers _own", "lecteurs_élevés", "a.b+c@d-e", "x" * 127])
def test_names_that_a_session_tag_can_carry(value: str):
    spec = build({"db-roles": value}, {"role_arn": ROLE}, "workgroup")
    assert (spec.db_roles, spec.errors) == (tuple(value.split()), ())
