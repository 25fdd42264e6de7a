"""The backend that Airflow constructs, called by a real Airflow."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from unittest import mock
from urllib.parse import quote, quote_plus

import pytest
from airflow.secrets.environment_variables import EnvironmentVariablesBackend
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.airflow import masking
from redshift_secrets.errors import SettingsError
from redshift_secrets.lookup import wiring
from redshift_secrets.model import Scope
from redshift_secrets.settings import values
from tests.support import airflow_parts
from tests.support.airflow_parts import CONNECTION_CLASSES, Connection, Refusal, ServerConnection, used
from tests.support.fakes import Clock, FakeAws, cluster, denied, workgroup
from tests.support.helpers import all_refreshes_done, in_child

CLUSTERS = Scope("cluster", "eu-west-1", None)
AWKWARD = "p/a+s s=w%o:r@d?&é"
FIELDS = ("conn_id", "conn_type", "host", "port", "schema", "login", "password", "extra_dejson")


class AwsClient(FakeAws):
    """Mints the user and password of a test."""

    def __init__(self, *warehouses, user="IAM:etl", password=AWKWARD, clock=None):
        super().__init__(clock or Clock(time.time()), warehouses or [cluster()])
        self.user, self.password = user, password

    def mint(self, request):
        return replace(super().mint(request), user=self.user, password=self.password)


def backend_of(aws, connection_class=None, **kwargs):
    """A backend as Airflow constructs it, with a stand-in for the AWS client."""
    backend = RedshiftSecretsBackend(**{"cache": {"host": False}, **kwargs})
    if connection_class is not None:
        backend._connection_class = connection_class  # as Airflow 3.2 and newer do
    with mock.patch("redshift_secrets.lookup.wiring.LazyAwsClient", return_value=aws):
        broker = backend._create_broker("a caller")
    # Each has a broker of its own, although their settings are the same.
    backend._settings_key, backend._create_broker = f"backend {id(broker)}", lambda _caller: broker
    return backend


def attempts_in_the_loop(monkeypatch, backend_class):
    """Return a list that gets, for each attempt of a lookup, whether it ran in the main thread, where the event loop is."""
    found, get_connection = [], backend_class._get_connection

    def noting(self, *args):
        found.append(threading.current_thread() is threading.main_thread())
        return get_connection(self, *args)

    monkeypatch.setattr(backend_class, "_get_connection", noting)
    return found


@pytest.fixture(autouse=True)
def clean_maskers():
    yield
    all_refreshes_done()
    airflow_parts.reset_maskers()


class TestApplicationName:
    def test_extra_names_the_task_of_each_lookup(self, monkeypatch):
        backend = backend_of(AwsClient())
        for dag_id in ("sales", "stock"):
            monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", dag_id)
            monkeypatch.setenv("AIRFLOW_CTX_TASK_ID", "load")
            extra = backend.get_connection("analytics").extra_dejson
            assert extra == {"application_name": f"airflow/{dag_id}/load", "sslmode": "verify-full"}

    def test_a_name_from_the_settings_wins(self, monkeypatch):
        monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "sales")
        monkeypatch.setenv("AIRFLOW_CTX_TASK_ID", "load")
        backend = backend_of(AwsClient(), extra={"application_name": "etl"})
        assert backend.get_connection("analytics").extra_dejson["application_name"] == "etl"


class TestOneBackendPerLookup:
    """From 3.0 to 3.2 Airflow constructs a backend for each lookup of a task or a trigger."""

    @pytest.fixture
    def aws(self):
        aws = AwsClient()
        with mock.patch("redshift_secrets.lookup.wiring.LazyAwsClient", return_value=aws):
            yield aws

    @staticmethod
    def look_up(**kwargs):
        return RedshiftSecretsBackend(**{"cache": {"host": False}, **kwargs}).get_connection("analytics")

    def test_the_next_backend_has_the_answer_of_the_last_one_in_memory(self, aws):
        assert {self.look_up().password for _ in range(5)} == {AWKWARD}
        assert aws.calls == {"list": 2, "mint": 1}

    def test_the_next_backend_answers_in_the_event_loop(self, aws, monkeypatch):
        in_the_loop = attempts_in_the_loop(monkeypatch, RedshiftSecretsBackend)
        asyncio.run(RedshiftSecretsBackend(cache={"host": False}).aget_connection("analytics"))
        assert set(in_the_loop) == {False}
        in_the_loop.clear()
        asyncio.run(RedshiftSecretsBackend(cache={"host": False}).aget_connection("analytics"))
        assert in_the_loop == [True]

    def test_the_caller_is_determined_once_for_a_lookup_and_not_for_one_from_memory(self, aws, monkeypatch):
        determine, backend = mock.Mock(wraps=wiring.caller_fingerprint), RedshiftSecretsBackend(cache={"host": False})
        monkeypatch.setattr(wiring, "caller_fingerprint", determine)
        for times, conn_id in enumerate(["analytics", "nobody", "smtp_default"], start=1):
            for _ in range(3):
                backend.get_connection(conn_id)
            assert determine.call_count == times

    def test_other_settings_and_other_callers_do_not_share_answers(self, aws, monkeypatch, tmp_path):
        self.look_up()
        self.look_up(db_groups="readers")
        assert aws.calls["mint"] == 2
        for name, value in (("AWS_PROFILE", "other"), ("AWS_ENDPOINT_URL", "http://localhost:1")):
            monkeypatch.setenv(name, value)
            self.look_up()
        assert aws.calls["mint"] == 4
        credentials = tmp_path / "credentials"
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
        for key in ("one", "another"):
            credentials.write_text(f"[default]\naws_access_key_id = {key}\n")
            self.look_up()
        assert aws.calls["mint"] == 6

    def test_an_environment_that_keeps_changing_does_not_fill_the_memory(self, aws, monkeypatch):
        for number in range(50):
            monkeypatch.setenv("AWS_SESSION_TOKEN", str(number))
            self.look_up()
        assert len(wiring._brokers) <= 3
        assert aws.calls["mint"] == 50
        self.look_up()
        assert aws.calls["mint"] == 50  # the oldest are dropped

    def test_an_error_while_the_caller_is_determined_is_a_refusal_in_the_event_loop_too(self, aws, monkeypatch):
        monkeypatch.setattr(wiring, "caller_fingerprint", mock.Mock(side_effect=RuntimeError("broken")))
        backend = RedshiftSecretsBackend(cache={"host": False}, managed_conn_ids="^ana")
        with pytest.raises(Refusal, match="cannot be looked up"):
            assert not used(asyncio.run(backend.aget_connection("analytics")))

    def test_so_is_one_in_what_this_process_remembers(self, aws):
        backend = RedshiftSecretsBackend(regions=["eu-west-1"], cache={"host": False}, managed_conn_ids="^ana")
        backend.get_connection("analytics")
        backend._broker.peek = mock.Mock(side_effect=RuntimeError("broken"))
        with pytest.raises(Refusal, match="cannot be looked up"):
            assert not used(asyncio.run(backend.aget_connection("analytics")))


class TestConnection:
    @pytest.mark.parametrize("connection_class", CONNECTION_CLASSES)
    def test_it_has_the_class_that_airflow_set_and_every_field(self, connection_class):
        connection = backend_of(AwsClient(), connection_class, extra={"timeout": 5}).get_connection("analytics")
        assert isinstance(connection, connection_class)
        assert [getattr(connection, name) for name in FIELDS] == [
            "analytics", "redshift", "prod.abc.eu-west-1.redshift.amazonaws.com", 5439, "dev", "IAM:etl", AWKWARD,
            {"timeout": 5, "sslmode": "verify-full"},
        ]  # fmt: skip
        assert connection.description.startswith("cluster prod (account 123456789012, eu-west-1): user IAM:etl")
        assert AWKWARD not in connection.description

    def test_without_a_class_it_is_the_one_of_airflow_models(self):
        assert type(backend_of(AwsClient()).get_connection("analytics")) is ServerConnection

    def test_the_team_decides(self):
        backend = backend_of(AwsClient(cluster(tags={"airflow:conn-id": "analytics", "airflow:team": "bi"})))
        assert backend.get_connection("analytics") is None
        assert backend.get_connection(conn_id="analytics", team_name="etl") is None
        assert backend.get_connection(conn_id="analytics", team_name="bi").login == "IAM:etl"
        assert json.loads(backend.get_conn_value("analytics", team_name="bi"))["login"] == "IAM:etl"

    def test_a_child_of_a_process_that_used_it_works_at_once(self):
        backend = backend_of(AwsClient())
        backend.get_connection("analytics")
        assert in_child(lambda: backend.get_connection("analytics").password) == AWKWARD


class TestNotManaged:
    def test_variables_and_configuration_are_none_and_cost_nothing(self):
        aws = AwsClient()
        backend = backend_of(aws)
        assert backend.get_variable("analytics") is None
        assert backend.get_variable(key="analytics", team_name="bi") is None
        assert backend.get_config("analytics") is None
        assert aws.calls == {}

    def test_a_conn_id_that_no_tag_claims_is_none(self):
        backend = backend_of(AwsClient())
        assert backend.get_connection("smtp_default") is None
        assert backend.get_conn_value("smtp_default") is None

    def test_a_conn_id_that_the_pattern_rules_out_does_not_create_the_broker(self):
        with mock.patch("redshift_secrets.lookup.wiring.create_broker", side_effect=AssertionError):
            backend = RedshiftSecretsBackend(managed_conn_ids="^ana")
            assert backend.get_connection("smtp_default") is None
            with pytest.raises(Refusal, match="unexpected AssertionError"):
                used(backend.get_connection("analytics"))

    @pytest.mark.parametrize(  # the same line would not be logged again
        ("settings", "kind"), [({}, OSError), ({"connections_lookup_pattern": "^ana"}, ValueError)]
    )
    def test_a_broker_that_cannot_be_created_is_logged_and_answers_none(self, caplog, settings, kind):
        with mock.patch("redshift_secrets.lookup.wiring.create_broker", side_effect=kind("secret text")):
            assert RedshiftSecretsBackend(**settings).get_connection("analytics") is None
        assert f"redshift-secrets cannot look anything up: an unexpected {kind.__name__}" in caplog.text
        assert "secret text" not in caplog.text

    def test_a_user_without_a_place_for_the_host_store_is_served(self, monkeypatch, caplog):
        missing = mock.Mock(side_effect=FileNotFoundError("user 1000 has no home; set cache.path"))
        monkeypatch.setattr(wiring, "default_cache_dir", missing)
        backend = backend_of(AwsClient(), cache={"host": True})
        assert backend.get_connection("analytics").password == AWKWARD
        assert "nothing is cached for other processes of this host: user 1000 has no home" in caplog.text

    def test_airflow_goes_on_to_its_next_backend(self, monkeypatch):
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", "smtp://me:old-password@mail")
        assert self.asked_of_airflow(monkeypatch, AwsClient(), "smtp_default").password == "old-password"

    def test_airflow_never_falls_through_to_an_old_password_for_a_managed_conn_id(self, monkeypatch):
        monkeypatch.setenv("AIRFLOW_CONN_ANALYTICS", "redshift://me:old-password@dw")
        aws = AwsClient()
        aws.mint_error = denied("redshift:GetClusterCredentialsWithIAM")
        with pytest.raises(Refusal, match="redshift:GetClusterCredentialsWithIAM"):
            used(self.asked_of_airflow(monkeypatch, aws, "analytics"))

    def asked_of_airflow(self, monkeypatch, aws, conn_id):
        backends = [backend_of(aws, ServerConnection), EnvironmentVariablesBackend()]
        backends[1]._connection_class = ServerConnection
        for module in (
            "airflow.configuration",
            "airflow.models.connection",
        ):  # older versions call their own import of it
            monkeypatch.setattr(f"{module}.ensure_secrets_loaded", lambda *_args, **_kwargs: backends, raising=False)
        return ServerConnection.get_connection_from_secrets(conn_id)


class TestRefusals:
    @pytest.fixture
    def backend(self):
        return backend_of(AwsClient(cluster(status="paused")))

    @pytest.mark.parametrize("method", ["get_connection", "get_conn_value"])
    def test_a_managed_conn_id_that_cannot_be_served_is_refused_for_good(self, backend, method):
        with pytest.raises(Refusal, match=r"cluster prod .* is paused\. Resume it"):
            used(getattr(backend, method)("analytics"))

    def test_without_a_masker_every_lookup_is_refused(self, monkeypatch):
        monkeypatch.setattr(masking, "_MASKERS", ())
        with pytest.raises(Refusal, match="ImportError"):
            used(backend_of(AwsClient()).get_connection("analytics"))

    def test_the_constructor_reports_all_mistakes_in_the_settings(self):
        with pytest.raises(SettingsError) as caught:
            RedshiftSecretsBackend(duration_seconds=899, regons=["eu-west-1"], connections_lookup_pattern="(")
        assert len(caught.value.problems) == 3
        assert "did you mean 'regions'?" in str(caught.value)


class TestMasking:
    def test_after_a_lookup_airflow_redacts_the_password_and_its_quoted_forms(self):
        forms = {AWKWARD, quote(AWKWARD), quote(AWKWARD, safe=""), quote_plus(AWKWARD)}
        assert len(forms) == 4
        text = " | ".join(sorted(forms))
        assert set(airflow_parts.redacted(text)) == {text}
        backend_of(AwsClient(), Connection).get_connection("analytics")
        assert set(airflow_parts.redacted(text)) == {"*** | *** | *** | ***"}

    def test_no_password_is_in_a_log_at_any_level(self, caplog):
        caplog.set_level(logging.DEBUG)
        backend_of(AwsClient()).get_conn_value("analytics")
        assert "minted a credential for IAM:etl" in caplog.text
        assert AWKWARD not in caplog.text


class TestUseCache:
    @pytest.mark.parametrize(("use_cache", "mints_before_the_answer"), [("True", 2), ("False", 1)])
    def test_no_password_expires_while_airflow_keeps_it(self, monkeypatch, use_cache, mints_before_the_answer):
        monkeypatch.setenv("AIRFLOW__SECRETS__USE_CACHE", use_cache)
        monkeypatch.setenv("AIRFLOW__SECRETS__CACHE_TTL_SECONDS", "1200")
        aws = AwsClient(clock=Clock(time.time() - 2700))  # its credentials are valid for another 900 s of 3600
        backend = backend_of(aws)
        backend.get_connection("analytics")
        assert aws.calls["mint"] == 1
        aws.clock.pass_(2700)
        aws.password = "password of the second mint"
        renewed = backend.get_connection("analytics").password == aws.password
        assert renewed == (mints_before_the_answer == 2)


any_text = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=5,
)


def _is_key_of_extra(key):
    try:
        return values.extra_key(key) == key != ServerConnection.EXTRA_KEY
    except ValueError:
        return False


def _survives_airflows_uri(extra):
    """Airflow's own URI reads a text like "5" or "null" as JSON when all values of `extra` are texts."""

    def is_json(value):
        try:
            json.loads(value)
        except ValueError:
            return False
        return True

    return not all(isinstance(value, str) for value in extra.values()) or not any(map(is_json, extra.values()))


any_extra = st.dictionaries(any_text.filter(_is_key_of_extra), any_json, max_size=4).filter(_survives_airflows_uri)


class TestRoundTrips:
    @given(user=any_text, password=any_text, extra=any_extra, serverless=st.booleans(), core=st.booleans())
    @settings(deadline=None)
    def test_every_field_survives_uri_and_json_whatever_characters_it_has(
        self, user, password, extra, serverless, core
    ):
        connection_class = ServerConnection if core else Connection
        warehouse = (workgroup if serverless else cluster)(tags={"airflow:conn-id": "analytics"})
        backend = backend_of(AwsClient(warehouse, user=user, password=password), connection_class, extra=extra)
        connection = backend.get_connection("analytics")
        wanted = [getattr(connection, name) for name in FIELDS]
        assert wanted[-3:] == [user, password, {**extra, "sslmode": "verify-full"}]

        again = airflow_parts.from_uri(connection_class, connection.get_uri(), "analytics")
        assert [getattr(again, name) for name in FIELDS] == wanted

        for as_json in (backend.get_conn_value("analytics"), connection.as_json()):
            again = connection_class.from_json(as_json, conn_id="analytics")
            assert [getattr(again, name) for name in FIELDS] == wanted
            assert again.description == connection.description
