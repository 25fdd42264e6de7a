"""The settings `assume_role_kwargs` and `verify`, checked at start."""

from __future__ import annotations

import json
from typing import Any

import botocore.session
import pytest

from redshift_secrets.errors import SettingsError
from redshift_secrets.model import reveal
from redshift_secrets.settings import Settings
from redshift_secrets.settings.assume_role import _ARGUMENTS, _NOT_HERE

ROLE = "arn:aws:iam::123456789012:role/airflow"
POLICY = json.dumps({"Version": "2012-10-17", "Statement": []})
GOOD: dict[str, Any] = {
    "DurationSeconds": 3600,
    "ExternalId": "agreed-word",
    "Policy": POLICY,
    "PolicyArns": [{"arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}],
    "ProvidedContexts": [{"ProviderArn": "arn:aws:iam::aws:contextProvider/IdentityCenter", "ContextAssertion": "x"}],
    "SourceIdentity": "airflow",
    "Tags": [{"Key": "team", "Value": "data"}],
    "TransitiveTagKeys": ["team"],
}


def read(kwargs: object) -> Any:
    return reveal(Settings.from_kwargs({"role_arn": ROLE, "assume_role_kwargs": kwargs}).assume_role_kwargs)


def problem(kwargs: object) -> str:
    with pytest.raises(SettingsError) as caught:
        read(kwargs)
    [only] = caught.value.problems
    return only


def test_every_argument_is_taken_as_an_object_and_as_the_text_of_a_variable() -> None:
    assert read(GOOD) == GOOD
    assert read(json.dumps(GOOD)) == GOOD
    assert set(GOOD) == set(_ARGUMENTS)


def test_the_arguments_are_those_of_botocore() -> None:
    model = botocore.session.get_session().get_service_model("sts").operation_model("AssumeRole")
    known = {*_ARGUMENTS, *_NOT_HERE}
    assert known <= set(model.input_shape.members)
    assert set(model.input_shape.members) - known <= {"MinimumSessionTokenSize"}


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"DurationSecond": 900},
            ".DurationSecond: unknown argument of sts:AssumeRole (did you mean 'DurationSeconds'?)",
        ),
        ({"RoleArn": ROLE}, " must not have RoleArn: the setting role_arn names the role"),
        ({"RoleSessionName": "airflow"}, " must not have RoleSessionName: this backend names its sessions"),
        ({"SerialNumber": "x"}, " must not have SerialNumber: a server cannot enter the code"),
        ({"TokenCode": "123456"}, " must not have TokenCode: a server cannot enter the code"),
        ({"DurationSeconds": 899}, ".DurationSeconds must be between 900 and 43200 seconds"),
        ({"Policy": "no policy"}, ".Policy must be a text of at most 2048 characters with the JSON of a policy"),
        ({"Policy": {"Version": "x"}}, ".Policy must be a text of at most 2048 characters"),
        ({"Policy": POLICY + " " * 2048}, ".Policy must be a text of at most 2048 characters"),
        ({"PolicyArns": ["arn:aws:iam::aws:policy/x"]}, ".PolicyArns must be a list of objects like"),
        ({"Tags": {"team": "data"}}, ".Tags must be a list of objects like"),
        ({"Tags": [{"Key": "team", "Value": 1}]}, ".Tags must be a list of objects like"),
        ({"Tags": [{"Key": "team", "Value": "a*b"}]}, ".Tags must have keys and values that AWS accepts in tags"),
        ({"Tags": [{"Key": "RedshiftDbUser", "Value": "x"}]}, ".Tags must not have the key RedshiftDbUser, which this"),
        (
            {"Tags": [{"Key": "redshiftdbROLES", "Value": "x"}]},
            ".Tags must not have the key redshiftdbROLES, which this",
        ),
        ({"Tags": [{"Key": f"k{each}", "Value": ""} for each in range(51)]}, ".Tags must not have more than 50 items"),
        (
            {"Tags": [{"Key": "Team", "Value": "a"}, {"Key": "team", "Value": "b"}]},
            ".Tags must not have the key team twice",
        ),
        ({"Tags": [{"Key": "AWS:team", "Value": "a"}]}, ".Tags must not have a key that begins with aws:"),
        ({"TransitiveTagKeys": ["team", "TEAM"]}, ".TransitiveTagKeys must not have the key team twice"),
        (
            {"TransitiveTagKeys": [f"k{each}" for each in range(51)]},
            ".TransitiveTagKeys must not have more than 50 items",
        ),
        ({"PolicyArns": [{"arn": "arn:aws:iam::aws:policy/x"}] * 11}, ".PolicyArns must not have more than 10 items"),
        ({"ProvidedContexts": GOOD["ProvidedContexts"] * 6}, ".ProvidedContexts must not have more than 5 items"),
        (
            {"Policy": '{"Sid": "\u20ac"}'},
            ".Policy must be a text of at most 2048 characters with the JSON of a policy, no character beyond",
        ),
        ({"TransitiveTagKeys": ["a*"]}, ".TransitiveTagKeys must be a tag key as AWS allows it"),
        ({"SourceIdentity": "a b"}, ".SourceIdentity must be 2 to 256 letters"),
        ({"ExternalId": "a b"}, ".ExternalId must be a text of 2 to 1224"),
        ([], " must be a JSON object, not a list"),
        ("x", " must be JSON, which it is not"),
    ],
)
def test_what_cannot_be_sent_stops_airflow_at_start(kwargs: object, message: str) -> None:
    assert problem(kwargs).startswith(f"assume_role_kwargs{message}")


def test_as_many_as_aws_allows_are_taken() -> None:
    most = {
        "Tags": [{"Key": f"k{each}", "Value": "v" * 256} for each in range(50)],
        "TransitiveTagKeys": [f"k{each}" for each in range(50)],
        "PolicyArns": GOOD["PolicyArns"] * 10,
        "ProvidedContexts": GOOD["ProvidedContexts"] * 5,
    }
    assert read(most) == most


@pytest.mark.parametrize(("given", "read_as"), [("true", True), (" False ", False), (True, True), ("/a.pem", "/a.pem")])
def test_verify_may_come_from_a_variable(given: object, read_as: object) -> None:
    assert Settings.from_kwargs({"verify": given}).verify == read_as


def test_it_is_not_shown() -> None:
    settings = Settings.from_kwargs({"role_arn": ROLE, "assume_role_kwargs": {"ExternalId": "hunter2"}})
    assert "hunter2" not in repr(settings)
