"""Section 8: the fields of the Connection for every way of authenticating."""

from __future__ import annotations

import inspect
import json

import pytest
import redshift_connector
from msgspec.structs import replace
from rich.pretty import pretty_repr

from redshift_secrets.lookup import connection_fields as connections
from redshift_secrets.lookup import spec as specs
from redshift_secrets.model import ConnectionFields, ConnectionSpec, Credential
from redshift_secrets.settings.settings import Settings
from tests.support.fakes import EPOCH, cluster, workgroup

ADDRESS = ("prod.example.com", 5439)
PASSWORD = "Pa55/w:rd%@?#"
IDENTITY = "arn:aws:sts::123456789012:assumed-role/airflow/redshift-secrets"
P = "airflow:"

WAYS = {
    ("cluster", "db-user"): "IAM:airflow_etl",
    ("cluster", "iam"): "IAMR:airflow",
    ("cluster", "secret"): "admin",
    ("workgroup", "iam"): "IAMR:airflow",
    ("workgroup", "secret"): "admin",
}
"""For every way of authenticating that mints, the user as AWS returns it."""
every_way = pytest.mark.parametrize(("kind", "auth"), WAYS)


def spec_of(kind: str, auth: str, tags: dict[str, str] | None = None, **settings: object) -> ConnectionSpec:
    site = Settings.from_kwargs({"allow_admin_secret": True, "db_user": "airflow_etl", **settings})
    tagged = {P + "conn-id": "analytics", P + "auth": auth, **(tags or {})}
    make = cluster if kind == "cluster" else workgroup
    spec = specs.build(make(tags=tagged, admin_secret_arn="arn:aws:secretsmanager:x"), "analytics", site)
    assert spec.errors == ()
    return spec


def credential(user: str) -> Credential:
    return Credential(user, PASSWORD, minted_at=EPOCH, expires_at=EPOCH + 3600, minted_by=IDENTITY)


def minted(kind: str, auth: str, **more: object) -> ConnectionFields:
    return connections.with_credential(spec_of(kind, auth, **more), ADDRESS, credential(WAYS[kind, auth]))


@every_way
def test_a_minted_connection_has_the_fields_of_the_contract(kind: str, auth: str):
    fields = minted(kind, auth)
    assert fields == ConnectionFields(
        conn_id="analytics",
        conn_type="redshift",
        host="prod.example.com",
        port=5439,
        schema="dev",
        login=WAYS[kind, auth],
        password=PASSWORD,
        extra={},
        description=fields.description,
    )


@every_way
def test_the_description_says_where_the_connection_came_from_and_never_the_password(kind: str, auth: str):
    description = minted(kind, auth).description
    warehouse = "cluster prod" if kind == "cluster" else "Serverless workgroup adhoc"
    assert description == (
        f"{warehouse} (account 123456789012, eu-west-1): user {WAYS[kind, auth]}, minted by {IDENTITY}"
        " at 2027-01-15T08:00:00Z, dies at 2027-01-15T09:00:00Z"
    )
    assert PASSWORD not in description


def test_the_database_the_type_and_extra_are_those_of_the_spec():
    tags = {P + "database": "sales", P + "conn-type": "postgres", P + "extra.sslmode": "verify-full"}
    fields = minted("cluster", "db-user", tags=tags, extra={"connect_timeout": 5})
    assert (fields.schema, fields.conn_type) == ("sales", "postgres")
    assert fields.extra == {"connect_timeout": 5, "sslmode": "verify-full"}


def test_extra_of_one_connection_is_not_that_of_another():
    spec = spec_of("cluster", "db-user", extra={"timeout": 5})
    one, two = (connections.with_credential(spec, ADDRESS, credential("x")) for _ in range(2))
    one.extra["timeout"] = 7  # type: ignore[index]
    assert (two.extra, spec.extra) == ({"timeout": 5}, {"timeout": 5})


@every_way
def test_no_repr_holds_the_password(kind: str, auth: str):
    fields = minted(kind, auth)
    for show in (
        repr,
        pretty_repr,
    ):  # Airflow shows the variables of an exception with rich, which has a way of its own
        assert PASSWORD not in show(fields)
        assert "conn_id='analytics'" in show(fields)
        assert PASSWORD not in show(credential("etl"))
        assert "user='etl'" in show(credential("etl"))


