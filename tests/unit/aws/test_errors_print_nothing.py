"""What AWS and botocore say is one short line in a refusal, and nothing where it may quote the request."""

from __future__ import annotations

import pytest
from botocore import exceptions

from redshift_secrets.aws.errors import translate_errors
from redshift_secrets.errors import AwsError, one_line

pytestmark = pytest.mark.attempt("read the request that AWS quotes in an error")

TOKEN = "FwoGZXIvYXdzEPlantedSessionToken//8="
CANONICAL = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing"
    " method. Consult the service documentation for details.\n\nThe Canonical String for this request should have been\n"
    f"'POST\n/\n\nhost:redshift.eu-west-1.amazonaws.com\nx-amz-security-token:{TOKEN}\n\nhost;x-amz-date'\n"
)


def message_of(error: Exception) -> str:
    with pytest.raises(AwsError) as caught, translate_errors("redshift:GetClusterCredentials", "prod", "me"):
        raise error
    return str(caught.value)


def client_error(code: str, message: str) -> exceptions.ClientError:
    return exceptions.ClientError({"Error": {"Code": code, "Message": message}}, "GetClusterCredentials")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("SignatureDoesNotMatch", CANONICAL),
        ("SignatureDoesNotMatch", f"It is {TOKEN}"),
        ("InvalidSignatureException", CANONICAL),
        ("InvalidSignatureException", f"Signature expired: {CANONICAL}"),
        ("SomethingNew", CANONICAL),
        ("IncompleteSignature", f"Authorization header requires 'Credential' parameter. Authorization={TOKEN}"),
        ("AccessDenied", f"X-Amz-Security-Token: {TOKEN}"),
        ("ValidationError", f"1 validation error detected: Value '{TOKEN}' at 'webIdentityToken' failed to satisfy"),
        (
            "ValidationError",
            f"1 validation error detected: Value '{TOKEN}' at 'externalId' failed to satisfy constraint",
        ),
        (
            "ValidationError",
            f"2 validation errors detected: Value 'x' at 'dbUser' failed; Value '{TOKEN}' at 'tokenCode'",
        ),
        ("InvalidIdentityToken", f"cannot verify eyJhbGciOiJSUzI1NiJ9.{TOKEN}"),
        ("AccessDenied", f"no identity for {TOKEN}{'A1b+' * 20}"),
    ],
)
def test_nothing_of_the_request_is_repeated(code, message):
    shown = message_of(client_error(code, message))
    assert TOKEN not in shown
    assert f"({code}): what AWS says is not shown" in shown


@pytest.mark.parametrize("says", ['{"SecretAccessKey": "%s"}', "aws_session_token = %s", "login failed, password: %s"])
def test_nothing_is_repeated_that_a_program_for_credentials_says_of_them(says):
    error = exceptions.CredentialRetrievalError(provider="custom-process", error_msg=says % TOKEN)
    assert TOKEN not in message_of(error)


@pytest.mark.parametrize(
    "says",
    [
        "1 validation error detected: Value 'Etl' at 'dbUser' failed to satisfy constraint: Member must satisfy regular expression",
        "User: arn:aws:sts::123456789012:assumed-role/airflow-workers-of-the-data-platform-in-production/i-0123456789abcdef0 is not"
        " authorized to perform: redshift:GetClusterCredentials on resource:"
        " arn:aws:redshift:eu-west-1:123456789012:dbuser:prod/airflow_etl because no identity-based policy allows it",
        f"User: arn:aws:iam::123456789012:role/{'/'.join(['engineering', 'dataplatform'] * 5)}/airflow is not authorized",
        "The web identity token that was passed is expired or is not valid",
        "Partial credentials found in env, missing: aws_secret_access_key",
    ],
)
def test_so_is_one_that_names_parameters_and_resources(says):
    assert says in message_of(client_error("Odd", says))


def test_a_reason_that_quotes_nothing_is_shown():
    shown = message_of(client_error("ExpiredToken", "The security token included in the request is expired"))
    assert "(ExpiredToken): The security token included in the request is expired. " in shown
    shown = message_of(client_error("SignatureDoesNotMatch", "Signature expired: 1 is now earlier than 2"))
    assert "(SignatureDoesNotMatch): Signature expired: 1 is now earlier than 2. " in shown


@pytest.mark.parametrize(
    "make",
    [
        lambda text: client_error("Odd", text),
        lambda text: client_error(text, "x"),
        lambda text: exceptions.CredentialRetrievalError(provider="custom-process", error_msg=text),
        lambda text: exceptions.TokenRetrievalError(provider="sso", error_msg=text),
        lambda text: exceptions.ProfileNotFound(profile=text),
        lambda text: exceptions.ParamValidationError(report=text),
        lambda text: exceptions.EndpointConnectionError(endpoint_url=text),
        lambda text: exceptions.ReadTimeoutError(endpoint_url=text),
    ],
)
def test_what_they_say_is_one_short_line(make):
    shown = message_of(make("one\ntwo\x1b[31m\u2028three\r" + "x" * 5000))
    assert shown.isprintable()
    assert len(shown) < 700


@pytest.mark.parametrize(
    ("text", "line"),
    [("a\n b\t\x00c", "a b c"), ("x" * 10, "x" * 10), ("x" * 11, "x" * 7 + "..."), ("", ""), ("é ü", "é ü")],
)
def test_one_line(text, line):
    assert one_line(text, 10) == line
