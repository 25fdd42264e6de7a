"""Which warehouse a stored connection connects to: by any spelling of any endpoint, by what `extra` says, and why by none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redshift_secrets.airflow.stored import Place, StoredConnection
from redshift_secrets.model import VpcEndpoint, Warehouse
from redshift_secrets.operations.migrate.hooks import split_address
from redshift_secrets.operations.migrate.matching import Endpoints, normal_host
from redshift_secrets.settings import Settings
from tests.support.fakes import cluster, workgroup

SETTINGS = Settings.from_kwargs({"regions": ["eu-west-1"]})
PROD = cluster(
    custom_domain="dwh.corp.example",
    vpc_endpoints=(VpcEndpoint("etl", "prod-etl-vpce.example", 5440), VpcEndpoint("bi", "prod-bi-vpce.example", 5439)),
)
ADHOC = workgroup(host="adhoc.123456789012.eu-west-1.redshift-serverless.amazonaws.com")


def stored(host: str = "", conn_type: str = "redshift", **fields: object) -> StoredConnection:
    return StoredConnection("analytics", Place("database", "analytics"), conn_type, host, **fields)  # type: ignore[arg-type]


def match(connection: StoredConnection, *warehouses: Warehouse, **settings: object):
    made = Settings.from_kwargs({"regions": ["eu-west-1"], **settings})
    return Endpoints(warehouses or (PROD, ADHOC), made).match(connection)


@pytest.mark.parametrize(
    ("host", "warehouse", "endpoint"),
    [
        (PROD.host, PROD, "default"),
        (str(PROD.host).upper(), PROD, "default"),
        (f"{PROD.host}.", PROD, "default"),
        (f" {PROD.host} ", PROD, "default"),
        (f"redshift://{PROD.host}", PROD, "default"),
        (f"redshift://etl:planted@{PROD.host}", PROD, "default"),
        (f"{PROD.host}:5439", PROD, "default"),
        (f"{PROD.host}:5439/dev", PROD, "default"),  # as the console of AWS shows it
        (f"jdbc:redshift://{PROD.host}:5439/dev?ssl=true", PROD, "default"),
        (f"jdbc:redshift:iam://{PROD.host}:5439/dev;DbUser=etl", PROD, "default"),
        ("DWH.Corp.example", PROD, "custom-domain"),
        ("prod-etl-vpce.example", PROD, "vpc:etl"),
        (ADHOC.host, ADHOC, "default"),
    ],
)
def test_by_endpoint(host, warehouse, endpoint):
    for conn_type in ("redshift", "postgres"):
        found = match(stored(host, conn_type)).endpoint
        assert (found.warehouse, found.name) == (warehouse, endpoint)


names = st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)


@given(st.lists(names, min_size=1, max_size=6, unique=True), st.data())
def test_every_endpoint_of_many_finds_its_own_warehouse_in_any_spelling(identifiers, data):
    warehouses = [
        cluster(
            name,
            {},
            custom_domain=f"{name}.corp.example",
            vpc_endpoints=(VpcEndpoint("one", f"{name}-one.vpce.example", 5439),),
        )
        for name in identifiers
    ]
    meant = data.draw(st.sampled_from(warehouses))
    host = data.draw(st.sampled_from([meant.host, meant.custom_domain, meant.vpc_endpoints[0].host]))
    spelled = "".join(data.draw(st.sampled_from([letter, letter.upper()])) for letter in host)
    spelled += data.draw(st.sampled_from(["", "."]))
    found = Endpoints(data.draw(st.permutations(warehouses)), SETTINGS).match(stored(spelled))
    assert found.endpoint.warehouse == meant
    assert normal_host(found.endpoint.host) == host


@given(st.text(max_size=40))
def test_no_text_is_taken_for_an_endpoint_that_it_is_not(host):
    found = match(stored(host))
    hosts = {PROD.host, PROD.custom_domain, ADHOC.host, *(each.host for each in PROD.vpc_endpoints)}
    assert (found.endpoint is not None) == (normal_host(host) in hosts)
    assert found.endpoint is not None or found.reason


@pytest.mark.parametrize(
    ("extra", "warehouse"),
    [
        ({"iam": True, "cluster_identifier": "prod", "region": "eu-west-1"}, PROD),
        ({"iam": "true", "cluster_identifier": "PROD"}, PROD),
        ({"cluster_identifier": "prod"}, PROD),
        ({"iam": True, "is_serverless": True, "serverless_work_group": "adhoc"}, ADHOC),
        ({"iam": True, "workgroup_name": "adhoc", "serverless_acct_id": "123456789012"}, ADHOC),
        ({"iam": True, "cluster_identifier": "prod", "region": "us-east-1"}, None),
        ({"iam": True, "is_serverless": True, "serverless_work_group": "adhoc", "serverless_acct_id": "1"}, None),
        ({"iam": True, "cluster_identifier": "adhoc"}, None),
        ({}, None),
    ],
)
def test_by_extra_where_there_is_no_host(extra, warehouse):
    found = match(stored(extra=extra))
    assert (found.endpoint and found.endpoint.warehouse) == warehouse
    assert not found.foreign


def test_with_iam_a_host_of_ones_own_does_not_hide_the_cluster_that_extra_names():
    extra = {"iam": True, "cluster_identifier": "prod"}
    assert match(stored("nlb.corp.example", extra=extra)).endpoint.warehouse == PROD
    assert match(stored("nlb.corp.example", extra={**extra, "iam": False})).endpoint is None
    assert match(stored("prod", extra={"iam": True})).endpoint.warehouse == PROD


def test_with_iam_the_host_begins_with_the_cluster_as_hooks_read_it():
    assert match(stored("prod.corp.example", extra={"iam": True})).endpoint.warehouse == PROD
    assert "may be any of" not in match(stored("10.0.0.1", extra={"iam": True})).reason
    assert "name it in the setting hosts" in match(stored("other.corp.example", extra={"iam": True})).reason
    elsewhere = match(stored("prod.xyz.us-east-2.redshift.amazonaws.com", extra={"iam": True}))
    assert "us-east-2, which is not searched" in elsewhere.reason


@pytest.mark.parametrize(
    ("host", "extra", "warehouse"),
    [
        ("", {"iam": True, "redshift": True, "cluster-identifier": "prod"}, PROD),
        ("nlb.corp.example", {"iam": True, "redshift": True, "cluster-identifier": "prod"}, PROD),
        ("prod.corp.example", {"iam": "true", "redshift": "true"}, PROD),
        ("nlb.corp.example", {"iam": True, "redshift-serverless": True, "workgroup-name": "adhoc"}, ADHOC),
        ("adhoc.corp.example", {"iam": True, "redshift-serverless": True}, ADHOC),
        ("prod.xyz.eu-west-1.rds.amazonaws.com", {"iam": True}, None),  # the hook mints for RDS
    ],
)
def test_as_postgres_hook_reads_extra(host, extra, warehouse):
    found = match(stored(host, "postgres", extra=extra))
    assert (found.endpoint and found.endpoint.warehouse, found.foreign) == (warehouse, warehouse is None)


@pytest.mark.parametrize("conn_type", ["redshift+redshift_connector", "Redshift", "postgresql+psycopg2", "postgresql"])
def test_a_type_with_a_driver_or_in_another_case(conn_type):
    assert match(stored(PROD.host, conn_type)).endpoint.warehouse == PROD


def test_one_name_in_two_regions_needs_a_region():
    other = cluster(region="us-east-1", arn="arn:aws:redshift:us-east-1:123456789012:cluster:prod", host="elsewhere")
    extra = {"iam": True, "cluster_identifier": "prod"}
    assert "may be any of" in match(stored(extra=extra), PROD, other).reason
    found = match(stored(extra={**extra, "region": "us-east-1"}), PROD, other)
    assert found.endpoint.warehouse == other


def test_one_host_with_several_ports():
    other = cluster("other", host="localhost", port=5441)
    same = cluster(host="localhost", port=5440)
    assert match(stored("localhost", port=5441), same, other).endpoint.warehouse == other
    assert "may be any of" in match(stored("localhost", port=1), same, other).reason
    twice = cluster("twice", host="localhost", vpc_endpoints=(VpcEndpoint("etl", "localhost", 5442),))
    assert match(stored("localhost", port=1), twice, other).reason.count("cluster twice ") == 1
    assert match(stored("localhost", port=1), same).endpoint.warehouse == same


def test_a_host_of_the_setting_hosts():
    found = match(stored("nlb.corp.example"), hosts={"prod": "nlb.corp.example:5441"}).endpoint
    assert (found.warehouse, found.name, found.port) == (PROD, "own", 5441)
    assert match(stored(PROD.host), hosts={"prod": "nlb.corp.example"}).endpoint.name == "default"


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("prod.xyz.us-east-2.redshift.amazonaws.com", "its host is in us-east-2, which is not searched"),
        ("prod.xyz.cn-north-1.redshift.amazonaws.com.cn", "its host is in cn-north-1, which is not searched"),
        ("prod.xyz.eusc-de-east-1.redshift.amazonaws.eu", "its host is in eusc-de-east-1, which is not searched"),
        ("x.210987654321.eu-west-1.redshift-serverless.amazonaws.com", "its host is in account 210987654321"),
        ("prod.other.eu-west-1.redshift.amazonaws.com", "prod.abc.eu-west-1.redshift.amazonaws.com"),
        ("gone.abc.eu-west-1.redshift.amazonaws.com", "It was deleted, or is in an account"),
        ("dwh.old.example", "name it in the setting hosts"),
        ("", "it names no host"),
    ],
)
def test_why_not(host, reason):
    assert reason in match(stored(host)).reason
    assert not match(stored(host)).foreign


@pytest.mark.parametrize("host", ["db.corp.example", "", "10.0.0.1"])
def test_what_is_no_redshift(host):
    assert match(stored(host, "postgres")).foreign
    assert match(stored(host, "mysql")).foreign
    assert match(stored(host, "")).reason == "it has no type"


def test_a_login_in_a_host_is_not_repeated():
    assert "planted" not in match(stored("etl:planted@gone.example")).reason


def test_another_type_that_connects_to_a_warehouse_is_told():
    found = match(stored(PROD.host, "jdbc"))
    assert found.reason == "its type is jdbc, and this backend serves redshift and postgres alone"
    assert not found.foreign


def test_a_warehouse_that_may_claim_nothing_here():
    assert "required_tags" in match(stored(PROD.host), required_tags={"env": "prod"}).reason
    assert "allowed_accounts" in match(stored(PROD.host), allowed_accounts=["210987654321"]).reason


def test_what_could_not_be_listed_is_said():
    found = Endpoints([PROD], SETTINGS, ["clusters in eu-west-2 could not be listed"]).match(stored("x.example"))
    assert "(but clusters in eu-west-2 could not be listed)" in found.reason


def test_what_cannot_be_read_is_said():
    found = match(stored(problem="it is odd"))
    assert (found.reason, found.foreign) == ("it is odd", False)
    assert match(stored(conn_type="mysql", problem="it is odd")).foreign
    assert not match(stored(conn_type="", problem="it is odd")).foreign


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("::1", ("::1", None)),
        ("[::1]:5440", ("::1", 5440)),
        ("[::1]", ("::1", None)),
        ("Prod.Example.:5440", ("prod.example", 5440)),
        ("prod:x", ("prod:x", None)),
        ("prod:\u00b2", ("prod:\u00b2", None)),
        (":5439", (":5439", None)),
        ("", ("", None)),
    ],
)
def test_what_was_typed_in_as_a_host(text, address):
    assert split_address(text) == address
