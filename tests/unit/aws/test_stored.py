"""Secrets and parameters under a prefix: all pages, those that are wanted alone, and errors as lookups say them."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from redshift_secrets.aws.sessions import Sessions
from redshift_secrets.aws.stored import StoredTexts
from redshift_secrets.errors import AwsError
from redshift_secrets.model import reveal
from redshift_secrets.settings import Settings


class FakeAws:
    """Pages of secrets and parameters; `calls` has each request."""

    def __init__(self) -> None:
        self.secrets: dict[str, str | None] = {}
        self.parameters: dict[str, str] = {}
        self.denied: set[str] = set()
        self.odd: dict[str, tuple[str, str]] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def _check(self, operation: str, request: dict[str, Any]) -> None:
        self.calls.append((operation, request))
        if operation in self.denied:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, operation)

    def get_paginator(self, operation: str) -> Any:
        aws = self

        class Paginator:
            def paginate(self, **request: Any) -> Any:
                aws._check(operation, request)
                if operation == "list_secrets":
                    for name in aws.secrets:  # one a page
                        yield {"SecretList": [{"Name": name}]}
                else:
                    for name, value in aws.parameters.items():
                        if request["WithDecryption"]:
                            aws._decrypt(name, operation)
                        yield {
                            "Parameters": [{"Name": name, "Value": value if request["WithDecryption"] else "sealed"}]
                        }

        return Paginator()

    def get_secret_value(self, **request: Any) -> dict[str, Any]:
        self._check("get_secret_value", request)
        self._decrypt(request["SecretId"], "get_secret_value")
        text = self.secrets[request["SecretId"]]
        return {"SecretBinary": b"x"} if text is None else {"SecretString": text}

    def get_parameter(self, **request: Any) -> dict[str, Any]:
        self._check("get_parameter", request)
        self._decrypt(request["Name"], "get_parameter")
        return {"Parameter": {"Name": request["Name"], "Value": self.parameters[request["Name"]]}}

    def _decrypt(self, name: str, operation: str) -> None:
        if code := self.odd.get(name):
            raise ClientError({"Error": {"Code": code[0], "Message": code[1]}}, operation)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> FakeAws:
    fake = FakeAws()
    monkeypatch.setattr(Sessions, "client", lambda *_arguments, **_names: fake)
    return fake


@pytest.fixture
def texts(aws: FakeAws) -> StoredTexts:
    return StoredTexts(Settings.from_kwargs({"regions": ["eu-west-1"]}))


def wanted(_conn_id: str) -> bool:
    return True


def test_secrets_under_a_prefix(aws: FakeAws, texts: StoredTexts) -> None:
    aws.secrets = {f"airflow/connections/c{number}": f"redshift://{number}" for number in range(30)}
    aws.secrets |= {"airflow/connections-of-others/x": "y", "airflow/connections/team/bi": None}
    found = {each.conn_id: each for each in texts.secrets("airflow/connections/", "/", wanted)}
    assert len(found) == 31
    assert (found["c7"].name, reveal(found["c7"].text)) == ("airflow/connections/c7", "redshift://7")
    assert found["team/bi"].text is None
    assert aws.calls[0] == ("list_secrets", {"Filters": [{"Key": "name", "Values": ["airflow/connections/"]}]})
    assert [each.conn_id for each in texts.secrets("airflow/connections", "-", wanted)] == ["of-others/x"]


def test_without_a_prefix_every_secret_is_one(aws: FakeAws, texts: StoredTexts) -> None:
    aws.secrets = {"analytics": "x"}
    assert [each.conn_id for each in texts.secrets("", "/", wanted)] == ["analytics"]
    assert aws.calls[0] == ("list_secrets", {})


def test_only_what_is_wanted_is_read(aws: FakeAws, texts: StoredTexts) -> None:
    aws.secrets = {"p/a": "x", "p/b": "y"}
    assert [each.conn_id for each in texts.secrets("p", "/", lambda conn_id: conn_id == "b")] == ["b"]
    assert [request for operation, request in aws.calls if operation == "get_secret_value"] == [
        {"SecretId": "p/b"},
    ]


def test_a_denied_secret_is_asked_for_once(aws: FakeAws, texts: StoredTexts) -> None:
    aws.secrets = {f"p/{number}": "x" for number in range(30)}
    aws.denied = {"get_secret_value"}
    with pytest.raises(AwsError, match="secretsmanager:GetSecretValue on secret p/0 in eu-west-1"):
        texts.secrets("p", "/", wanted)
    assert len(aws.calls) == 2
    aws.denied = {"list_secrets"}
    with pytest.raises(AwsError, match="secretsmanager:ListSecrets on secrets under p/ in eu-west-1"):
        texts.secrets("p", "/", wanted)


@pytest.mark.parametrize(
    "error",
    [
        ("AccessDeniedException", "Access to KMS is not allowed"),
        ("DecryptionFailure", "The key is disabled."),
        ("InvalidRequestException", "It is marked for deletion."),
        ("ResourceNotFoundException", "It is gone."),
    ],
)
def test_a_secret_that_cannot_be_read_leaves_the_others(
    aws: FakeAws, texts: StoredTexts, error: tuple[str, str]
) -> None:
    aws.secrets = {f"p/{number}": "x" for number in range(5)}
    aws.odd = {"p/0": error, "p/3": error}
    found = texts.secrets("p", "/", wanted)
    assert [each.text is None for each in found] == [True, False, False, True, False]
    assert "secret p/3 in eu-west-1" in str(found[3].problem)
    assert error[0] in str(found[0].problem)


def test_a_secret_that_alone_is_denied_leaves_those_before_it(aws: FakeAws, texts: StoredTexts) -> None:
    aws.secrets = {"p/a": "x", "p/b": "y"}
    aws.odd = {"p/b": ("AccessDeniedException", "not this one")}
    assert [each.problem is None for each in texts.secrets("p", "/", wanted)] == [True, False]


@pytest.mark.parametrize("prefix", ["airflow/connections", "/airflow/connections/"])
def test_parameters_under_a_prefix(aws: FakeAws, texts: StoredTexts, prefix: str) -> None:
    aws.parameters = {"/airflow/connections/a": "x", "/airflow/connections/team/b": "y"}
    assert [(each.conn_id, reveal(each.text)) for each in texts.parameters(prefix, wanted)] == [
        ("a", "x"),
        ("team/b", "y"),
    ]
    assert aws.calls == [
        ("get_parameters_by_path", {"Path": "/airflow/connections", "Recursive": True, "WithDecryption": True})
    ]
    assert [each.conn_id for each in texts.parameters(prefix, lambda conn_id: conn_id == "a")] == ["a"]


OF_A_KEY = [
    ("InvalidKeyId", "The key is disabled."),
    (
        "AccessDeniedException",
        "User: x is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:eu-west-1:1:key/k",
    ),
    (
        "AccessDeniedException",
        "The ciphertext refers to a customer master key that you are not allowed to access. (Service: AWSKMS)",
    ),
]


@pytest.mark.parametrize("error", OF_A_KEY, ids=["disabled", "denied", "denied in other words"])
def test_a_parameter_whose_key_cannot_be_used_leaves_the_others(
    aws: FakeAws, texts: StoredTexts, error: tuple[str, str]
) -> None:
    aws.parameters = {f"/p/{number}": f"x{number}" for number in range(4)}
    aws.odd = {"/p/0": error, "/p/2": error}
    found = texts.parameters("p", lambda conn_id: conn_id != "3")
    assert [(each.conn_id, reveal(each.text or "")) for each in found] == [("0", ""), ("1", "x1"), ("2", "")]
    assert [each.problem is None for each in found] == [False, True, False]
    assert "ssm:GetParameter on parameter /p/2 in eu-west-1" in str(found[2].problem)
    asked = [request["Name"] for operation, request in aws.calls if operation == "get_parameter"]
    assert sorted(asked) == ["/p/0", "/p/1", "/p/2"]


def test_where_single_parameters_are_denied_one_call_is_enough(aws: FakeAws, texts: StoredTexts) -> None:
    aws.parameters = {f"/p/{number}": "x" for number in range(30)}
    aws.odd, aws.denied = {"/p/7": OF_A_KEY[0]}, {"get_parameter"}
    with pytest.raises(AwsError, match="ssm:GetParameter on parameter /p/0"):
        texts.parameters("p", wanted)
    assert len(aws.calls) == 3


def test_denied_parameters_are_asked_for_once(aws: FakeAws, texts: StoredTexts) -> None:
    aws.denied = {"get_parameters_by_path"}
    with pytest.raises(AwsError, match="ssm:GetParametersByPath on parameters under /p in eu-west-1"):
        texts.parameters("p", wanted)
    assert len(aws.calls) == 1


def test_an_answer_without_its_list_is_an_error(
    aws: FakeAws, texts: StoredTexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Empty:
        def paginate(self, **_request: Any) -> Any:
            return [{}]

    monkeypatch.setattr(aws, "get_paginator", lambda _operation: Empty())
    with pytest.raises(AwsError, match="ssm:GetParametersByPath"):
        texts.parameters("p", wanted)


def test_an_odd_item_hurts_only_itself(aws: FakeAws, texts: StoredTexts, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd:
        def __init__(self, operation: str) -> None:
            self.key = "SecretList" if operation == "list_secrets" else "Parameters"

        def paginate(self, **_request: Any) -> Any:
            named = {"Name": "/p/b"} if self.key == "Parameters" else {"Name": 5}
            return [{self.key: [{}, None, named, {"Name": "/p/a", "Value": "x"}]}]

    aws.secrets = {"/p/a": "x"}
    monkeypatch.setattr(aws, "get_paginator", Odd)
    assert [(each.conn_id, reveal(each.text or "")) for each in texts.secrets("/p", "/", wanted)] == [("a", "x")]
    assert [each.conn_id for each in texts.secrets("", "/", wanted)] == ["/p/a"]
    found = texts.parameters("p", wanted)
    assert [(each.conn_id, each.problem) for each in found] == [("b", "AWS gives no value of it"), ("a", None)]
