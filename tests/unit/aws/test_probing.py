"""Calls that are tried one by one: what counts as allowed, and what is read of an answer's clock."""

from __future__ import annotations

import socket

import pytest
from botocore.exceptions import ClientError

from redshift_secrets.aws import probing
from redshift_secrets.aws.probing import ProbingClient, _ahead
from redshift_secrets.errors import AwsError
from redshift_secrets.settings import Settings
from tests.unit.aws.failing import set_keys


class FakeClient:
    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.requests: list[dict[str, object]] = []

    def get_cluster_credentials(self, **request: object) -> dict[str, object]:
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        return {}


def attempt(monkeypatch: pytest.MonkeyPatch, code: str | None) -> FakeClient:
    error = None if code is None else ClientError({"Error": {"Code": code, "Message": "No."}}, "GetClusterCredentials")
    client, fake = ProbingClient(Settings.from_kwargs({"regions": ["eu-west-1"]})), FakeClient(error)
    monkeypatch.setattr(client._sessions, "client", lambda *_arguments, **_options: fake)
    client.attempt("redshift:GetClusterCredentials", "eu-west-1", None, DbUser="etl")
    return fake


@pytest.mark.parametrize("code", ["ClusterNotFound", "ClusterNotFoundFault", "ResourceNotFoundException", None])
def test_what_does_not_exist_may_be_asked_for(monkeypatch: pytest.MonkeyPatch, code: str | None) -> None:
    fake = attempt(monkeypatch, code)
    assert fake.requests == [{"ClusterIdentifier": probing.NO_SUCH_WAREHOUSE, "DbUser": "etl"}]


@pytest.mark.parametrize("code", ["AccessDenied", "ExpiredToken", "Throttling"])
def test_anything_else_is_an_error(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    with pytest.raises(AwsError) as caught:
        attempt(monkeypatch, code)
    assert caught.value.code == code
    assert caught.value.operation == "redshift:GetClusterCredentials"
    assert caught.value.resource == "clusters in eu-west-1"


@pytest.mark.parametrize(
    ("date", "ahead"),
    [
        ("Thu, 01 Jan 1970 00:16:40 GMT", 9.5),  # 1000 s after the epoch, cut off
        ("Thu, 01 Jan 1970 00:33:20 GMT", -990.5),
        ("yesterday", None),
        (None, None),
    ],
)
def test_how_far_the_clock_is_ahead(date: str | None, ahead: float | None) -> None:
    assert _ahead(date, 1010.0) == ahead


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> ProbingClient:
    set_keys(monkeypatch)
    return ProbingClient(Settings.from_kwargs({"regions": ["eu-west-1"]}))


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("http://127.0.0.1:many", "127.0.0.1:many"),
        ("http://127.0.0.1:99999", "127.0.0.1:99999"),
        ("me:pass\nword@127.0.0.1:9", "127.0.0.1:9"),
        ("socks5://me:password@127.0.0.1:9", "127.0.0.1:9"),
    ],
)
def test_a_proxy_that_cannot_be_one_is_reached_as_that(
    client: ProbingClient, proxy: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    found = client.reach("redshift", "eu-west-1")
    assert (found.proxy, found.error and found.error.code) == (shown, "ProxyFailed")
    assert "word" not in str(found)


def test_of_an_endpoint_no_password_is_shown(client: ProbingClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:pass word@127.0.0.1:9")
    found = client.reach("redshift", "eu-west-1")
    assert (found.url, found.error and found.error.code) == ("http://***@127.0.0.1:9", "Unreachable")
    assert "word" not in f"{found} {found.error}"


@pytest.mark.parametrize("url", ["http://127.0.0.1:many", "http://me:pass/word@127.0.0.1:9", "https://[::1"])
def test_an_endpoint_that_is_none_is_told_as_that(
    client: ProbingClient, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    with pytest.raises(AwsError, match="Fix endpoint_url or AWS_ENDPOINT_URL") as caught:
        client.reach("redshift", "eu-west-1")
    assert caught.value.code == "Misconfigured"
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize(
    ("number", "begin"), [(socket.EAI_NONAME, "DNS does not know"), (socket.EAI_AGAIN, "DNS gives no answer for")]
)
def test_a_name_that_is_not_resolved(
    client: ProbingClient, number: int, begin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unresolved(*_: object, **__: object) -> None:
        raise socket.gaierror(number, "x")

    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    error = client.reach("redshift", "eu-west-1").error
    assert error is not None
    assert error.reason == f"{begin} redshift-fips.eu-west-1.amazonaws.com."
    assert "unset use_fips_endpoint" in error.advice