def test_what_tags_and_settings_put_into_extra_is_not_in_the_repr_of_the_fields():
    assert "hunter2" not in repr(minted("cluster", "iam", extra={"sslpassword": "hunter2"}))


# --- connector: the driver mints for itself


def for_connector(kind: str, profile: str | None = None, **more: object) -> ConnectionFields:
    return connections.for_connector(spec_of(kind, "connector", **more), ADDRESS, profile)


def test_a_connector_connection_to_a_cluster_is_the_one_users_write_by_hand():
    fields = for_connector("cluster")
    assert (fields.conn_type, fields.host, fields.port, fields.schema) == ("redshift", *ADDRESS, "dev")
    assert (fields.login, fields.password) == ("airflow_etl", None)
    assert fields.extra == {
        "iam": True,
        "cluster_identifier": "prod",
        "region": "eu-west-1",
        "database": "dev",
        "db_user": "airflow_etl",
        "auto_create": False,
    }


def test_a_connector_connection_to_serverless_names_the_workgroup_and_no_user():
    fields = for_connector("workgroup")
    assert (fields.login, fields.password) == (None, None)
    assert fields.extra == {
        "iam": True,
        "is_serverless": True,
        "serverless_work_group": "adhoc",
        "serverless_acct_id": "123456789012",
        "region": "eu-west-1",
        "database": "dev",
    }


@pytest.mark.parametrize("kind", ["cluster", "workgroup"])
def test_a_connector_connection_carries_the_profile_of_the_site(kind: str):
    assert for_connector(kind, "prod").extra["profile"] == "prod"
    assert "profile" not in for_connector(kind).extra


def test_a_connector_connection_carries_groups_the_creation_of_users_and_extra():
    tags = {P + "db-groups": "loaders readers", P + "auto-create": "true", P + "extra.sslmode": "verify-full"}
    extra = for_connector("cluster", tags=tags).extra
    assert (extra["db_groups"], extra["auto_create"], extra["sslmode"]) == (["loaders", "readers"], True, "verify-full")


@pytest.mark.parametrize("kind", ["cluster", "workgroup"])
def test_a_connector_connection_says_what_it_is_and_fits_into_json(kind: str):
    fields = for_connector(kind, "prod", tags={P + "extra.timeout": "5"})
    assert (
        fields.description == f"{spec_of(kind, 'connector').warehouse}: the driver mints for itself (auth = connector)"
    )
    assert json.loads(json.dumps(dict(fields.extra))) == fields.extra


def test_redshift_connector_takes_every_key_that_a_connector_connection_carries():
    accepted = set(inspect.signature(redshift_connector.connect).parameters)
    tags = {P + "db-groups": "loaders"}
    for fields in (for_connector("cluster", "prod", tags=tags), for_connector("workgroup", "prod")):
        assert set(fields.extra) <= accepted


def test_the_address_is_the_one_that_was_asked_for():
    spec = replace(spec_of("cluster", "db-user"), endpoint="custom-domain")
    address = ("dwh.example.com", 5440)
    for fields in (
        connections.with_credential(spec, address, credential("etl")),
        connections.for_connector(spec, address, None),
    ):
        assert (fields.host, fields.port) == address


def test_the_task_is_named_to_the_warehouse():
    task = {"AIRFLOW_CTX_DAG_ID": "sales", "AIRFLOW_CTX_TASK_ID": "load.orders"}
    assert connections.application_name(task) == "airflow/sales/load.orders"
    assert connections.application_name({"AIRFLOW_CTX_DAG_ID": "sales"}) is None
    assert connections.application_name({}) is None


def test_a_name_that_the_warehouse_would_not_take_is_cut_so_that_the_task_is_still_in_it():
    name = connections.application_name({"AIRFLOW_CTX_DAG_ID": "d" * 250, "AIRFLOW_CTX_TASK_ID": "ünicode\n"})
    assert name == f"airflow/{'d' * 120}/?nicode?"
