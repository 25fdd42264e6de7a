"""The question of a worker to the server, why a conn_id is refused: who else may answer it, and with what."""

from __future__ import annotations

import asyncio
import json
import threading
from types import SimpleNamespace

import pytest
from airflow.models import Connection as CoreConnection
from airflow.sdk import Connection as SdkConnection
from airflow.sdk.exceptions import AirflowRuntimeError, AirflowSecretsBackendAccessDenied, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ConnectionResult, ErrorResponse
from airflow.secrets.cache import SecretCache
from airflow.secrets.environment_variables import EnvironmentVariablesBackend

from redshift_secrets.airflow import refusals
from redshift_secrets.errors import UnexpectedError
from redshift_secrets.server_side import ServerSideBackend
from tests.support.fakes import Clock, FakeAws, cluster
from tests.unit.test_backend import backend_of

PREFIX = "redshift-secrets.explain."
NONCE = "0" * 32
NAMES = ("conn_type", "host", "schema", "login", "password", "port", "extra")


@pytest.fixture
def aws():
    return FakeAws(Clock(), [cluster()])


class Server:
    """An API server as a worker sees it: its secrets backends, then what somebody has put into its metadata database."""

    def __init__(self, backends, planted=()):
        self.backends = backends
        self.planted = dict(planted)
        self.asked: list[str] = []

    def send(self, message):
        self.asked.append(message.conn_id)
        for backend in self.backends:
            found = backend.get_connection(message.conn_id)
            if found is not None:
                return ConnectionResult(conn_id=found.conn_id, **{name: getattr(found, name) for name in NAMES})
        if message.conn_id in self.planted:
            return ConnectionResult(conn_id=message.conn_id, **self.planted[message.conn_id])
        error = ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND, detail={"conn_id": message.conn_id})
        raise AirflowRuntimeError(error)


@pytest.fixture
def worker_of(monkeypatch):
    def worker_of(server):
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", server, raising=False)
        backend = ServerSideBackend()
        backend._set_connection_class(SdkConnection)
        return backend

    return worker_of


@pytest.mark.attempt("answer a worker in the server's place")
class TestTheServerAnswersFinally:
    @pytest.mark.parametrize(
        "rest",
        [
            "",
            "analytics",
            "unknown",
            ".",
            "..",
            f"{NONCE}.",
            f"{NONCE}.unknown",
            "\x00",
            "x" * 250,
            f"{PREFIX}{NONCE}.x",
        ],
    )
    @pytest.mark.parametrize("settings", [{}, {"connections_lookup_pattern": "^rs_"}])
    def test_whatever_is_asked_under_the_prefix(self, aws, rest, settings):
        answer = backend_of(aws, CoreConnection, **settings).get_connection(PREFIX + rest)
        assert answer.conn_id == PREFIX + rest
        assert json.loads(answer.extra)["redshift-secrets.answers"] == PREFIX + rest

    def test_what_a_fallback_has_is_not_managed(self, aws, monkeypatch):
        monkeypatch.setenv(f"AIRFLOW_CONN_{PREFIX.upper()}MAIL", "smtp://evil.internal")
        monkeypatch.setenv("AIRFLOW_CONN_MAIL", "smtp://mail.internal")
        path = "airflow.secrets.environment_variables.EnvironmentVariablesBackend"
        backend = backend_of(aws, CoreConnection, fallback=[{"backend": path}])
        answer = backend.get_connection(f"{PREFIX}mail")
        assert (answer.host, answer.login, answer.password) == (None, None, None)
        assert backend.get_connection("mail").host == "mail.internal"

    def test_a_refusal_has_nothing_to_log_in_with(self, aws):
        aws.warehouses[:] = [cluster(status="paused")]
        carrier = backend_of(aws, CoreConnection).get_connection(f"{PREFIX}{NONCE}.analytics")
        assert (carrier.host, carrier.login, carrier.password) == (None, None, None)
        assert "is paused" in json.loads(carrier.extra)["refusal"]

    def test_the_pattern_of_the_server_holds_for_questions_too(self, aws):
        backend_of(aws, connections_lookup_pattern="^rs_").get_connection(f"{PREFIX}{NONCE}.analytics")
        assert not aws.calls

    @pytest.mark.parametrize("method", ["_look_up", "_current_connection_class"])
    def test_an_exception_of_any_kind_does_not_send_airflow_on(self, aws, monkeypatch, method):
        backend = backend_of(aws, CoreConnection)

        def fail(*_args):
            raise KeyError("hunter2")

        monkeypatch.setattr(backend, method, fail)
        with pytest.raises(AirflowSecretsBackendAccessDenied, match=str(UnexpectedError("KeyError"))) as refused:
            backend.get_connection(f"{PREFIX}{NONCE}.unknown")
        assert "hunter2" not in str(refused.value)

    def test_an_event_loop_gets_the_same_without_io_in_it(self, aws, monkeypatch):
        backend = backend_of(aws, CoreConnection, connections_lookup_pattern="^analytics$")
        threads, look_up = [], backend._look_up

        def record(*args):
            threads.append(threading.get_ident())
            return look_up(*args)

        monkeypatch.setattr(backend, "_look_up", record)
        answer = asyncio.run(backend.aget_connection(f"{PREFIX}{NONCE}.analytics"))
        assert answer.login == "IAMR:airflow"
        assert threads
        assert threading.get_ident() not in threads
        assert asyncio.run(backend.aget_connection(f"{PREFIX}{NONCE}.unknown")).login is None

    @pytest.mark.parametrize("conn_id", ["analytics", "unknown"])
    def test_airflows_own_cache_keeps_no_answer_that_nobody_asks_for_again(self, aws, monkeypatch, conn_id):
        saved = {}
        monkeypatch.setattr(SecretCache, "_cache", saved)
        backends = [backend_of(aws, CoreConnection)]
        monkeypatch.setattr("airflow.configuration.ensure_secrets_loaded", lambda *_args, **_kwargs: backends)
        assert CoreConnection.get_connection_from_secrets(f"{PREFIX}{NONCE}.{conn_id}").conn_id
        assert saved == {}


