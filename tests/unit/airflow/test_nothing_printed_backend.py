"""What is handed out is masked by the supervisor first; what a worker gets from its server is masked, and shown by no repr."""

from __future__ import annotations

import asyncio
import importlib
import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from redshift_secrets import RedshiftSecretsBackend, ServerSideBackend
from redshift_secrets.airflow import masking, refusals, supervisor
from redshift_secrets.cache import event_loop
from redshift_secrets.model import ConnectionFields
from tests.support import airflow_parts
from tests.support.airflow_parts import Connection, Refusal, from_airflow_3_2, redacted
from tests.support.helpers import tagged

pytestmark = [from_airflow_3_2, pytest.mark.attempt("print a password, a URI with it or its base64 in a task")]

RUNNER = "airflow.sdk.execution_time.task_runner"
KEY = "planted" + 35 * "n" + "A="


class CommsDecoder:
    """The connection to a supervisor, which `told` records; it answers with what `answer` returns for a conn_id."""

    _thread_lock = None
    _is_on_loop_thread = False

    def __init__(self, answer: Any = None) -> None:
        self.told: list[str] = []
        self.threads: list[int] = []
        self._answer = answer

    def send(self, message: Any) -> Any:
        if not hasattr(message, "value"):
            return self._answer(message.conn_id)
        self.told.append(message.value[2])
        self.threads.append(threading.get_ident())
        return None


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    airflow_parts.reset_maskers()
    monkeypatch.setattr(supervisor, "masker", supervisor.SupervisorMasker())
    yield
    airflow_parts.reset_maskers()


@pytest.fixture
def connect(monkeypatch):
    def set_channel(channel):
        monkeypatch.setattr(importlib.import_module(RUNNER), "SUPERVISOR_COMMS", channel, raising=False)
        return channel

    return set_channel


@pytest.fixture
def backend(site, clock, monkeypatch):
    monkeypatch.setattr("redshift_secrets.backend.time", SimpleNamespace(time=clock))
    monkeypatch.setattr("redshift_secrets.airflow.refusals.serves_http", lambda: False)
    made = site(tagged(db_user="etl"))
    backend = RedshiftSecretsBackend(cache={"host": False})
    backend._set_connection_class(Connection)
    backend._broker, backend.current_broker = made.broker, lambda: made.broker
    return backend


def test_each_password_that_is_handed_out_is_masked_by_the_supervisor_once(backend, connect, clock):
    channel = connect(CommsDecoder())
    connection = backend.get_connection("analytics")
    backend.get_connection("analytics")
    assert channel.told == ["password-1"]
    clock.pass_(2 * 3600)
    assert connection.password == "password-2"
    assert channel.told == ["password-1", "password-2"]


def test_a_password_that_was_in_memory_before_the_task_began_is_masked_as_well(backend, connect):
    backend.get_connection("analytics")
    channel = connect(CommsDecoder())
    backend.get_connection("analytics")
    assert channel.told == ["password-1"]


def test_an_event_loop_never_waits_for_the_supervisor(backend, connect):
    backend.get_connection("analytics")
    channel = connect(CommsDecoder())
    asyncio.run(backend.aget_connection("analytics"))
    assert channel.told == ["password-1"]
    assert channel.threads != [threading.get_ident()]


def test_what_the_supervisor_masks_is_found_in_memory_without_a_thread(backend, connect, monkeypatch):
    connect(CommsDecoder())
    backend.get_connection("analytics")
    monkeypatch.setattr(event_loop, "look_up", None)
    assert asyncio.run(backend.aget_connection("analytics")).password == "password-1"


def test_the_secrets_of_the_settings_are_masked_at_the_first_lookup(connect, monkeypatch):
    channel = connect(CommsDecoder())
    backend = RedshiftSecretsBackend(
        cache={"host": False, "key": KEY},
        fallback={"backend": "a.module.ABackend", "backend_kwargs": {"token": "planted-token"}},
    )
    assert set(redacted(KEY)) == {KEY}
    backend.current_broker()
    assert set(redacted(f"{KEY} planted-token")) == {"*** ***"}
    assert set(channel.told) == {KEY, "planted-token"}


def test_a_masker_that_is_missing_lets_no_lookup_fall_through(connect, monkeypatch):
    def missing():
        raise ImportError("there is none")

    monkeypatch.setattr(masking, "maskers", missing)
    RedshiftSecretsBackend(
        cache={"host": False, "key": KEY}
    ).current_broker()  # the password of each lookup meets it, too


# --- a worker without AWS rights


def answer(**changes: Any) -> Any:
    """Return what answers as a server with this backend does."""

    def of(conn_id: str) -> Any:
        made = refusals.mark(
            ConnectionFields(
                "analytics", "redshift", "prod", 5439, "dwh", "IAM:etl", None, {"sslpassword": "planted"}, ""
            ),
            conn_id,
        )
        names = ("conn_type", "host", "port", "schema", "login")
        fields = {name: getattr(made, name) for name in names}
        fields |= {"conn_id": conn_id, "password": "planted/password", "extra": json.dumps({**made.extra}), **changes}
        return SimpleNamespace(**fields, model_dump=lambda by_alias: fields)

    return of


@pytest.fixture
def worker():
    return ServerSideBackend()


def test_the_connection_of_a_worker_has_a_repr_without_secrets_and_is_else_the_same(connect, worker):
    connect(CommsDecoder(answer()))
    connection = worker.get_connection("analytics")
    assert isinstance(connection, Connection)
    assert "planted" not in f"{connection} {connection!r}"
    assert "login='IAM:etl'" in repr(connection)
    assert (connection.password, connection.extra_dejson) == ("planted/password", {"sslpassword": "planted"})


@pytest.mark.parametrize(
    ("login", "expires_at"),
    [("IAM:etl", 4600.0), ("IAMA:etl", 4600.0), ("IAMR:etl", 4600.0), ("admin", float("inf")), (None, float("inf"))],
)
def test_the_password_of_a_worker_is_masked_in_its_process_and_its_supervisor(
    connect, worker, monkeypatch, login, expires_at
):
    channel = connect(CommsDecoder(answer(login=login)))
    monkeypatch.setattr("redshift_secrets.server_side.time", SimpleNamespace(time=lambda: 1000.0))
    monkeypatch.setattr(masking, "password_masker", masking.PasswordMasker(lambda: 1000.0))
    monkeypatch.setattr(masking, "mask_password", masking.password_masker.add)
    worker.get_connection("analytics")
    assert set(redacted("planted/password planted%2Fpassword")) == {"*** ***"}
    assert channel.told == ["planted/password"]
    assert masking.password_masker.expires_at("planted/password") == expires_at


def test_a_worker_that_cannot_mask_is_refused(connect, worker, monkeypatch):
    connect(CommsDecoder(answer()))
    monkeypatch.setattr(masking, "mask_password", lambda *_: {}["planted/password"])
    with pytest.raises(
        Refusal, match=r"'analytics' cannot be served: masking its password failed with .* KeyError"
    ) as refused:
        worker.get_connection("analytics")
    assert "planted" not in str(refused.value)
