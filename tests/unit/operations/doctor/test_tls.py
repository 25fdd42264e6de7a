"""TLS with warehouses: what does not work names host, port and remedy."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import pytest
import trustme
from msgspec.structs import replace

from redshift_secrets.lookup.spec import build_spec
from redshift_secrets.operations.doctor import tls
from redshift_secrets.operations.doctor.tls import try_tls
from redshift_secrets.operations.running import Runner
from redshift_secrets.settings import Settings
from tests.support.fakes import cluster
from tests.support.helpers import BOUND
from tests.support.wrong_servers import WrongServer

AUTHORITY = trustme.CA()


def server_context(name="127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
def trusted(tmp_path, monkeypatch):
    file = tmp_path / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))


def spec(host, port, conn_id="analytics", **settings):
    warehouse = cluster(host=host, port=port)
    return build_spec(warehouse, conn_id, Settings.from_kwargs({"db_user": "etl", **settings}))


def said(*specs, patience=BOUND):
    return [(each.status, each.message) for each in try_tls(Runner(BOUND), specs, patience)]


@pytest.fixture
def server() -> Iterator[WrongServer]:
    with WrongServer(server_context(), ["127.0.0.1"]) as running:
        yield running


@pytest.mark.parametrize("conn_type", ["redshift", "postgres"])
def test_a_server_that_is_trusted(server, trusted, conn_type):
    assert said(spec("127.0.0.1", server.port, conn_type=conn_type)) == [
        ("ok", "1 endpoint of warehouses accepts connections from here, with certificates that clients trust")
    ]
    assert server.received == []  # nobody logged in


def test_connections_with_one_endpoint_are_one(server, trusted):
    said(spec("127.0.0.1", server.port), replace(spec("127.0.0.1", server.port), conn_id="bi"))
    assert server.connections == 1


def test_a_certificate_that_is_not_trusted(server):
    ((status, message),) = said(spec("127.0.0.1", server.port))
    assert status == "problem"
    assert message.startswith(
        f"cluster prod (account 123456789012, eu-west-1): 127.0.0.1:{server.port}: TLS with sslmode ="
        " verify-full failed: "
    )
    assert "set sslrootcert, or SSL_CERT_FILE" in message


def test_a_certificate_of_another_name(trusted):
    with WrongServer(server_context("prod.corp.example"), ["127.0.0.1"]) as server:
        ((status, message),) = said(spec("127.0.0.1", server.port))
        assert status == "problem"
        assert "set sslmode = verify-ca for this host (setting hosts)" in message
        assert said(spec("127.0.0.1", server.port, sslmode="verify-ca"))[0][0] == "ok"


def test_what_is_not_checked_is_said(server):
    ((status, message),) = said(spec("127.0.0.1", server.port, conn_type="postgres", sslmode="require"))
    assert status == "ok"
    assert message.endswith("with sslmode = require none is checked")


def test_a_server_without_tls(trusted):
    with WrongServer(None, ["127.0.0.1"]) as server:
        ((_, message),) = said(spec("127.0.0.1", server.port))
    assert "does not offer TLS, so it is not Redshift" in message


def test_nothing_listens():
    ((status, message),) = said(spec("127.0.0.1", 1))
    assert status == "problem"
    assert "eu-west-1): 127.0.0.1:1 refuses connections: nothing listens there. Check the port" in message


def test_nobody_answers():
    with socket.create_server(("127.0.0.1", 0)) as listener:  # which accepts nobody
        port = listener.getsockname()[1]
        ((_, message),) = said(spec("127.0.0.1", port), patience=0.05)
    assert (
        f"127.0.0.1:{port} does not answer. Let this machine in: an inbound rule for port {port} in the warehouse's"
        in message
    )


def test_a_name_that_dns_does_not_know(monkeypatch):
    def unknown(*_arguments, **_options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(tls.socket, "create_connection", unknown)
    ((_, message),) = said(spec("prod.internal", 5439))
    assert "eu-west-1): prod.internal cannot be resolved. Check the DNS" in message


def test_a_file_of_roots_that_is_not_there(server):
    ((_, message),) = said(spec("127.0.0.1", server.port, conn_type="postgres", sslrootcert="/not/there.pem"))
    assert "cannot be read: No such file or directory. Set sslrootcert" in message


def test_one_reason_for_several_warehouses_is_one_verdict():
    found = said(spec("127.0.0.1", 1), spec("127.0.0.2", 1))
    assert len(found) == 1
    assert "at 127.0.0.1:1, cluster prod" in found[0][1]
