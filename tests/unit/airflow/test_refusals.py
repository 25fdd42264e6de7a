"""Refusals: final for this Airflow, as good as final for an older one, explained to a worker that asks."""

from __future__ import annotations

import asyncio
import configparser
import copy
import importlib
import json
import logging
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.models import Connection as CoreConnection
from airflow.sdk import Connection as SdkConnection
from airflow.sdk.exceptions import AirflowRuntimeError, AirflowSecretsBackendAccessDenied, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ConnectionResult, ErrorResponse
from airflow.secrets.environment_variables import EnvironmentVariablesBackend
from fastapi import FastAPI
from fastapi.testclient import TestClient

from redshift_secrets.airflow import refusals
from redshift_secrets.airflow.supervisor import runs_event_loop
from redshift_secrets.errors import CannotServeError, SettingsError
from redshift_secrets.server_side import ServerSideBackend
from tests.support.fakes import Clock, FakeAws, cluster
from tests.unit.test_backend import backend_of

STALE = "postgres://me:stale-password@old.internal"


@pytest.fixture
def aws():
    return FakeAws(Clock(), [cluster(status="paused")])


@pytest.fixture
def older_airflow(monkeypatch):
    monkeypatch.setattr(refusals, "authoritative_refusal", lambda: None)


class TestInAProcessThatServesHttp:
    """The API server, where any other exception would be a 500, which tasks retry."""

    @pytest.fixture(params=["in a thread", "awaited"])
    def server(self, aws, request):
        """An API server that looks up in a thread, as Airflow's does, and one that awaits the lookup."""
        app, backend = FastAPI(), backend_of(aws, CoreConnection)

        if request.param == "awaited":

            @app.get("/connections/{conn_id}")
            async def get_connection(conn_id: str, team_name: str | None = None):
                found = await backend.aget_connection(conn_id=conn_id, team_name=team_name)
                return None if found is None else found.login
        else:

            @app.get("/connections/{conn_id}")
            def get_connection(conn_id: str, team_name: str | None = None):
                found = backend.get_connection(conn_id=conn_id, team_name=team_name)
                return None if found is None else found.login

        return TestClient(app)

    def test_it_is_a_403_with_the_reason_and_still_final(self, server, aws):
        answer = server.get("/connections/analytics")
        assert answer.status_code == 403
        assert "cluster prod (account 123456789012, eu-west-1) is paused" in answer.json()["detail"]
        with pytest.raises(AirflowSecretsBackendAccessDenied):
            backend_of(aws).get_connection("analytics")
        with pytest.raises(AirflowSecretsBackendAccessDenied):
            asyncio.run(backend_of(aws).aget_connection("analytics"))

    def test_only_the_team_gets_the_connection_or_its_refusal(self, server, aws):
        tags = {"airflow:conn-id": "analytics", "airflow:team": "bi"}
        aws.warehouses[:] = [cluster(status="paused", tags=tags)]
        teams = ("bi", "BI", "etl")
        answers = [server.get("/connections/analytics", params={"team_name": team}) for team in teams]
        assert [each.status_code for each in answers] == [403, 403, 200]
        assert answers[-1].json() is None

    def test_a_connection_is_served_to_its_team(self, server, aws):
        aws.warehouses[:] = [cluster(tags={"airflow:conn-id": "analytics", "airflow:team": "bi"})]
        for team, login in {"bi": "IAMR:airflow", "etl": None}.items():
            assert server.get("/connections/analytics", params={"team_name": team}).json() == login

    def test_its_text_is_logged_because_a_403_loses_it(self, aws, caplog):
        with pytest.raises(AirflowSecretsBackendAccessDenied) as caught:
            backend_of(aws).get_connection("analytics")
        assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR] == [str(caught.value)]

    def test_another_process_gets_an_exception_that_it_has(self):
        final = refusals.final_refusal("no")
        again = pickle.loads(pickle.dumps(final))
        assert (type(again), str(again), str(final)) == (AirflowSecretsBackendAccessDenied, "no", "no")


class TestInAnyOtherProcess:
    @pytest.fixture(autouse=True, params=["without HTTP", "a task's, forked from one that has it"])
    def process(self, monkeypatch, request):
        if request.param == "without HTTP":
            monkeypatch.delitem(sys.modules, "starlette.exceptions")
        else:
            monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", None, raising=False)

    def test_it_is_the_plain_final_exception_and_not_logged(self, aws, caplog):
        with pytest.raises(AirflowSecretsBackendAccessDenied) as caught:
            backend_of(aws).get_connection("analytics")
        assert type(caught.value) is AirflowSecretsBackendAccessDenied
        assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, True)
        assert not [r for r in caplog.records if r.levelno == logging.ERROR]


