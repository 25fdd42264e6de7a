"""TLS, DNS, missing files and a process that has run out of something: each is told as that. The servers are real."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
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
from redshift_secrets.aws.exchanges import _origin
from redshift_secrets.errors import AwsError, ExhaustedError, UnexpectedError, exhausted_error, known_error
from redshift_secrets.local.certificates import CertificateAuthority
from tests.unit.aws.failing import failure, set_keys
from tests.unit.aws.servers import answering, serving


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


def test_no_password_in_the_url_of_an_endpoint_is_shown() -> None:
    with pytest.raises(AwsError) as caught, translate_errors("redshift:DescribeClusters", "every cluster", "me"):
        raise ValueError("Invalid endpoint: http://me:pass word@aws.invalid")
    assert caught.value.reason == "Invalid endpoint: http://***@aws.invalid."


@pytest.mark.parametrize("port", ["99999", "abc"])
def test_a_port_that_is_none(port: str) -> None:
    with pytest.raises(AwsError) as caught, translate_errors("redshift:DescribeClusters", "every cluster", "me"):
        urlsplit(f"http://aws.invalid:{port}").port  # noqa: B018  # botocore looks at it when it signs
    assert caught.value.code == "Misconfigured"
    assert caught.value.reason == "the URL of an endpoint has a port that is not a number from 1 to 65535."
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


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("https://[2001:db8::1]:8443/x", "https://[2001:db8::1]:8443"),
        ("https://me:pass-word@aws.invalid/?x=y", "https://aws.invalid"),
        ("http://aws.invalid:9", "http://aws.invalid:9"),
    ],
)
def test_an_endpoint_is_named_as_it_is_written_without_login_and_path(url: str, named: str) -> None:
    assert _origin(url) == named
