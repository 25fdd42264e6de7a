"""docs/contract.md, "The Connection": its fields for every way of authenticating."""

from __future__ import annotations

import inspect
import json

import pytest
import redshift_connector
from msgspec.structs import replace
from rich.pretty import pretty_repr

from redshift_secrets.lookup import connection_fields
from redshift_secrets.lookup.spec import build_spec
from redshift_secrets.model import ConnectionFields, ConnectionSpec, Credential
from redshift_secrets.settings import Settings
from tests.support.fakes import EPOCH, cluster, workgroup

ADDRESS = ("prod.example.com", 5439)
PASSWORD = "Pa55/w:rd%@?#"
CALLER = "arn:aws:sts::123456789012:assumed-role/airflow/redshift-secrets"
P = "airflow:"

WAYS = {
    ("cluster", "db-user"): "IAM:airflow_etl",
    ("cluster", "iam"): "IAMR:airflow",
    ("cluster", "secret"): "admin",
    ("workgroup", "iam"): "IAMR:airflow",
    ("workgroup", "secret"): "admin",
}
"""The user as AWS returns it, for every way of authenticating that mints."""
every_way = pytest.mark.parametrize(("kind", "auth"), WAYS)


def make_spec(kind: str, auth: str, tags: dict[str, str] | None = None, **settings: object) -> ConnectionSpec:
    site = Settings.from_kwargs({"allow_admin_secret": True, "db_user": "airflow_etl", **settings})
    tagged = {P + "conn-id": "analytics", P + "auth": auth, **(tags or {})}
    make = cluster if kind == "cluster" else workgroup
    spec = build_spec(make(tags=tagged, admin_secret_arn="arn:aws:secretsmanager:x"), "analytics", site)
    assert spec.errors == ()
    return spec


def credential(user: str) -> Credential:
    return Credential(user, PASSWORD, minted_at=EPOCH, expires_at=EPOCH + 3600, minted_by=CALLER)


def minted(kind: str, auth: str, **more: object) -> ConnectionFields:
    return connection_fields.with_credential(make_spec(kind, auth, **more), ADDRESS, credential(WAYS[kind, auth]))


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
        extra={"sslmode": "verify-full"},
        description=fields.description,
    )


@every_way
def test_the_description_says_where_the_connection_came_from_and_never_the_password(kind: str, auth: str):
    description = minted(kind, auth).description
    warehouse = "cluster prod" if kind == "cluster" else "Serverless workgroup adhoc"
    assert description == (
        f"{warehouse} (account 123456789012, eu-west-1): user {WAYS[kind, auth]}, minted by {CALLER}"
        " at 2027-01-15T08:00:00Z, expires at 2027-01-15T09:00:00Z"
    )
    assert PASSWORD not in description


def test_the_database_the_type_and_extra_are_those_of_the_spec():
    tags = {P + "database": "sales", P + "conn-type": "postgres", P + "extra.keepalives_idle": "30"}
    fields = minted("cluster", "db-user", tags=tags, extra={"connect_timeout": 5})
    assert (fields.schema, fields.conn_type) == ("sales", "postgres")
    assert fields.extra == {"connect_timeout": 5, "keepalives_idle": 30, "sslmode": "verify-full"}


def test_nobody_can_change_the_extra_of_another_connection():
    spec = make_spec("cluster", "db-user", extra={"timeout": 5})
    fields = connection_fields.with_credential(spec, ADDRESS, credential("x"))
    for extra in (fields.extra, spec.extra):
        with pytest.raises(TypeError, match="does not support item assignment"):
            extra["timeout"] = 7  # type: ignore[index]


@every_way
def test_no_repr_holds_the_password(kind: str, auth: str):
    fields = minted(kind, auth)
    for show in (repr, pretty_repr):  # Airflow shows the variables of a traceback with rich, which does not use repr
        assert PASSWORD not in show(fields)
        assert "conn_id='analytics'" in show(fields)
        assert PASSWORD not in show(credential("etl"))
        assert "user='etl'" in show(credential("etl"))


def test_extra_is_not_in_the_repr_of_the_fields():
    assert "hunter2" not in repr(minted("cluster", "iam", extra={"sslpassword": "hunter2"}))


# --- connector: the driver mints for itself


def for_connector(kind: str, **more: object) -> ConnectionFields:
    return connection_fields.for_connector(make_spec(kind, "connector", **more), ADDRESS, None)


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
        "sslmode": "verify-full",
    }


def test_a_connector_connection_to_serverless_has_the_workgroup_and_no_user():
    fields = for_connector("workgroup")
    assert (fields.login, fields.password) == (None, None)
    assert fields.extra == {
        "iam": True,
        "is_serverless": True,
        "serverless_work_group": "adhoc",
        "serverless_acct_id": "123456789012",
        "region": "eu-west-1",
        "database": "dev",
        "sslmode": "verify-full",
    }


def test_a_connector_connection_has_groups_auto_create_and_extra():
    tags = {P + "db-groups": "loaders readers", P + "auto-create": "true", P + "extra.timeout": "7"}
    extra = for_connector("cluster", tags=tags).extra
    assert (extra["db_groups"], extra["auto_create"], extra["timeout"]) == (["loaders", "readers"], True, 7)


@pytest.mark.parametrize("kind", ["cluster", "workgroup"])
def test_a_connector_connection_has_a_description_and_extra_is_json(kind: str):
    fields = for_connector(kind, tags={P + "extra.timeout": "5"})
    assert (
        fields.description
        == f"{make_spec(kind, 'connector').warehouse}: the driver mints for itself (auth = connector)"
    )
    assert json.loads(json.dumps(dict(fields.extra))) == fields.extra


def test_redshift_connector_accepts_every_key_of_a_connector_connection():
    accepted = set(inspect.signature(redshift_connector.connect).parameters)
    tags = {P + "db-groups": "loaders"}
    for fields in (for_connector("cluster", tags=tags), for_connector("workgroup")):
        assert set(fields.extra) <= accepted


def test_host_and_port_are_those_of_the_requested_endpoint():
    spec = replace(make_spec("cluster", "db-user"), endpoint="custom-domain")
    address = ("dwh.example.com", 5440)
    for fields in (
        connection_fields.with_credential(spec, address, credential("etl")),
        connection_fields.for_connector(spec, address, None),
    ):
        assert (fields.host, fields.port) == address