@pytest.mark.attempt("get an old password by making a lookup fail")
@pytest.mark.usefixtures("older_airflow")
class TestOnAnOlderAirflow:
    def test_the_search_ends_and_the_stale_password_is_not_found(self, aws, monkeypatch, caplog):
        monkeypatch.setenv("AIRFLOW_CONN_ANALYTICS", STALE)
        backends = [backend_of(aws, CoreConnection), EnvironmentVariablesBackend()]
        backends[1]._set_connection_class(CoreConnection)
        monkeypatch.setattr("airflow.configuration.ensure_secrets_loaded", lambda *_args, **_kwargs: backends)
        connection = CoreConnection.get_connection_from_secrets("analytics")
        with pytest.raises(
            CannotServeError, match=r"'analytics' cannot be served: cluster prod .* is paused"
        ) as caught:
            connection.login  # noqa: B018
        assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR] == [str(caught.value)]

    @pytest.mark.parametrize("use", ["host", "login", "schema", "port", "extra_dejson", "get_hook", "conn_type"])
    def test_every_use_raises_the_refusal(self, aws, use):
        connection = backend_of(aws).get_connection("analytics")
        with pytest.raises(CannotServeError, match="is paused"):
            getattr(connection, use)

    def test_airflow_itself_can_read_it_and_finds_nothing_to_keep_or_to_mask(self, aws):
        connection = backend_of(aws).get_connection("analytics")
        assert (bool(connection), connection.conn_id) == (True, "analytics")
        assert (connection.password, connection.extra, connection.get_uri()) == (None, None, "")
        assert repr(connection) == "<refused connection analytics>"
        for again in (copy.copy(connection), pickle.loads(pickle.dumps(connection))):
            with pytest.raises(CannotServeError, match="is paused"):
                again.login  # noqa: B018

    def test_as_json_it_is_an_exception(self, aws):
        with pytest.raises(CannotServeError, match="is paused"):
            backend_of(aws).get_conn_value("analytics")

    def test_in_an_event_loop_it_is_the_same(self, aws):
        connection = asyncio.run(backend_of(aws).aget_connection("analytics"))
        with pytest.raises(CannotServeError, match="is paused"):
            connection.login  # noqa: B018


class Supervisor:
    """Stands for the API server in a task's process: answers from this backend, as the Execution API passes them on."""

    def __init__(self, backend):
        self.backend = backend
        self.asked: list[str] = []

    async def asend(self, message):
        return self._answer(message)

    def send(self, message):
        assert not runs_event_loop(), "the event loop waits for the answer"
        return self._answer(message)

    def _answer(self, message):
        self.asked.append(message.conn_id)
        found = self.backend.get_connection(message.conn_id, team_name="bi")
        if found is None:
            error = ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND, detail={"conn_id": message.conn_id})
            raise AirflowRuntimeError(error)
        names = ("conn_id", "conn_type", "host", "schema", "login", "password", "port", "extra")
        return ConnectionResult(**{name: getattr(found, name) for name in names})


EXTRA = {"timeout": 7, "sslmode": "verify-full"}


