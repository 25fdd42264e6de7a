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
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from botocore import exceptions

from redshift_secrets.aws import errors as aws_errors
from redshift_secrets.aws.errors import translate_errors
from redshift_secrets.aws.exchanges import Exchange
from redshift_secrets.errors import AwsError, ExhaustedError, UnexpectedError, exhausted_error, known_error
from redshift_secrets.local.certificates import CertificateAuthority
from tests.unit.aws.failing import failure, set_keys


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


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Answers the first connection with these bytes."""

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            with client:
                client.recv(10_000)
                client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)


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


@pytest.mark.parametrize(
    "content", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_ca_bundle_without_a_certificate(
    tls: ssl.SSLContext, tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bundle := tmp_path / "ca.pem").write_text(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with serving(tls=tls) as port:
        error = failure(f"https://127.0.0.1:{port}")
    assert error.code == "TlsFailed"
    assert f"needs the CA bundle {bundle}, which has no certificate that can be read." in error.reason
    assert error.advice.startswith("Correct AWS_CA_BUNDLE")


@pytest.mark.parametrize("days", [-2, 2], ids=["expired", "not yet valid"])
def test_a_certificate_of_another_day(days: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    middle = datetime.now(timezone.utc) + timedelta(days=days)
    around = {"not_before": middle - timedelta(days=1), "not_after": middle + timedelta(days=1)}
    authority.issue_cert("127.0.0.1", **around).configure_cert(context := ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with serving(tls=context) as port:
        error = failure(f"https://127.0.0.1:{port}")
    assert error.code == "TlsFailed"
    assert "certificate has expired" in error.reason or "certificate is not yet valid" in error.reason
    assert error.advice.startswith("Check the clock of this host")


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "No such file or directory"), ("nonsense", "it is no certificate with its key in PEM format")],
)
def test_a_client_certificate_that_cannot_be_read(
    content: str | None,
    why: str,
    tls: ssl.SSLContext,
    authority: CertificateAuthority,
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    if content is not None:
        (tmp_path / "client.pem").write_text(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.ca_file))
    with serving(tls=tls) as port:
        error = failure(f"https://127.0.0.1:{port}", client_cert=str(tmp_path / "client.pem"))
    assert error.code == "TlsFailed"
    assert f"the client certificate of the setting config, which cannot be read: {why}." in error.reason


def test_a_file_of_proxies_config_that_is_not_there() -> None:
    error = failure(proxies={"https": "https://127.0.0.1:9"}, proxies_config={"proxy_ca_bundle": "/nowhere/ca.pem"})
    assert error.code == "ProxyFailed"
    assert "proxies_config of the setting config names cannot be read: No such file or directory." in error.reason


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 many OK\r\n\r\n",
        b"<html>",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    ],
)
def test_what_answers_does_not_speak_http(answer: bytes) -> None:
    with answering(answer) as port:
        error = failure(url := f"http://127.0.0.1:{port}")
    assert (error.code, error.reason) == ("UnreadableResponse", f"{url} gave no HTTP response that can be read.")


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
    assert error.code == "ProxyFailed"
    assert "wants to be logged in to (HTTP status 407)" in error.reason


def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
    error = failure()
    assert error.code == "ProxyFailed"
    assert f"the proxy http://127.0.0.1:{port} cannot be reached: Connection refused." in error.reason


@pytest.mark.parametrize(
    "url",
    [
        "::::",
        "http://127.0.0.1:abc",
        "http://127.0.0.1:99999",
        "http://[::1",
        " http://127.0.0.1:9",
        "http://m\u00e9:pass-word@127.0.0.1:9",
    ],
)
def test_the_url_of_a_proxy_that_is_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)
    error = failure()
    assert (error.code, error.reason) == ("ProxyFailed", "the URL of a proxy cannot be used as one.")


@pytest.mark.parametrize("password", ["pass@word/pass-word", "pass\nword", "pass\tword", "pass word", "//pass//word"])
@pytest.mark.parametrize("url", ["http://me:{}@127.0.0.1:9", "me:{}@127.0.0.1:9"])
def test_nothing_of_a_proxys_password_is_shown_whatever_is_in_it(
    url: str, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url.format(password))
    error = failure()
    assert error.code == "ProxyFailed"
    assert "word" not in error.reason


def test_nor_of_one_in_the_url_of_an_endpoint_that_is_none() -> None:
    with pytest.raises(AwsError) as caught, translate_errors("redshift:DescribeClusters", "every cluster", "me"):
        raise ValueError("Invalid endpoint: http://me:pass word@aws.invalid")
    assert caught.value.reason == "Invalid endpoint: http://***@aws.invalid."


def test_a_proxy_for_something_else_than_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5h://me:pass-word@127.0.0.1:9")
    error = failure()
    assert (error.code, error.reason) == (
        "ProxyFailed",
        "the URL of the proxy begins with socks5h://, and botocore uses proxies for HTTP alone.",
    )


@contextlib.contextmanager
def deaf() -> Iterator[int]:
    """A port whose queue of connections is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as callers:
        for _ in range(3):
            caller = callers.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_a_proxy_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with deaf() as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        error = failure(connect_timeout=0.1)
    assert (error.code, error.reason) == (
        "ProxyFailed",
        f"the proxy http://127.0.0.1:{port} cannot be reached: no response in time.",
    )


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "could not connect to {}: the connection was closed."),
        (b"SSH-2.0-OpenSSH\r\n", "{} gave no HTTP response that can be read."),
        (b"HTTP/1.1 200 OK\r\n\r\nno TLS", "TLS with {} failed: unexpected eof while reading."),
    ],
)
def test_what_comes_through_a_proxy_is_told_with_its_name(
    answer: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(answer) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:pass-word@127.0.0.1:{port}")
        error = failure()
    where = f"https://redshift.eu-west-1.amazonaws.com through the proxy 127.0.0.1:{port}"
    assert error.reason == reason.format(where)


def test_so_is_who_has_not_answered_yet() -> None:
    waiting = Exchange("redshift:DescribeClusters", "https://aws.invalid", "eu-west-1", None, "proxy:3128")
    assert waiting.where == "https://aws.invalid through the proxy proxy:3128"


@pytest.mark.parametrize("port", ["99999", "abc"])
def test_a_port_that_is_none(port: str) -> None:
    with pytest.raises(AwsError) as caught, translate_errors("redshift:DescribeClusters", "every cluster", "me"):
        urlsplit(f"http://aws.invalid:{port}").port  # noqa: B018  # botocore looks at it when it signs
    assert caught.value.code == "Misconfigured"
    assert "AWS_ENDPOINT_URL" in caught.value.advice


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = failure(f"http://127.0.0.1:{port}")
    assert error.code == "Unreachable"
    assert error.reason == f"could not connect to http://127.0.0.1:{port}: Connection refused."


@pytest.mark.parametrize(
    ("number", "reason"),
    [(socket.EAI_NONAME, "DNS does not know its name"), (socket.EAI_AGAIN, "DNS gives no answer for its name")],
)
def test_a_name_that_is_not_resolved(number: int, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(number, "x")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert f"redshift.eu-west-1.amazonaws.com: {reason}." in failure().reason


@pytest.mark.parametrize(
    ("option", "endpoint"),
    [
        ("use_fips_endpoint", "https://redshift-fips.eu-west-1.amazonaws.com"),
        ("use_dualstack_endpoint", "https://redshift.eu-west-1.api.aws"),
    ],
)
def test_an_endpoint_that_a_service_need_not_have(option: str, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "x")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = failure(**{option: True})
    assert error.reason == f"could not connect to {endpoint}: DNS does not know its name."
    assert f"unset {option}, or name another endpoint" in error.advice


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
