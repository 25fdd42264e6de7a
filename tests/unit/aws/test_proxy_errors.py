"""What is wrong with a proxy is told as that, and what comes through one with its name. The servers are real."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from redshift_secrets.aws.exchanges import Exchange
from tests.unit.aws.failing import failure, set_keys
from tests.unit.aws.servers import answering, serving


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)


def test_a_file_of_proxies_config_that_is_not_there() -> None:
    error = failure(proxies={"https": "https://127.0.0.1:9"}, proxies_config={"proxy_ca_bundle": "/nowhere/ca.pem"})
    assert error.code == "ProxyFailed"
    assert "proxies_config of the setting config names cannot be read: No such file or directory." in error.reason


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