class TestAWorkerThatAsksTheServer:
    @pytest.fixture
    def supervisor(self, aws, monkeypatch):
        supervisor = Supervisor(backend_of(aws, CoreConnection))
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
        return supervisor

    @pytest.fixture(params=["a task", "a trigger"])
    def worker(self, request):
        backend = ServerSideBackend()
        backend._set_connection_class(SdkConnection)
        if request.param == "a trigger":
            return SimpleNamespace(get_connection=lambda conn_id: asyncio.run(backend.aget_connection(conn_id)))
        return backend

    def test_it_raises_the_refusal_of_the_server_word_for_word(self, worker, supervisor, aws):
        with pytest.raises(
            AirflowSecretsBackendAccessDenied, match=r"connection 'analytics' .* is paused"
        ) as explained:
            worker.get_connection("analytics")
        with pytest.raises(AirflowSecretsBackendAccessDenied) as refused:
            supervisor.backend.get_connection("analytics", team_name="bi")
        assert str(explained.value) == str(refused.value)
        assert [refusals.asked_conn_id(each) for each in supervisor.asked] == ["analytics"]

    @pytest.mark.usefixtures("older_airflow")
    def test_an_older_airflow_raises_it_when_the_connection_is_used(self, worker, supervisor):
        with pytest.raises(CannotServeError, match="is paused"):
            worker.get_connection("analytics").login  # noqa: B018

    def test_it_returns_the_connection_under_its_own_conn_id(self, worker, supervisor, aws):
        aws.warehouses[:] = [
            cluster(tags={"airflow:conn-id": "analytics", "airflow:team": "bi", "airflow:extra.timeout": "7"})
        ]
        connection = worker.get_connection("analytics")
        assert isinstance(connection, SdkConnection)
        assert (connection.conn_id, connection.conn_type, connection.login) == ("analytics", "redshift", "IAMR:airflow")
        assert (connection.port, connection.schema, connection.extra_dejson) == (5439, "dev", EXTRA)
        assert connection.password == "password-1"

    def test_a_refusal_of_another_team_is_not_explained(self, worker, supervisor, aws):
        aws.warehouses[:] = [cluster(status="paused", tags={"airflow:conn-id": "analytics", "airflow:team": "etl"})]
        assert worker.get_connection("analytics") is None

    def test_a_conn_id_that_is_not_managed_is_left_to_airflow(self, worker, supervisor, monkeypatch):
        assert worker.get_connection("unknown") is None
        monkeypatch.setenv("AIRFLOW_CONN_MAIL", "smtp://mail.internal")
        assert worker.get_connection("mail").host == "mail.internal"
        assert [refusals.asked_conn_id(each) for each in supervisor.asked] == ["unknown"]

    @pytest.mark.parametrize("conn_id", ["data/analytics", "data/", "/", "a~1b", "~0", "~", "a~01/b", "a//b", "../a"])
    def test_a_conn_id_of_any_characters_arrives_as_one_segment_of_the_url(self, worker, supervisor, aws, conn_id):
        with pytest.raises(AirflowSecretsBackendAccessDenied, match=r"claims? it") as refused:
            backend_of(aws, managed_conn_ids=".*").get_connection(conn_id)
        supervisor.backend = backend_of(aws, CoreConnection, managed_conn_ids=".*")
        with pytest.raises(AirflowSecretsBackendAccessDenied) as explained:
            worker.get_connection(conn_id)
        assert str(explained.value) == str(refused.value)
        assert [refusals.asked_conn_id(each) for each in supervisor.asked] == [conn_id]
        assert "/" not in supervisor.asked[0]

    def test_variables_come_from_the_environment_alone(self, worker, supervisor, monkeypatch):
        monkeypatch.setenv("AIRFLOW_VAR_BUCKET", "s3://b")
        backend = ServerSideBackend()
        assert [asyncio.run(backend.aget_variable(key=key)) for key in ("bucket", "none")] == ["s3://b", None]
        assert supervisor.asked == []

    def test_a_pattern_saves_the_call(self, supervisor):
        worker = ServerSideBackend(connections_lookup_pattern="^analytics$")
        assert worker.get_connection("unknown") is None
        assert supervisor.asked == []

    def test_an_id_that_airflow_cannot_store_costs_no_call(self, supervisor):
        assert ServerSideBackend().get_connection("x" * 251) is None
        assert supervisor.asked == []

    def test_a_malformed_pattern_stops_airflow_with_the_reason(self):
        with pytest.raises(SettingsError, match="connections_lookup_pattern must be a regular expression"):
            ServerSideBackend(connections_lookup_pattern="(")

    @pytest.mark.parametrize("comms", [None, SimpleNamespace(send=lambda _message: 1 / 0)])
    def test_without_a_supervisor_that_answers_it_is_left_to_airflow(self, worker, monkeypatch, comms):
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
        assert worker.get_connection("analytics") is None


def test_the_configuration_on_the_page_is_one_that_airflow_takes():
    page = (Path(__file__).parents[3] / "docs" / "errors.md").read_text(encoding="utf-8")
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(page.split("```ini\n")[1].split("```")[0])
    module, _, name = parser["workers"]["secrets_backend"].rpartition(".")
    backend = getattr(importlib.import_module(module), name)
    assert backend is ServerSideBackend
    assert backend(**json.loads(parser["workers"]["secrets_backend_kwargs"])).get_connection("unknown") is None
