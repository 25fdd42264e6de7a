"""What `tag` and `untag` would write on a warehouse, what they refuse, and what they say first."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess

import pytest
import yaml

from redshift_secrets.aws.client import AwsClient
from redshift_secrets.cli.tag import tag
from redshift_secrets.errors import AwsError
from redshift_secrets.lookup import tags
from redshift_secrets.model import Scope
from redshift_secrets.operations.tag import (
    PartlyWrittenError,
    TagChange,
    TagError,
    as_code,
    check_unchanged,
    find_warehouse,
    plan_tags,
    plan_untag,
    warnings_of_claims,
    write,
)
from redshift_secrets.settings import Settings
from tests.support.fakes import cluster, denied, workgroup

SETTINGS = Settings.from_kwargs({"regions": ["eu-west-1"], "db_user": "etl"})
TWO = cluster(tags={"airflow:conn-id": "analytics bi", "airflow:db-user": "etl", "owner": "data"})


def plan(warehouse, *conn_ids, settings=SETTINGS, **fields):
    return plan_tags(settings, warehouse, conn_ids, {name.replace("_", "-"): value for name, value in fields.items()})


class FakeTagging:
    def __init__(self, found=()):
        self.found = dict(found)
        self.writes = []
        self.refuses_to_remove = False

    def default_region(self):
        return "eu-west-1"

    def find(self, name, scope):
        answer = self.found.get(scope)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def set(self, warehouse, tags):
        self.writes.append(("set", dict(tags)))

    def remove(self, warehouse, keys):
        self.writes.append(("remove", list(keys)))
        if self.refuses_to_remove:
            raise denied("redshift:DeleteTags")


CLUSTERS, WORKGROUPS = Scope("cluster", "eu-west-1", None), Scope("workgroup", "eu-west-1", None)


def test_the_options_of_the_command_are_the_fields_of_tags():
    names = {name.replace("_", "-") for name in tag.__annotations__}
    assert {*tags.FIELDS, tags.MARKER, "extra"} <= names


def test_a_first_conn_id_with_a_field():
    change = plan(cluster(tags={"owner": "data"}), "analytics", db_user="bi")
    assert change.written == {"airflow:conn-id": "analytics", "airflow:db-user": "bi"}
    assert change.difference() == ["+ airflow:conn-id = analytics", "+ airflow:db-user = bi"]
    assert (change.errors, change.warnings, change.removed) == ((), (), ())
    assert change.after == {"owner": "data", **change.written}


def test_a_further_conn_id_leaves_the_others_as_they_are():
    change = plan(TWO, "finance", db_user="fin")
    assert change.written == {"airflow:conn-id": "analytics bi finance", "airflow:db-user/finance": "fin"}
    assert change.difference()[:2] == ["- airflow:conn-id = analytics bi", "+ airflow:conn-id = analytics bi finance"]


def test_a_field_without_a_conn_id_is_for_all():
    assert plan(TWO, duration="900").written == {"airflow:duration": "900"}
    with pytest.raises(TagError, match="claims no conn_id yet: add --conn-id"):
        plan(cluster(tags={}), duration="900")


def test_a_field_for_all_does_not_lose_against_one_that_is_there_for_the_same_conn_id():
    warehouse = cluster(tags={"airflow:conn-id": "analytics", "airflow:db-user/analytics": "old"})
    change = plan(warehouse, "analytics", db_user="new")
    assert change.written == {"airflow:db-user": "new", "airflow:db-user/analytics": "new"}


def test_what_is_there_already_is_not_written():
    assert plan(TWO, "bi").written == {}


@pytest.mark.parametrize(
    ("warehouse", "conn_ids", "fields", "reason"),
    [
        (cluster(tags={}), ["a"], {"duration": "fast"}, "must be a whole number"),
        (cluster(tags={}), ["a"], {"extra.host": "evil"}, "must not contain 'host'"),
        (cluster(tags={}), ["a"], {"extra.sslmode": "require"}, "weaker than the setting"),
        (cluster(tags={}), ["a"], {"auth": "secret"}, "allow_admin_secret"),
        (cluster(tags={}), ["a"], {"database": "a,b"}, "must be a tag value as AWS allows it"),
        (cluster(tags={}), ["a/b*"], {}, "tag airflow:conn-id"),
        (cluster(tags={}), [f"conn_{n:04}" for n in range(30)], {}, "at most 256"),
        (cluster(tags={f"k{n}": "" for n in range(50)}), ["a"], {}, "would have 51 tags, and AWS allows 50"),
        (workgroup(tags={}), ["a"], {"auth": "db-user"}, "cannot work"),
    ],
)
def test_what_could_not_be_served_is_not_written(warehouse, conn_ids, fields, reason):
    change = plan_tags(SETTINGS, warehouse, conn_ids, fields)
    assert reason in " ".join(change.errors)
    aws = FakeTagging()
    with pytest.raises(TagError):
        write(aws, change)
    assert aws.writes == []


def test_tags_of_aws_itself_do_not_count():
    full = cluster(tags={"aws:cloudformation:stack-name": "x", **{f"k{n}": "" for n in range(49)}})
    assert plan(full, "a").errors == ()


def test_what_was_wrong_before_with_another_conn_id_keeps_nothing_from_being_written():
    broken = cluster(tags={"airflow:conn-id": "old", "airflow:duration/old": "fast"})
    assert plan(broken, "new").errors == ()
    assert plan(broken, "old", team="x").errors != ()


def test_a_warehouse_that_may_claim_nothing_here():
    settings = Settings.from_kwargs({"regions": ["eu-west-1"], "required_tags": {"env": "prod"}})
    assert "required_tags" in plan(cluster(tags={}), "a", settings=settings).warnings[0]


def test_untag_one_removes_its_own_fields():
    warehouse = cluster(tags={**TWO.tags, "airflow:team/bi": "bi", "airflow:team/analytics": "a"})
    change = plan_untag(SETTINGS, warehouse, ["bi"])
    assert change.written == {"airflow:conn-id": "analytics"}
    assert change.removed == ("airflow:team/bi",)
    assert change.errors == ()


def test_untag_again_after_an_attempt_that_ended_between_its_two_calls():
    warehouse = cluster(tags={"airflow:conn-id": "analytics", "airflow:team/bi": "bi"})
    change = plan_untag(SETTINGS, warehouse, ["bi"])
    assert (change.written, change.removed) == ({}, ("airflow:team/bi",))


@pytest.mark.parametrize("conn_ids", [[], ["analytics", "bi"]])
def test_untag_all_leaves_what_is_not_of_this_backend(conn_ids):
    change = plan_untag(SETTINGS, TWO, conn_ids)
    assert change.after == {"owner": "data"}
    assert change.written == {}


def test_untag_what_is_not_claimed():
    with pytest.raises(TagError, match=r"does not claim 'analytic' \(did you mean 'analytics'\?\)"):
        plan_untag(SETTINGS, TWO, ["analytic"])


def test_another_claim_and_the_limits_of_the_site_are_said(site):
    here = site(cluster("rival"), managed_conn_ids="^ana")
    found = warnings_of_claims(here.settings, here.broker, cluster(), ["analytics", "smtp"])
    assert "'smtp' is outside managed_conn_ids" in found[0]
    assert found[1] == "'analytics' is also claimed by cluster rival (account 123456789012, eu-west-1)"
    assert warnings_of_claims(here.settings, here.broker, cluster("rival"), ["analytics"]) == []


def test_a_scope_that_cannot_be_listed_is_said(site):
    here = site()
    here.aws.failing = {CLUSTERS: denied()}
    found = warnings_of_claims(here.settings, here.broker, cluster(), ["analytics"])
    assert "whether another warehouse claims the same is not known: clusters in eu-west-1" in found[0]


def test_a_name_of_two_warehouses_is_refused_with_their_arns():
    one, other = cluster("prod"), workgroup("prod")
    aws = FakeTagging({CLUSTERS: one, WORKGROUPS: other})
    with pytest.raises(TagError) as caught:
        find_warehouse(SETTINGS, aws, "prod")
    assert one.arn in str(caught.value)
    assert other.arn in str(caught.value)
    del aws.found[WORKGROUPS]
    assert find_warehouse(SETTINGS, aws, "prod") == one


def test_a_name_of_no_warehouse_comes_with_the_nearest_one(monkeypatch):
    def list_all(_self, scope):
        if scope == CLUSTERS:
            return (cluster("prod"), cluster("finance"))
        raise denied()

    monkeypatch.setattr(AwsClient, "list_all", list_all)
    with pytest.raises(TagError) as caught:
        find_warehouse(SETTINGS, FakeTagging(), "prd")
    assert str(caught.value) == "there is no warehouse 'prd' in eu-west-1 (did you mean 'prod'?)"


@pytest.mark.parametrize(
    ("arn", "hint"),
    [
        ("arn:aws:redshift:eu-west-1:123456789012:cluster:PROD", " (did you mean 'arn:aws:redshift:eu-west-1:123456789012:cluster:prod'?)"),
        ("arn:aws-cn:redshift:cn-north-1:123456789012:cluster:prod", ": it would be in cn-north-1, which is not searched; add that to regions, or to those of its account"),
        ("arn:aws:redshift:eu-west-1:210987654321:cluster:prod", ": it would be in account 210987654321, where nothing was seen; add a role of it to accounts"),
        ("arn:aws:redshift:eu-west-1:123456789012:namespace:prd", " (did you mean 'arn:aws:redshift:eu-west-1:123456789012:cluster:prod'?)"),
        ("arn:aws:redshift:eu-west-1:123456789012:cluster:finance", ""),
        ("arn:", ""),
    ],
)  # fmt: skip
def test_an_arn_of_no_warehouse_comes_with_where_it_would_be(monkeypatch, arn, hint):
    monkeypatch.setattr(AwsClient, "list_all", lambda _self, scope: (cluster("prod"),) if scope == CLUSTERS else ())
    with pytest.raises(TagError) as caught:
        find_warehouse(SETTINGS, FakeTagging(), arn)
    assert str(caught.value) == f"there is no warehouse {arn!r} in eu-west-1{hint}"


def test_what_could_not_be_seen_is_said_once_for_each_reason():
    aws = FakeTagging({CLUSTERS: denied()})
    with pytest.raises(TagError, match="as far as can be seen: clusters in eu-west-1: redshift:DescribeClusters"):
        find_warehouse(SETTINGS, aws, "prod")
    aws.found[WORKGROUPS] = denied()
    with pytest.raises(TagError) as caught:
        find_warehouse(SETTINGS, aws, "prod")
    assert str(caught.value).count(str(denied())) == 1
    assert "2 listings (clusters in eu-west-1, Serverless workgroups in eu-west-1) for one reason" in str(caught.value)


def test_a_scope_that_may_have_the_name_too_is_not_passed_over():
    aws = FakeTagging({CLUSTERS: cluster(), WORKGROUPS: denied("redshift-serverless:GetWorkgroup")})
    assert find_warehouse(SETTINGS, aws, cluster().arn) == cluster()
    with pytest.raises(TagError, match="say which by its ARN"):
        find_warehouse(SETTINGS, aws, "prod")


def test_as_code():
    change = plan(TWO, "new", db_user="it's")
    commands = shlex.split(as_code(change, "aws"))
    assert commands[:7] == ["aws", "redshift", "create-tags", "--resource-name", TWO.arn, "--region", "eu-west-1"]
    change = plan(TWO, "new", db_user="fin")
    assert json.loads(shlex.split(as_code(change, "aws"))[-1])[0] == {
        "Key": "airflow:conn-id",
        "Value": "analytics bi new",
    }
    pairs = yaml.safe_load(as_code(change, "cloudformation"))["Tags"]
    assert {pair["Key"]: pair["Value"] for pair in pairs} == change.after
    assert '"airflow:db-user/new" = "fin"' in as_code(change, "terraform")
    group = workgroup(tags={"airflow:conn-id": "a"})
    assert shlex.split(as_code(plan_untag(SETTINGS, group, []), "aws"))[1:3] == [
        "redshift-serverless",
        "untag-resource",
    ]


ODD = {
    "owner": 'it\'s "ours" \\ 50%',
    "path": "${HOME}/%{x} $(id) `id`",
    "größe": "日本 \U00020bb7",
    "key with spaces": " ",
}


def test_tags_of_others_are_quoted_in_each_form():
    change = plan_tags(SETTINGS, cluster(tags=ODD), ["new"], {})
    pairs = yaml.safe_load(as_code(change, "cloudformation"))["Tags"]
    assert {pair["Key"]: pair["Value"] for pair in pairs} == change.after
    text = as_code(change, "terraform")
    assert text.isascii()
    assert '"path"            = "$${HOME}/%%{x} $(id) `id`"' in text
    assert r'"gr\u00f6\u00dfe"' in text
    assert r'"\u65e5\u672c \U00020bb7"' in text
    # What is written with a shell is quoted for one.
    gone = TagChange(cluster(tags=ODD), {"größe": ODD["path"]}, ("key with spaces", "it's"))
    created, removed = as_code(gone, "aws").splitlines()
    assert json.loads(shlex.split(created)[-1]) == [{"Key": "größe", "Value": ODD["path"]}]
    assert shlex.split(removed)[-2:] == ["key with spaces", "it's"]


@pytest.mark.skipif(shutil.which("terraform") is None, reason="there is no terraform here")
def test_terraform_reads_the_tags_that_it_is_given(tmp_path):
    change = plan_tags(SETTINGS, cluster(tags=ODD), ["new"], {})
    text = as_code(change, "terraform").replace("tags = {", 'output "tags" {\nvalue = {') + "\n}"
    (tmp_path / "main.tf").write_text(text)
    for command in (("init",), ("apply", "-auto-approve")):
        subprocess.run(["terraform", *command], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    done = subprocess.run(
        ["terraform", "output", "-json", "tags"], cwd=tmp_path, check=True, capture_output=True, timeout=60
    )
    assert json.loads(done.stdout) == change.after


def test_tags_are_set_before_others_are_removed():
    aws = FakeTagging()
    write(aws, plan_untag(SETTINGS, cluster(tags={**TWO.tags, "airflow:database/bi": "x"}), ["bi"]))
    assert aws.writes == [("set", {"airflow:conn-id": "analytics"}), ("remove", ["airflow:database/bi"])]


def test_a_change_of_which_a_part_was_written_says_which():
    aws = FakeTagging()
    aws.refuses_to_remove = True
    change = plan_untag(SETTINGS, cluster(tags={**TWO.tags, "airflow:database/bi": "x"}), ["bi"])
    with pytest.raises(
        PartlyWrittenError,
        match="airflow:conn-id was written, and airflow:database/bi was not removed: redshift:DeleteTags",
    ):
        write(aws, change)
    with pytest.raises(AwsError):
        write(aws, plan_untag(SETTINGS, TWO, []))  # of which nothing was


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"airflow:conn-id": "analytics", "owner": "another team"}, None),
        ({"airflow:conn-id": "analytics bi"}, "somebody else has changed airflow:conn-id of cluster prod"),
        ({"airflow:conn-id": "analytics", "airflow:team": "hr"}, "somebody else has changed airflow:team of cluster prod"),
        ({}, "somebody else has changed airflow:conn-id of cluster prod"),
        (None, "is not there any more"),
    ],
)  # fmt: skip
def test_what_somebody_else_has_tagged_meanwhile_is_not_overwritten(now, said):
    before = cluster(tags={"airflow:conn-id": "analytics", "owner": "us"})
    change = plan_tags(SETTINGS, before, ["finance"], {})
    aws = FakeTagging({} if now is None else {CLUSTERS: cluster(tags=now)})
    if said is None:
        check_unchanged(SETTINGS, aws, "prod", change)
        return
    with pytest.raises(TagError, match=f"{said}.*nothing was written"):
        check_unchanged(SETTINGS, aws, "prod", change)
