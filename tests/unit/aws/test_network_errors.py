"""TLS, proxies, missing files and a process that has run out of something: each is told as that. The servers are real."""

from __future__ import annotations

import contextlib
import errno
import http.server
import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore import exceptions

from redshift_secrets.aws import errors as aws_errors
from redshift_secrets.aws.client import AwsClient
from redshift_secrets.aws.errors import translate_errors
from redshift_secrets.aws.paging import ask_aws
from redshift_secrets.errors import AwsError, ExhaustedError, UnexpectedError, exhausted_error, known_error
from redshift_secrets.local.certificates import CertificateAuthority
from redshift_secrets.model import Scope
from redshift_secrets.settings import Settings

CLUSTERS = Scope("cluster", "eu-west-1", None)
ONCE = {"retries": {"total_max_attempts": 1}}


class Proxy(http.server.BaseHTTPRequestHandler):
    """Answers every request with the status of its server."""

    def do_CONNECT(self) -> None:  # the name that the server looks for
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_CONNECT  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serving(status: int = 200, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.status = status  # type: ignore[attr-defined]
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-key")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


def failure(endpoint: str | None = None) -> AwsError:
    settings = {"regions": ["eu-west-1"], "config": ONCE, **({"endpoint_url": endpoint} if endpoint else {})}
    with pytest.raises(AwsError) as caught:
        AwsClient(Settings.from_kwargs(settings)).list(CLUSTERS, ask_aws)
    assert "please report" not in str(caught.value)
    assert "secret-key" not in str(caught.value)
    return caught.value


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls(authority: CertificateAuthority) -> ssl.SSLContext:
    return authority.server_context("aws.example")


def test_a_certificate_of_an_unknown_issuer(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with serving(tls=tls) as port:
        error = failure(f"https://127.0.0.1:{port}")
    assert error.code == "TlsFailed"
    assert f"TLS with https://127.0.0.1:{port} failed: unable to get local issuer certificate" in error.reason
    assert re.search("issued by .*O=redshift-secrets local stand-in", error.reason)
    assert "it was checked against /" in error.reason
    assert ".pem" in error.reason
    assert "AWS_CA_BUNDLE" in error.advice


def test_a_certificate_of_another_name(
    tls: ssl.SSLContext, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.ca_file))
    with serving(tls=tls) as port:
        error = failure(f"https://127.0.0.1:{port}")
    assert error.code == "TlsFailed"
    assert "127.0.0.1" in error.reason.partition(" failed: ")[2]
    assert re.search("Its certificate is that of .*issued by .*O=redshift-secrets local stand-in", error.reason)
    assert f"it was checked against {authority.ca_file}." in error.reason


def test_a_ca_bundle_that_is_not_there(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
    with serving(tls=tls) as port:
        error = failure(f"https://127.0.0.1:{port}")
    assert error.code == "TlsFailed"
    assert "the CA bundle /nowhere/ca.pem, which cannot be read: No such file or directory" in error.reason


def test_a_server_without_tls() -> None:
    with serving() as port:
        error = failure(f"https://127.0.0.1:{port}")
    assert error.code == "TlsFailed"
    assert "a server without TLS on this port" in error.advice


@pytest.mark.parametrize(
    ("status", "reason"),
    [(407, "wants to be logged in to (HTTP status 407)"), (403, "does not let it pass (HTTP status 403)")],
)
def test_a_proxy_that_refuses(status: int, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(status) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:pass-word@127.0.0.1:{port}")
        error = failure()
    assert error.code == "ProxyFailed"
    assert reason in error.reason
    assert f"127.0.0.1:{port}" in error.reason
    assert "HTTPS_PROXY" in error.advice
    assert "pass-word" not in str(error)


def test_a_proxy_that_refuses_what_is_not_encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(407) as port:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        error = failure("http://aws.invalid")
    assert error.code in ("ProxyFailed", "UnreadableResponse")
    assert "407" in error.reason


def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
    error = failure()
    assert error.code == "ProxyFailed"
    assert f"the proxy http://127.0.0.1:{port} cannot be reached: Connection refused." in error.reason


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = failure(f"http://127.0.0.1:{port}")
    assert error.code == "Unreachable"
    assert error.reason == f"could not connect to http://127.0.0.1:{port}: Connection refused."


def test_an_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = failure()
    assert "redshift.eu-west-1.amazonaws.com: DNS does not know its name" in error.reason


@pytest.mark.parametrize("variable", ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"])
def test_a_missing_token_file(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pod")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/creds")
    monkeypatch.setenv(variable, "/nowhere/token")
    error = failure()
    assert error.code == "NoCredentials"
    assert f"the token file /nowhere/token of {variable} cannot be read: No such file or directory." in error.reason
    assert "service account" in error.advice


def test_a_program_for_credentials_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "config").write_text("[default]\ncredential_process = /nowhere/program\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    error = failure()
    assert error.code == "NoCredentials"
    assert "/nowhere/program cannot be read: No such file or directory" in error.reason


@pytest.mark.parametrize(
    ("raised", "what"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "file descriptors"),
        (exceptions.HTTPClientError(error=OSError(errno.ENFILE, "Too many open files in system")), "file descriptors"),
        (exceptions.EndpointConnectionError(endpoint_url="x", error=OSError(errno.EMFILE, "x")), "file descriptors"),
        (MemoryError(), "memory"),
        (exceptions.HTTPClientError(error=MemoryError()), "memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory"),
        (RuntimeError("can't start new thread"), "threads"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "temporary files"),
    ],
)
def test_a_process_that_has_run_out(raised: Exception, what: str) -> None:
    with pytest.raises(ExhaustedError) as caught, translate_errors("redshift:DescribeClusters", "x", "me"):
        raise raised
    assert f"this process can have no more {what}." in str(caught.value)
    assert re.search("Raise|more memory|set TMPDIR", str(caught.value))
    assert str(known_error(raised)) == str(caught.value)


def test_no_descriptors_for_the_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    unresolved = exceptions.EndpointConnectionError(endpoint_url="x", error=socket.gaierror(-3, "Temporary failure"))
    monkeypatch.setattr(aws_errors, "os", SimpleNamespace(open=full, close=os.close, devnull=os.devnull, O_RDONLY=0))
    with pytest.raises(ExhaustedError), translate_errors("redshift:DescribeClusters", "x", "me"):
        raise unresolved


def test_other_errors_are_not_that() -> None:
    for error in (ValueError("can't start new thread"), OSError(errno.ENOENT, "no"), RuntimeError("x")):
        assert exhausted_error(error) is None
        assert isinstance(known_error(error), UnexpectedError)