@pytest.mark.attempt("answer a worker in the server's place")
class TestTheWorkerTakesNoOtherAnswer:
    def test_no_two_questions_are_the_same(self, worker_of):
        server = Server([])
        worker = worker_of(server)
        worker.get_connection("analytics")
        worker.get_connection("analytics")
        assert len(set(server.asked)) == 2
        assert [refusals.asked_conn_id(each) for each in server.asked] == ["analytics"] * 2

    @pytest.mark.parametrize("planted_under", [f"{PREFIX}analytics", f"{PREFIX}{NONCE}.analytics"])
    @pytest.mark.parametrize("backends", [[], [EnvironmentVariablesBackend()]])
    def test_what_a_server_without_this_backend_has_under_the_prefix(
        self, worker_of, planted_under, backends, monkeypatch
    ):
        evil = {"conn_type": "redshift", "host": "evil.internal", "login": "etl", "password": "hunter2"}
        evil["extra"] = json.dumps({"redshift-secrets.answers": planted_under})
        monkeypatch.setenv(f"AIRFLOW_CONN_{planted_under.upper()}", "redshift://etl:hunter2@evil.internal")
        for each in backends:
            each._set_connection_class(CoreConnection)
        server = Server(backends, {planted_under: evil})
        assert worker_of(server).get_connection("analytics") is None
        assert len(server.asked) == 1

    @pytest.mark.parametrize(
        "extra",
        [
            None,
            "",
            "{",
            "[]",
            "[" * 100_000,
            "{}",
            '{"refusal": "call me"}',
            '{"redshift-secrets.answers": null}',
            '{"redshift-secrets.answers": "analytics"}',
            f'{{"redshift-secrets.answers": "{PREFIX}analytics", "refusal": "call me"}}',
        ],
    )
    @pytest.mark.parametrize("conn_type", ["redshift", "redshift-secrets-refusal"])
    def test_what_answers_every_question_without_naming_it(self, worker_of, extra, conn_type):
        server = SimpleNamespace(
            send=lambda message: ConnectionResult(
                conn_id=message.conn_id, conn_type=conn_type, host="evil.internal", password="hunter2", extra=extra
            )
        )
        assert worker_of(server).get_connection("analytics") is None

    def test_the_answer_to_another_question(self, worker_of, aws):
        backend = backend_of(aws, CoreConnection)
        found = backend.get_connection(refusals.new_question("analytics"))
        answer = ConnectionResult(conn_id=found.conn_id, **{name: getattr(found, name) for name in NAMES})
        assert worker_of(SimpleNamespace(send=lambda _message: answer)).get_connection("analytics") is None

    def test_only_what_the_tags_say_is_in_extra(self, worker_of, aws):
        worker = worker_of(Server([backend_of(aws, CoreConnection)]))
        assert worker.get_connection("analytics").extra_dejson == {"sslmode": "verify-full"}
        aws.warehouses[:] = [cluster(tags={"airflow:conn-id": "dwh", "airflow:extra.timeout": "7"})]
        worker = worker_of(Server([backend_of(aws, CoreConnection)]))
        assert worker.get_connection("dwh").extra_dejson == {"timeout": 7, "sslmode": "verify-full"}

    def test_what_is_not_managed_is_left_to_airflow(self, worker_of, aws):
        assert worker_of(Server([backend_of(aws, CoreConnection)])).get_connection("unknown") is None
