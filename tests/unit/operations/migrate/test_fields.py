"""The tags that would serve what is stored, what is different all the same, and what no tag can do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redshift_secrets.lookup.spec import build_spec
from redshift_secrets.lookup.tags import EXTRA_KEYS
from redshift_secrets.model import VpcEndpoint
from redshift_secrets.settings import Settings
from tests.support.fakes import cluster, workgroup
from tests.unit.operations.migrate.stored import PROD, move, plan, stored

ROLE = "arn:aws:iam::123456789012:role/reader"
ADHOC = workgroup(tags={}, host="adhoc.example")


def test_what_the_settings_say_needs_no_tag_of_its_own():
    found = move(stored(), db_user="etl")
    assert (found.state, found.tags, found.differences) == ("move", {}, ())
    assert (found.user, found.database, found.warehouse) == ("etl", "dev", "prod")


@pytest.mark.parametrize(
    ("fields", "tags"),
    [
        ({}, {"db-user": "etl"}),
        ({"login": "bi", "schema": "sales"}, {"db-user": "bi", "database": "sales"}),
        ({"conn_type": "postgres"}, {"db-user": "etl", "conn-type": "postgres"}),
        ({"login": "IAM:bi"}, {"db-user": "bi"}),
        ({"extra": {"timeout": 30, "tcp_keepalive": False}}, {"db-user": "etl", "extra.timeout": "30", "extra.tcp_keepalive": "false"}),
        ({"extra": {"iam": True, "db_user": "loader"}, "has_password": False}, {"db-user": "loader"}),
        ({"extra": {"iam": True, "auto_create": True, "db_groups": ["a", "b"]}}, {"db-user": "etl", "auto-create": "true", "db-groups": "a b"}),
        ({"extra": {"iam": True, "database": "other"}, "schema": ""}, {"db-user": "etl", "database": "other"}),
        ({"team": "Finance"}, {"db-user": "etl", "team": "Finance"}),
        ({"port": None, "extra": {"sslmode": "verify-full"}}, {"db-user": "etl"}),
    ],
)  # fmt: skip
def test_tags(fields, tags):
    found = move(stored(**fields))
    assert (found.state, found.tags, found.differences) == ("move", tags, ())


def test_an_iam_identity_of_its_own_stays_one():
    found = move(stored(login="", extra={"iam": True, "group_federation": True}), db_user="etl")
    assert (found.tags, found.user) == ({"auth": "iam"}, "(IAM identity)")
    found = move(stored(login="IAMR:airflow", extra={"iam": True}))
    assert (found.tags, found.user) == ({}, "(IAM identity)")


def test_auth_is_said_where_the_setting_is_another():
    assert move(stored(), auth="iam").tags == {"db-user": "etl", "auth": "db-user"}
    assert move(stored(), auth="db-user", db_user="bi").tags == {"db-user": "etl"}


@pytest.mark.parametrize(
    ("host", "tags"),
    [
        ("vpce.example", {"db-user": "etl", "endpoint": "vpc:from-vpc"}),
        ("dwh.corp.example", {"db-user": "etl", "endpoint": "custom-domain"}),
    ],
)
def test_another_endpoint(host, tags):
    warehouse = cluster(
        tags={}, custom_domain="dwh.corp.example", vpc_endpoints=(VpcEndpoint("from-vpc", "vpce.example", 5439),)
    )
    found = move(stored(host=host), warehouses=(warehouse,))
    assert (found.tags, found.differences) == (tags, ())


def test_with_a_host_of_ones_own_the_warehouses_own_needs_a_tag():
    hosts = {"prod": "nlb.corp.example"}
    assert "endpoint" not in move(stored(host="nlb.corp.example"), hosts=hosts).tags
    assert move(stored(), hosts=hosts).tags["endpoint"] == "default"


def test_sslmode_is_tightened_by_a_tag_and_never_loosened():
    found = move(stored(extra={"sslmode": "verify-full"}), sslmode="verify-ca")
    assert found.tags["extra.sslmode"] == "verify-full"
    for extra in ({"sslmode": "require"}, {"ssl": False}):
        found = move(stored(extra=extra))
        assert "extra.sslmode" not in found.tags
        assert found.differences[0].endswith("becomes verify-full")


@pytest.mark.parametrize(
    ("fields", "difference"),
    [
        ({"port": 5555}, "port 5555 becomes 5439"),
        ({"login": "ETL"}, "user ETL becomes etl: AWS takes user names in lower case"),
        ({"login": "", "has_password": False}, "it names no user, and will log in as (IAM identity)"),
        ({"schema": ""}, "it names no database, and will be in dev"),
        ({"extra": {"options": "-c search_path=x"}}, "extra key 'options' is not carried over: no tag may set it; the setting extra can, for all connections"),
        ({"extra": {"unix_sock": None}}, "extra key 'unix_sock' is not carried over: no tag may set it; nor may the setting extra"),
        ({"extra": {"application_name": "a;b"}}, "extra key 'application_name' is not carried over: no tag can hold its value"),
        ({"extra": {"application_name": "7"}}, "extra key 'application_name' is not carried over: no tag can hold its value"),
        ({"extra": {"iam": True, "profile": "prod"}}, "profile prod in extra is not used: this backend calls AWS as its own caller"),
        ({"extra": {"sslrootcert": "/x.pem"}}, "sslrootcert in extra is not used: the setting sslrootcert names one for all connections"),
    ],
)  # fmt: skip
def test_differences(fields, difference):
    found = move(stored(**fields))
    assert found.state == "move"
    assert difference in found.differences


@pytest.mark.parametrize(
    ("fields", "tags", "differences"),
    [
        ({"extra": {"database": "sales"}}, {"database": "sales"}, ()),
        ({"extra": {"user": "bi"}}, {"db-user": "bi"}, ()),
        ({"extra": {"host": PROD.host}, "host": "old.example"}, {}, ()),
        ({"extra": {"port": "5555"}}, {}, ("port 5555 becomes 5439",)),
        ({"host": f"{PROD.host}:5555/dev", "port": None}, {}, ("port 5555 becomes 5439",)),
        ({"extra": {"iam": True, "user": "not_minted_for"}}, {}, ()),
        ({"conn_type": "postgres", "extra": {"dbname": "sales"}}, {"conn-type": "postgres", "database": "sales"}, ()),
        (
            {
                "conn_type": "postgres",
                "has_password": False,
                "extra": {"iam": True, "redshift": True, "cluster-identifier": "prod", "aws_conn_id": "aws_data"},
            },
            {"conn-type": "postgres"},
            ("aws_conn_id aws_data in extra is not used: this backend calls AWS as its own caller",),
        ),
        ({"conn_type": "redshift+redshift_connector"}, {}, ("type redshift+redshift_connector becomes redshift",)),
        (
            {"conn_type": "postgres", "extra": {"connect_timeout": "10", "keepalives": 1}},
            {"conn-type": "postgres", "extra.connect_timeout": "10", "extra.keepalives": "1"},
            (),
        ),
        (
            {"conn_type": "postgres", "extra": {"connect_timeout": "010", "keepalives": "true"}},
            {"conn-type": "postgres", "extra.connect_timeout": "010"},
            ("extra key 'keepalives' is not carried over: no tag can hold its value",),
        ),
        ({"extra": {"application_name": None, "sslmode": None, "ssl": None, "iam": None}}, {}, ()),
        ({"login": " etl "}, {}, ()),
        ({"schema": " sales "}, {"database": "sales"}, ()),
        ({"extra": {"sslmode": "Require"}}, {}, ("sslmode require becomes verify-full",)),
        ({"extra": {"sslmode": "no-verify"}}, {}, ("sslmode no-verify becomes verify-full",)),
    ],
)
def test_what_the_hook_makes_of_it_is_what_is_wanted(fields, tags, differences):
    found = move(stored(**fields))
    assert (found.state, found.tags, found.differences) == ("move", {"db-user": "etl", **tags}, differences)


@pytest.mark.parametrize("groups", ['["loaders", "bi"]', "loaders,bi", "loaders bi", ["loaders", "bi"]])
def test_groups_in_every_form(groups):
    found = move(stored(extra={"iam": True, "db_groups": groups}))
    assert found.tags["db-groups"] == "loaders bi"


def test_defaults_of_the_site_that_are_not_stored_are_differences():
    found = move(stored(), db_groups="loaders", extra={"timeout": 3})
    assert found.differences == (
        "it will join the groups loaders, which are a default here",
        "extra key 'timeout' is added by the setting extra",
    )
    assert move(stored(extra={"timeout": 3}), extra={"timeout": 3}).differences == ()
    assert move(stored(extra={"options": "-c x=y"}), extra={"options": "-c x=y"}).differences == ()


@pytest.mark.parametrize(
    ("fields", "settings", "reason"),
    [
        ({"conn_id": "my conn"}, {}, "its conn_id must be a conn_id that both Airflow and AWS tags accept"),
        ({"conn_id": "analytics "}, {}, "its conn_id must not begin or end with a space, as 'analytics ' does"),
        ({}, {"connections_lookup_pattern": "^dw_"}, "does not match connections_lookup_pattern"),
        ({"login": "o'brien"}, {}, "its user must be a database user as AWS accepts it"),
        ({"login": "public"}, {}, "its user must not be PUBLIC, which AWS reserves"),
        ({"extra": {"iam": True, "db_groups": 7}}, {}, "its db_groups must be a list"),
        ({"schema": "a$b"}, {}, "its database must be a database name as AWS accepts it"),
    ],
)
def test_what_cannot_be_had(fields, settings, reason):
    found = move(stored(**fields), **settings)
    assert (found.state, found.tags) == ("cannot", {})
    assert reason in found.reasons[0]


def test_a_user_on_serverless_needs_a_role():
    typed = stored(host=ADHOC.host)
    found = move(typed, warehouses=(ADHOC,))
    assert found.state == "cannot"
    assert "set role_arn to one there whose trust policy allows sts:TagSession" in found.reasons[0]
    found = move(typed, warehouses=(ADHOC,), role_arn=ROLE)
    assert (found.state, found.tags, found.user) == ("move", {"db-user": "etl"}, "etl")


def test_no_user_on_serverless_needs_no_role():
    found = move(stored(host=ADHOC.host, login=""), warehouses=(ADHOC,))
    assert (found.state, found.user) == ("move", "(IAM identity)")
    assert found.differences == ("it names no user, and will log in as (IAM identity)",)


def test_an_iam_identity_on_serverless_stays_one():
    iam = stored(
        host="",
        login="",
        has_password=False,
        extra={"iam": True, "is_serverless": True, "serverless_work_group": "adhoc"},
    )
    found = move(iam, warehouses=(ADHOC,))
    assert (found.state, found.tags, found.user, found.differences) == ("move", {}, "(IAM identity)", ())
    found = move(iam, warehouses=(ADHOC,), role_arn=ROLE, db_user="etl")
    assert found.differences == ("it logs in as the IAM identity, and will as etl",)


_KEYS = sorted(EXTRA_KEYS["redshift"] & EXTRA_KEYS["postgres"] - {"sslmode"})
connections = st.builds(
    lambda conn_id, conn_type, schema, login, mode, extra: stored(
        conn_id, conn_type=conn_type, schema=schema, login=login, extra={**extra, **({"sslmode": mode} if mode else {})}
    ),
    st.from_regex(r"[a-z][a-z0-9_.:/-]{0,8}", fullmatch=True),
    st.sampled_from(["redshift", "postgres"]),
    st.sampled_from(["dev", "sales", "Reports"]),
    st.sampled_from(["etl", "bi", "loader"]),
    st.sampled_from([None, "verify-ca", "verify-full"]),
    st.dictionaries(st.sampled_from(_KEYS), st.sampled_from([True, False, 7, 0, "abc", "a b", "x/y"]), max_size=3),
)  # fmt: skip


@given(
    st.lists(connections, min_size=1, max_size=6, unique_by=lambda each: each.conn_id),
    st.sampled_from(
        [
            {},
            {"db_user": "etl"},
            {"auth": "iam", "conn_type": "postgres"},
            {"database": "sales", "sslmode": "verify-ca"},
            {"tag_prefix": "team-x:"},
        ]
    ),
    st.sampled_from([{}, {"airflow:conn-id": "old", "airflow:db-user": "old"}, {"airflow:db-user": "stray"}]),
)
def test_with_the_tags_of_the_plan_the_warehouse_serves_what_is_stored(found, settings, tags):
    """Several connections of one warehouse, whose tags are written together, beside what is there already."""
    warehouse = cluster(tags=tags)
    before = {"old": build_spec(warehouse, "old", Settings.from_kwargs(settings))} if "airflow:conn-id" in tags else {}
    made = plan(*found, warehouses=(warehouse,), **settings)
    after = cluster(tags=made.changes[0].after) if made.changes else warehouse
    rows = {each.conn_id: each for each in made.moves}
    for each in found:
        assert rows[each.conn_id].state == "move", rows[each.conn_id].reasons
        spec = build_spec(after, each.conn_id, Settings.from_kwargs(settings))
        assert spec.errors == ()
        assert (spec.auth, spec.db_user, spec.database) == ("db-user", each.login, each.schema)
        assert (spec.conn_type, spec.address) == (each.conn_type, (PROD.host, 5439))
        expected = {"sslmode": settings.get("sslmode", "verify-full"), **each.extra}
        if each.extra.get("sslmode") == "verify-ca":
            expected["sslmode"] = settings.get("sslmode", "verify-full")
        assert dict(spec.extra) == expected
    if before and settings.get("tag_prefix") is None:
        now = build_spec(after, "old", Settings.from_kwargs(settings))
        assert (now.db_user, now.database, now.conn_type, dict(now.extra)) == (
            before["old"].db_user,
            before["old"].database,
            before["old"].conn_type,
            dict(before["old"].extra),
        )
