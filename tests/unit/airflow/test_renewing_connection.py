"""To all of Airflow, a Connection that renews itself is the Connection that Airflow asked for."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import traceback
from types import SimpleNamespace

import attrs
import pytest
from airflow.models import Connection as CoreConnection
from airflow.sdk import Connection as SdkConnection
from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied
from airflow.sdk.serde import serialize
from msgspec.structs import replace
from rich.pretty import pretty_repr

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.airflow import renewing_connection as renewal
from redshift_secrets.model import ConnectionFields, reveal
from tests.support.fakes import Clock, denied
from tests.support.helpers import Crowd, tagged

NAMES = ("conn_id", "conn_type", "description", "host", "port", "schema", "login", "password", "extra")


@pytest.fixture
def make(site, clock, monkeypatch):
    """Makes a backend as in a task, and the AWS that it asks."""

    monkeypatch.setattr("redshift_secrets.backend.time", SimpleNamespace(time=clock))
    monkeypatch.setattr(
        "redshift_secrets.airflow.refusals.serves_http", lambda: False
    )  # whatever this process has loaded

    def backend_of(connection_class=SdkConnection, **settings):
        made = site(tagged(db_user="etl"), **settings)
        backend = RedshiftSecretsBackend(cache={"host": False}, **settings)
        backend._set_connection_class(connection_class)
        backend._broker, backend.current_broker = made.broker, lambda: made.broker
        return backend, made

    return backend_of


@pytest.fixture
def connection(make):
    return make()[0].get_connection("analytics")


@pytest.fixture
def plain(connection):
    return SdkConnection(**{name: getattr(connection, name) for name in NAMES})


def test_it_is_an_instance_of_the_class_that_airflow_asked_for_and_equal_to_one(connection, plain):
    assert isinstance(connection, SdkConnection)
    assert connection == plain
    assert plain == connection
    assert connection != SdkConnection(**{**{name: getattr(plain, name) for name in NAMES}, "login": "other"})
    assert connection != "analytics"
    with pytest.raises(TypeError, match="unhashable"):
        hash(connection)


def test_what_leaves_the_process_is_plain_and_has_a_valid_credential(connection, clock):
    clock.pass_(2 * 3600)
    left = pickle.loads(pickle.dumps(connection))
    assert type(left) is SdkConnection
    assert set(vars(left)) == set(NAMES)
    assert (left.login, left.password) == ("IAM:etl", "password-2")


@pytest.mark.attempt("read a secret in a structured log event or a repr")
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: copy.deepcopy([one])[0]])
def test_a_copy_has_a_valid_credential_and_shows_no_more_than_the_first_one(connection, clock, copied):
    clock.pass_(2 * 3600)
    left = copied(connection)
    assert (left.login, left.password) == ("IAM:etl", "password-2")
    assert left == connection
    assert repr(left) == repr(connection)
    clock.pass_(2 * 3600)
    assert left.password == "password-2"
    left.password = "mine"
    assert (left.password, connection.password) == ("mine", "password-3")
    assert "password" not in repr(attrs.evolve(connection, host="tunnel"))


def test_its_pickle_can_be_loaded_without_this_package(connection):
    assert b"redshift_secrets" not in pickle.dumps(connection)


def test_its_uri_and_json_are_those_of_a_plain_one(connection, plain):
    assert connection.get_uri() == plain.get_uri()
    assert connection.as_json() == plain.as_json()
    assert connection.to_dict() == plain.to_dict()
    assert attrs.asdict(connection) == attrs.asdict(plain)
    assert json.dumps(serialize(connection)) == json.dumps(serialize(plain))


def test_its_repr_has_user_and_host_and_no_password(connection, clock, make):
    shown = repr(connection)
    assert "conn_id='analytics'" in shown
    assert "login='IAM:etl'" in shown
    assert "password" not in shown
    clock.pass_(2 * 3600)
    assert repr(connection) == shown  # printing it asks nobody


def variables_of_a_traceback(error):
    """Return what rich prints of the variables of each frame of a traceback, as Sentry and debuggers do in their own ways."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename != __file__]
    assert frames
    return "\n".join(pretty_repr(value, max_string=80) for frame in frames for value in frame.f_locals.values())


@pytest.mark.attempt("read a secret in a structured log event or a repr")
@pytest.mark.parametrize("read", [lambda one: one.login, lambda one: one.password, lambda one: one.get_uri()])
def test_no_variable_of_a_renewal_that_is_refused_has_the_last_password(make, clock, read):
    backend, made = make()
    connection = backend.get_connection("analytics")
    assert connection.password == "password-1"
    made.aws.mint_error = denied("redshift:GetClusterCredentials")
    clock.pass_(2 * 3600)
    with pytest.raises(AirflowSecretsBackendAccessDenied) as refused:
        read(connection)
    assert "password-1" not in variables_of_a_traceback(refused.value)


@pytest.mark.attempt("read a secret in a structured log event or a repr")
def test_rich_shows_no_more_of_it_than_its_repr(make):
    connection = make(extra={"sslpassword": "hunter2-hunter2"})[0].get_connection("analytics")
    shown = pretty_repr({"a": [connection]})
    assert "login='IAM:etl'" in shown
    assert "password" not in shown


def test_a_renewed_password_is_masked(make, clock):
    backend, made = make()
    connection = backend.get_connection("analytics")
    clock.pass_(2 * 3600)
    assert connection.password == "password-2"
    assert made.secrets == ["password-1", "password-2"]


