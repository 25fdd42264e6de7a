"""What is wrong with credentials before AWS is asked is told as what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_a_program_for_credentials_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "config").write_text("[default]\ncredential_process = /nowhere/program\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    error = failure()
    assert error.code == "NoCredentials"
    assert "/nowhere/program cannot be read: No such file or directory" in error.reason
