"""A connection as the environment of psql or dbt: what it sets, what it removes, and what it never shows."""

from __future__ import annotations

import pytest

from redshift_secrets.errors import CannotServeError
from redshift_secrets.model import TaskContext
from redshift_secrets.operations.environment import NAMES, client_environment
from tests.support.fakes import cluster

ROOTS = {"PGSSLROOTCERT": "/told/libpq.pem"}


def found(here, environ=ROOTS, conn_id="analytics", sslrootcert=None, task=TaskContext()):  # noqa: B008  # immutable
    return client_environment(here.broker, conn_id, task, environ, sslrootcert)


def test_what_psql_and_dbt_read(site):
    here = site(db_user="etl")
    environment = found(here)
    assert dict(environment.variables) == {
        "PGHOST": "prod.abc.eu-west-1.redshift.amazonaws.com",
        "PGPORT": "5439",
        "PGUSER": "IAM:etl",
        "PGPASSWORD": "password-1",
        "PGDATABASE": "dev",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/told/libpq.pem",
        "DBT_ENV_SECRET_PASSWORD": "password-1",
    }
    assert set(environment.variables) == set(NAMES)
    assert "IAM:etl" in environment.about
    assert "expires at 20" in environment.about
    # A program gets texts, not what prints itself as ***.
    assert {type(value) for value in environment.applied_to({}).values()} == {str}


def test_no_repr_has_the_password(site):
    environment = found(site())
    assert "password-1" not in f"{environment!r} {environment} {environment.variables}"


@pytest.mark.parametrize(
    ("conn_type", "setting", "roots"),
    [
        ("redshift", None, "/told/libpq.pem"),
        ("redshift", "/of/the/site.pem", "/of/the/site.pem"),
        ("postgres", "/of/the/site.pem", "/of/the/site.pem"),
    ],
)
def test_root_certificates_are_those_of_libpq_whatever_the_type(site, conn_type, setting, roots):
    here = site(conn_type=conn_type, sslrootcert=setting)
    assert found(here, sslrootcert=setting).variables["PGSSLROOTCERT"] == roots


def test_what_the_shell_has_for_another_server_does_not_reach_the_command(site):
    another = {
        **dict.fromkeys(NAMES, "another"),
        "PGSERVICE": "another",
        "PGHOSTADDR": "192.0.2.1",
        "PGPASSFILE": "/home/me/.pgpass",
        "PGOPTIONS": "-c role=admin",
        "PGSSLNEGOTIATION": "direct",
        "PGTARGETSESSIONATTRS": "read-write",
    }
    mine = {"PATH": "/bin", "PGTZ": "UTC", "PGAPPNAME": "me", "PGSSLCRL": "/crl.pem", "AWS_PROFILE": "prod"}
    environment = found(site(), {**another, **mine})
    child = environment.applied_to({**another, **mine})
    assert child == {**mine, **environment.variables, "PGSSLROOTCERT": "another"}


def test_a_root_certificate_of_the_shell_does_not_turn_a_check_on_that_the_settings_turn_off(site):
    environment = found(site(sslmode="require"))
    assert environment.variables["PGSSLMODE"] == "require"
    assert "PGSSLROOTCERT" not in environment.applied_to({"PGSSLROOTCERT": "/told/libpq.pem"})


def test_a_connection_without_a_password_is_refused(site):
    with pytest.raises(CannotServeError, match="auth = connector"):
        found(site(auth="connector", db_user="etl"))


def test_what_is_not_managed_and_what_cannot_be_served(site):
    here = site(cluster(status="paused"))
    assert found(here, conn_id="elsewhere") is None
    with pytest.raises(CannotServeError, match="is paused"):
        found(here)


def test_a_user_for_each_dag(site):
    here = site(db_user="etl_{dag_id}")
    assert found(here, task=TaskContext("sales")).variables["PGUSER"] == "IAM:etl_sales"
