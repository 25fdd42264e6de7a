"""Where libpq finds the certificates that it trusts: on the host of the process that connects."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import certifi
import pytest

from redshift_secrets.airflow import connection
from redshift_secrets.airflow.refusals import new_question
from redshift_secrets.server_side import ServerSideBackend
from tests.support.airflow_parts import CONNECTION_CLASSES, Connection
from tests.support.fakes import Clock, FakeAws, cluster
from tests.unit.test_backend import backend_of

VERIFIED = {"sslmode": "verify-full"}


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with no certificates and no settings of its own."""
    for name in ("PGSSLROOTCERT", "SSL_CERT_FILE", "AIRFLOW_CTX_DAG_ID", "AIRFLOW_CTX_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(connection, "_SYSTEM_ROOTS", (str(tmp_path / "system.pem"),))
    monkeypatch.setattr("redshift_secrets.airflow.refusals.serves_http", lambda: False)
    return tmp_path


def backend(conn_type: str = "postgres", connection_class: Any = Connection, **settings: Any) -> Any:
    aws = FakeAws(Clock(), [cluster(tags={"airflow:conn-id": "analytics"})])
    return backend_of(aws, connection_class, conn_type=conn_type, **settings)


def found(**settings: Any) -> dict[str, Any]:
    extra: dict[str, Any] = backend(**settings).get_connection("analytics").extra_dejson
    return extra


def test_what_libpq_and_openssl_are_told_comes_before_what_the_host_has(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found() == {**VERIFIED, "sslrootcert": certifi.where()}
    (host / "system.pem").touch()
    assert found() == {**VERIFIED, "sslrootcert": str(host / "system.pem")}
    monkeypatch.setenv("SSL_CERT_FILE", "/told/openssl.pem")
    assert found() == {**VERIFIED, "sslrootcert": "/told/openssl.pem"}
    (host / "home" / ".postgresql").mkdir(parents=True)
    (host / "home" / ".postgresql" / "root.crt").touch()
    assert found() == {**VERIFIED, "sslrootcert": str(host / "home" / ".postgresql" / "root.crt")}
    monkeypatch.setenv("PGSSLROOTCERT", "/told/libpq.pem")
    assert found() == {**VERIFIED, "sslrootcert": "/told/libpq.pem"}
    assert found(sslrootcert="/of/the/site.pem") == {**VERIFIED, "sslrootcert": "/of/the/site.pem"}


@pytest.mark.parametrize("connection_class", CONNECTION_CLASSES)
def test_redshift_connector_is_not_given_what_it_does_not_take(connection_class: Any) -> None:
    assert found(conn_type="redshift", connection_class=connection_class) == VERIFIED
    assert found(conn_type="redshift", sslrootcert="/of/the/site.pem") == VERIFIED


@pytest.mark.parametrize("sslmode", ["require", "prefer", "disable"])
def test_a_site_that_wants_no_check_does_not_get_one(sslmode: str) -> None:
    """With a root certificate, libpq takes `require` for `verify-ca`."""
    assert found(sslmode=sslmode) == {"sslmode": sslmode}


class TestWhereAServerResolves:
    @pytest.fixture(autouse=True)
    def server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("redshift_secrets.airflow.refusals.serves_http", lambda: True)
        monkeypatch.setenv("SSL_CERT_FILE", "/of/the/server.pem")

    @pytest.mark.parametrize("conn_id", ["analytics", new_question("analytics")], ids=["a lookup", "a question"])
    def test_it_says_nothing_of_its_own_host(self, conn_id: str) -> None:
        extra = json.loads(backend().get_connection(conn_id).extra)
        assert (extra["sslmode"], "sslrootcert" in extra) == ("verify-full", False)

    def test_the_setting_holds_for_all_hosts(self) -> None:
        assert found(sslrootcert="/of/the/site.pem")["sslrootcert"] == "/of/the/site.pem"

    def test_a_process_that_runs_a_task_is_no_server_whatever_it_has_imported(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "sales")
        monkeypatch.setenv("AIRFLOW_CTX_TASK_ID", "load")
        assert found()["sslrootcert"] == "/of/the/server.pem"

    @pytest.mark.parametrize(
        ("conn_type", "settings", "expected"),
        [
            ("postgres", {}, {**VERIFIED, "sslrootcert": "/of/the/worker.pem"}),
            ("postgres", {"sslrootcert": "/of/site.pem"}, {**VERIFIED, "sslrootcert": "/of/site.pem"}),
            ("redshift", {}, VERIFIED),
        ],
    )
    def test_a_worker_that_asks_it_finds_them_on_its_own_host(
        self, conn_type: str, settings: dict[str, Any], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = backend(conn_type, **settings)

        def ask(question: str) -> Any:
            with mock.patch.dict(os.environ, SSL_CERT_FILE="/of/the/server.pem"):
                return server.get_connection(question)

        def to_connection(answer: Any, conn_id: str, extra: str | None) -> Any:
            return Connection(conn_id=conn_id, conn_type=answer.conn_type, extra=extra)

        monkeypatch.setattr("redshift_secrets.airflow.supervisor.get_connection", ask)
        monkeypatch.setattr("redshift_secrets.airflow.supervisor.to_connection", to_connection)
        monkeypatch.setenv("SSL_CERT_FILE", "/of/the/worker.pem")
        assert ServerSideBackend().get_connection("analytics").extra_dejson == expected


def test_the_environment_is_that_of_the_moment_of_the_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = backend()
    for path in ("/one.pem", "/two.pem"):
        monkeypatch.setitem(os.environ, "SSL_CERT_FILE", path)
        assert looked_up.get_connection("analytics").extra_dejson["sslrootcert"] == path
