"""The two logins of a conn_id: what is compared, what is said where one of them fails, and that no password is said."""

from __future__ import annotations

import socket

import pytest

from redshift_secrets.operations.migrate.comparing import compare
from tests.support.fakes import cluster, denied
from tests.unit.operations.migrate.stored import stored

PLANTED = "planted/pass+word="
TAGGED = cluster(tags={"airflow:conn-id": "analytics", "airflow:db-user": "etl"})


class FakeDatabase:
    """Logs in as the user of a connection, without `IAM:`. `groups` are those of the sessions by tags; roles are not known."""

    def __init__(self, user="etl", groups=("loaders",), error=None, tagged_error=None):
        self.user, self.groups, self.error, self.tagged_error = user, groups, error, tagged_error
        self.closed = 0
        self.fields = []

    def __call__(self, fields):
        self.fields.append(fields)
        is_tagged = str(fields.login).startswith("IAM:")
        error = self.tagged_error if is_tagged else self.error
        if error is not None:
            raise error
        return FakeSession(self, is_tagged)


class FakeSession:
    def __init__(self, database, is_tagged):
        self.database, self.is_tagged = database, is_tagged
        self.statement = ""

    def cursor(self):
        return self

    def execute(self, statement):
        self.statement = statement
        if "svv_user_grants" in statement:
            raise RuntimeError("there is no such view")

    def fetchone(self):
        return (self.database.user if self.is_tagged else "etl", "dev")

    def fetchall(self):
        return [(name,) for name in (self.database.groups if self.is_tagged else ("loaders",))]

    def close(self):
        self.database.closed += 1


@pytest.fixture
def compared(site):
    def run(database, **fields):
        return compare(site(TAGGED).broker, stored(password=PLANTED, **fields), database)

    return run


def test_equal_sessions(compared):
    database = FakeDatabase()
    found = compared(database)
    assert (found.equal, found.differences) == (True, ())
    assert (found.tagged.user, found.tagged.groups, found.tagged.roles) == ("etl", ("loaders",), None)
    assert database.closed == 2


def test_each_difference_is_said(compared):
    found = compared(FakeDatabase("bi", ()))
    assert found.equal is False
    assert found.differences == ("user etl is stored, and bi by tags", "groups loaders is stored, and none by tags")


def test_a_stored_connection_that_does_not_log_in_says_nothing_of_the_other(compared):
    found = compared(
        FakeDatabase(error=OSError(f"no {PLANTED} for planted-token-in-extra")),
        extra={"token": "planted-token-in-extra"},
    )
    assert found.equal is None
    assert found.differences == ("what is stored does not log in: OSError: no *** for ***",)
    assert "planted" not in repr(found)


def test_a_host_that_does_not_answer_is_told_as_that_for_both(compared):
    import redshift_connector

    away = redshift_connector.InterfaceError("communication error", ConnectionRefusedError(111, "Connection refused"))
    found = compared(FakeDatabase(error=away, tagged_error=away))
    assert found.stored.startswith("prod.abc.eu-west-1.redshift.amazonaws.com:5439 refuses connections: ")
    assert found.tagged == found.stored
    found = compared(FakeDatabase(error=away), host=f"redshift://etl:{PLANTED}@nlb.example/dwh")
    assert found.stored.startswith("'nlb.example...':5439 refuses connections: ")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("nlb.example", "nlb.example"),
        (f"redshift://etl:{PLANTED}@nlb.example/dwh", "'nlb.example...'"),
        (f"jdbc:redshift://nlb.example:5439/dev;PWD={PLANTED}", "'nlb.example:5439...'"),
        ("nlb.example.", "'nlb.example.'"),
        ("nlb.example:5439", "'nlb.example:5439'"),
        (" nlb.example", "' nlb.example'"),
        ("", "''"),
    ],
)
def test_a_host_that_cannot_be_resolved_is_said_as_it_was_typed_in(compared, typed, said):
    found = compared(FakeDatabase(error=socket.gaierror(-2, "Name or service not known")), host=typed)
    assert found.stored.startswith(f"{said} cannot be resolved. ")
    assert PLANTED not in found.stored


def test_what_is_no_secret_of_extra_is_shown(compared):
    found = compared(FakeDatabase(error=OSError("no prod-of-sales")), extra={"cluster_identifier": "prod-of-sales"})
    assert found.stored == "OSError: no prod-of-sales"


def test_tags_that_do_not_log_in_are_a_difference(compared, site):
    found = compared(FakeDatabase(tagged_error=ConnectionRefusedError("refused")))
    assert found.equal is False
    assert found.differences[0].startswith("it does not log in by its tags: ")
    here = site(TAGGED)
    here.aws.mint_error = denied("redshift:GetClusterCredentials")
    found = compare(here.broker, stored(password=PLANTED), FakeDatabase())
    assert found.equal is False
    assert "redshift:GetClusterCredentials" in found.differences[0]
    found = compare(site(cluster(tags={})).broker, stored(password=PLANTED), FakeDatabase())
    assert found.differences == ("it does not log in by its tags: no tag claims it",)


def test_with_iam_the_driver_mints_for_the_login(compared):
    database = FakeDatabase()
    compared(database, extra={"iam": True, "cluster_identifier": "prod"})
    old = database.fields[0]
    assert old.password is None
    assert dict(old.extra) == {"iam": True, "cluster_identifier": "prod", "db_user": "etl"}


@pytest.mark.parametrize(
    ("fields", "extra"),
    [
        ({"extra": {"iam": "True", "cluster_identifier": "x"}}, {"iam": True, "cluster_identifier": "x", "db_user": "etl"}),
        ({"extra": {"iam": True}}, {"iam": True, "cluster_identifier": "prod", "db_user": "etl"}),
        (
            {"conn_type": "postgres", "extra": {"iam": True, "redshift": True, "cluster-identifier": "x", "keepalives": 1}},
            {"iam": True, "cluster_identifier": "x", "db_user": "etl"},
        ),
        (
            {"login": "", "extra": {"iam": True}, "host": "adhoc.123456789012.eu-west-1.redshift-serverless.amazonaws.com"},
            {"iam": True},
        ),
    ],
)  # fmt: skip
def test_the_driver_mints_where_a_hook_does(compared, fields, extra):
    database = FakeDatabase()
    compared(database, **fields)
    old = database.fields[0]
    assert (old.conn_type, old.password, dict(old.extra)) == ("redshift", None, extra)


def test_libpq_gets_no_option_of_the_hook(compared):
    database = FakeDatabase()
    compared(
        database, conn_type="postgres", extra={"redshift": True, "aws_conn_id": "x", "keepalives": 1, "dbname": "sales"}
    )
    old = database.fields[0]
    assert (old.conn_type, old.schema, dict(old.extra)) == ("postgres", "sales", {"keepalives": 1})
    assert old.password == PLANTED
