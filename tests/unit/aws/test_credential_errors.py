"""What is wrong with credentials before AWS is asked is told as what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from redshift_secrets.errors import AwsError
from tests.unit.aws.failing import failure, set_keys


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)


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


def test_a_token_file_without_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").touch()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/airflow")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    error = failure()
    assert (error.code, error.reason) == (
        "NoCredentials",
        "the file of the web identity token is empty or has no token.",
    )
    assert "service account" in error.advice


def test_a_role_of_a_profile_that_botocore_does_not_take_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("a.jwt.token")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_ROLE_ARN", "airflow")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    error = failure()
    assert (error.code, error.reason) == ("Misconfigured", "botocore does not take RoleArn in the request.")
    assert error.advice.startswith("Check AWS_ROLE_ARN and AWS_ROLE_SESSION_NAME, or role_arn")


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.org/x"}, "Unsupported host 'example.org'"),
        (
            {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/x",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": "a\nsecret-key",
            },
            "Auth token value is not a legal header value.",
        ),
    ],
)
def test_a_variable_of_the_container_that_botocore_does_not_take(
    variables: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    error = failure()
    assert error.code == "NoCredentials"
    assert error.reason.startswith(reason)


@pytest.mark.parametrize("name", ["AWS_METADATA_SERVICE_TIMEOUT", "AWS_METADATA_SERVICE_NUM_ATTEMPTS"])
def test_a_number_of_the_configuration_that_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "many")
    error = failure()
    assert error.code == "NoCredentials"
    assert "the configuration that has them: they cannot be read (ValueError)" in error.reason


def test_nobody_is_asked_for_the_code_of_an_mfa_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    role = "role_arn = arn:aws:iam::123456789012:role/a\nsource_profile = own\nmfa_serial = arn:aws:iam::123456789012:mfa/me"
    own = "[profile own]\naws_access_key_id = AKIA\naws_secret_access_key = s\n"
    (tmp_path / "config").write_text(f"{own}[profile guarded]\n{role}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "guarded")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    error = failure()
    assert (error.code, error.reason) == ("NoCredentials", "Cannot refresh credentials: MFA token required.")


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], AwsError]:
    """Returns what listing clusters raises with this AWS configuration file, and nothing else to find credentials with."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    def fail(config: str) -> AwsError:
        (tmp_path / "config").write_text(f"[default]\n{config}\n")
        return failure()

    return fail


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo secret-key >&2; exit 1", "the program ended with an error, and what it printed is not shown"),
        ("kill -9 $$", "the program ended with an error, and what it printed is not shown"),
        ("printf '\\377secret-key' >&2; exit 2", "they cannot be read (UnicodeDecodeError)"),
        ("echo secret-key", "they cannot be read (JSONDecodeError)"),
        ("echo '[]'", "they cannot be read (AttributeError)"),
        ("echo '{\"Version\": 2}'", "Unsupported version '2'"),
        ("echo '{\"Version\": 1}'", "Missing required key in response: 'AccessKeyId'"),
    ],
)
@pytest.mark.parametrize("in_a_chain", [False, True])
def test_a_program_for_credentials_that_gives_none(
    script: str, reason: str, in_a_chain: bool, tmp_path: Path, configured: Callable[[str], AwsError]
) -> None:
    (program := tmp_path / "program").write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    config = f"credential_process = {program}"
    if in_a_chain:
        config = f"role_arn = arn:aws:iam::123456789012:role/a\nsource_profile = own\n[profile own]\n{config}"
    error = configured(config)
    assert error.code == "NoCredentials"
    assert error.reason.startswith(f"Error when retrieving credentials from custom-process: {reason}")
    assert error.advice.startswith("Run the program of credential_process by hand")


@pytest.mark.parametrize(
    "pair", ['"AccessKeyId": null, "SecretAccessKey": "s"', '"AccessKeyId": "A", "SecretAccessKey": ""']
)
def test_a_key_that_is_missing(pair: str, tmp_path: Path, configured: Callable[[str], AwsError]) -> None:
    (answer := tmp_path / "answer").write_text(f'{{"Version": 1, {pair}}}')
    error = configured(f"credential_process = cat {answer}")
    assert error.code == "NoCredentials"
    assert error.reason.endswith(" of the AWS credentials from custom-process is missing.")


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("services = flat\n[services flat]\nredshift = http://127.0.0.1:9", "cannot be read (AttributeError)."),
        ("services = nowhere", 'the "nowhere" services configuration does not exist.'),
    ],
)
def test_an_option_that_no_client_can_be_made_with_is_not_told_as_missing_credentials(
    option: str, reason: str, configured: Callable[[str], AwsError]
) -> None:
    error = configured(f"aws_access_key_id = A\naws_secret_access_key = s\n{option}")
    assert error.code == "Misconfigured"
    assert reason in error.reason
    assert error.advice == "Correct it in the AWS configuration files and the environment, or in the setting config."


def test_a_token_that_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/airflow")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    error = failure()
    assert "from assume-role-with-web-identity: they cannot be read (UnicodeDecodeError)" in error.reason
    assert "service account" in error.advice


def test_a_program_for_credentials_that_is_not_there(configured: Callable[[str], AwsError]) -> None:
    error = configured("credential_process = /nowhere/program")
    assert error.code == "NoCredentials"
    assert "/nowhere/program cannot be read: No such file or directory" in error.reason