def test_it_looks_up_again_when_the_credential_is_due(make, clock):
    backend, made = make()
    connection = backend.get_connection("analytics")
    clock.pass_(3600 - 300 - 59)
    asked = [connection.login, connection.password]
    assert made.aws.calls["mint"] == 1
    clock.pass_(301)  # due here, still valid at the warehouse
    assert [connection.login, connection.password] == ["IAM:etl", "password-2"]
    assert asked == ["IAM:etl", "password-1"]


def test_a_clock_that_is_set_back_does_not_prolong_the_use_of_a_credential(plain, clock):
    monotonic, fields = Clock(), ConnectionFields("a", "redshift", "h", 1, "dev", "etl", "next", {}, "", None)
    renewal.attach(plain, lambda: fields, clock, clock() + 100, monotonic)
    clock.pass_(-3600)
    monotonic.pass_(99)
    assert plain.password == "password-1"
    monotonic.pass_(1)
    assert plain.password == "next"


def test_a_user_and_password_that_a_task_sets_stay(connection, clock):
    connection.login, connection.password, connection.schema = "me", "mine", "elsewhere"
    clock.pass_(2 * 3600)
    assert (connection.login, connection.password, connection.schema) == ("me", "mine", "elsewhere")


def test_a_renewal_changes_login_password_and_description_alone(connection, clock):
    connection.schema, connection.extra = "elsewhere", '{"sslmode": "require"}'
    before = connection.description
    clock.pass_(2 * 3600)
    assert connection.password == "password-2"
    assert (connection.schema, connection.extra) == ("elsewhere", '{"sslmode": "require"}')
    assert connection.description != before


def test_many_threads_get_user_and_password_of_one_credential(connection, clock):
    clock.pass_(2 * 3600)
    assert set(Crowd(20, lambda: (connection.login, connection.password)).outcomes()) == {("IAM:etl", "password-2")}


def in_thread(call):
    """Return what the call returns in a thread of its own."""
    return Crowd(1, call).outcomes()[0]


@pytest.mark.parametrize("before", [-1, 0, 1, 30, 59, 60, 61])
def test_a_slow_client_gets_user_and_password_of_one_credential(make, clock, before):
    backend, made = make()
    mint = made.aws.mint
    made.aws.mint = lambda request: (found := mint(request)) and replace(found, user=f"IAM:of-{reveal(found.password)}")
    connection = backend.get_connection("analytics")
    clock.pass_(3600 - 300 - before)
    user = connection.login
    clock.pass_(renewal.LOGIN_PASSWORD_PAIR_SECONDS - 1)
    others, password = in_thread(lambda: (connection.login, connection.password))  # which may renew in between
    assert others == f"IAM:of-{password}"
    assert user == f"IAM:of-{connection.password}"


def test_one_whose_tag_was_removed_says_so(make, clock):
    backend, made = make()
    connection = backend.get_connection("analytics")
    made.aws.warehouses.clear()
    clock.pass_(2 * 3600)
    backend.get_connection("analytics")  # the catalog is stale by now: this starts a listing
    made.ask()
    with pytest.raises(
        AirflowSecretsBackendAccessDenied, match="'analytics' cannot be renewed: no warehouse claims it"
    ):
        _ = connection.login


def test_a_refusal_is_not_an_attribute_error(make, clock):
    backend, made = make()
    connection = backend.get_connection("analytics")
    made.aws.mint_error = RuntimeError("secret text")
    clock.pass_(2 * 3600)
    with pytest.raises(AirflowSecretsBackendAccessDenied, match="cannot be served"):
        getattr(connection, "login", None)


def test_a_connection_of_a_trigger_never_looks_up_again(make, clock):
    backend, made = make()
    connection = asyncio.run(backend.aget_connection("analytics"))
    clock.pass_(2 * 3600)
    assert (connection.login, connection.password) == ("IAM:etl", "password-1")
    assert made.aws.calls["mint"] == 1


def test_a_connection_of_the_server_is_plain(make):
    backend, _ = make(CoreConnection)
    assert type(backend.get_connection("analytics")) is CoreConnection


def test_a_connection_that_the_driver_mints_for_never_renews_itself_and_hides_its_extra(make, clock):
    backend, made = make(auth="connector", extra={"sslpassword": "planted"})
    connection = backend.get_connection("analytics")
    clock.pass_(2 * 3600)
    assert (connection.login, connection.password) == ("etl", None)
    assert made.aws.calls["mint"] == 0
    assert "planted" not in repr(connection)
    assert connection.extra_dejson["sslpassword"] == "planted"


@attrs.define
class ConnectionWithSlots:
    """As Airflow 3.0 and 3.1 have it."""

    conn_id: str
    login: str | None = None
    password: str | None = None
    extra: str | None = None


def test_one_with_slots_does_not_renew_itself_and_shows_no_secrets():
    connection = ConnectionWithSlots("analytics", "etl", "hunter2", '{"token": "hunter3"}')
    renewal.attach(connection)
    assert repr(connection) == "Connection(conn_id='analytics', login='etl')"
    assert (connection.password, connection.login) == ("hunter2", "etl")
    for again in (copy.copy(connection), copy.deepcopy(connection)):
        assert repr(again) == "Connection(conn_id='analytics', login='etl')"
        assert (again.password, again.extra) == ("hunter2", '{"token": "hunter3"}')
    again = pickle.loads(pickle.dumps(connection))
    assert type(again) is ConnectionWithSlots
    assert (again.conn_id, again.password, again.extra) == ("analytics", "hunter2", '{"token": "hunter3"}')
