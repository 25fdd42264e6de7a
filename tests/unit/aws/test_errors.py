"""Botocore's exceptions become `AwsError`: the advice fits the code, and the error names the call that failed."""

from __future__ import annotations

import subprocess
import sys

import pytest
from botocore import exceptions
from botocore.parsers import ResponseParserError

from redshift_secrets.aws.errors import translate_errors
from redshift_secrets.aws.exchanges import Exchange
from redshift_secrets.errors import AwsError, error_from_json, error_to_json

RESOURCE = "arn:aws:redshift:eu-west-1:123456789012:dbuser:prod/etl"
ME = "arn:aws:sts::123456789012:assumed-role/airflow/i-1"
ACTION = "redshift:GetClusterCredentials"


def translated(error: Exception) -> AwsError:
    with pytest.raises(AwsError) as caught, translate_errors(ACTION, RESOURCE, ME):
        raise error
    return caught.value


def client_error(
    code: str, message: str = "Message of AWS.", operation: str = "GetClusterCredentials"
) -> exceptions.ClientError:
    return exceptions.ClientError({"Error": {"Code": code, "Message": message}}, operation)


@pytest.mark.parametrize(
    ("code", "message", "advice"),
    [
        ("AccessDenied", "no identity-based policy allows it", f"Grant {ACTION} on {RESOURCE} to {ME}."),
        ("AccessDenied", "with an explicit deny in a service control policy", f"A policy explicitly denies {ACTION} on {RESOURCE}"),
        ("Throttling", "Rate exceeded", "AWS is throttling this account"),
        ("ClusterNotFound", "Cluster prod not found.", "deleted or renamed after the last listing"),
        ("ExpiredToken", "The security token included in the request is expired", "have expired; renew them"),
        ("ExpiredTokenException", "The security token included in the request is expired", "have expired; renew them"),
        ("SignatureDoesNotMatch", "Signature expired: 1 is now earlier than 2 (3 - 5 min.)", "clock is out of sync with AWS"),
        ("InvalidSignatureException", "Signature not yet current: 3 is still later than 2", "clock is out of sync with AWS"),
        ("RequestExpired", "Request has expired.", "clock is out of sync with AWS"),
        ("SignatureDoesNotMatch", "The request signature we calculated does not match", "does not match the access key ID"),
        ("InvalidClientTokenId", "The security token included in the request is invalid.", "check them, and that the region"),
        ("InternalFailure", "An unknown error.", "AWS returned an internal error"),
        ("Unheard", "No such thing.", "Look up the error code"),
    ],
)  # fmt: skip
def test_the_advice_fits_the_error_of_aws(code: str, message: str, advice: str) -> None:
    error = translated(client_error(code, message))
    assert (error.code, error.operation, error.resource, error.identity) == (code, ACTION, RESOURCE, ME)
    is_shown = not message.startswith("The request signature")
    assert (error.reason == f"{message.rstrip('.')}.") == is_shown
    assert advice in error.advice


@pytest.mark.parametrize("message", [None, "", " "])
def test_an_error_of_aws_without_a_message_says_so(message: str | None) -> None:
    error = translated(client_error("Throttling", message))  # type: ignore[arg-type]  # as botocore passes it on
    assert error.reason == "AWS gives no reason."


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"null", "other JSON"),
        (b"42", "other JSON"),
        (b"[1]", "other JSON"),
        (b'{"a"', "JSON that is cut off or broken"),
        (b"[" * 100_000, "JSON that is cut off or broken"),
        (b"\x1f\x8b\x08", "neither JSON nor XML"),
        (b"<a/>", "other XML"),
    ],
)
def test_what_came_is_described_without_any_of_it(body: bytes, kind: str) -> None:
    exchange = Exchange(ACTION, "https://x", "eu-west-1", None)
    exchange.status, exchange.headers, exchange.body = 200, {"Content-Encoding": "gzip"}, body
    assert exchange.describe_answer() == f"{kind} (HTTP status 200, Content-Encoding: gzip, {len(body)} bytes)"


@pytest.mark.parametrize(
    ("metadata", "request_id"),
    [({"RequestId": "id-1"}, "id-1"), ({"RequestId": "id\n1"}, "id 1"), ({}, None), (None, None)],
)
def test_an_error_of_aws_has_the_id_of_the_request_also_in_another_process(
    metadata: dict[str, str] | None, request_id: str | None
) -> None:
    caught = client_error("AccessDenied")
    caught.response["ResponseMetadata"] = metadata
    error = translated(caught)
    assert error.request_id == request_id
    assert getattr(error_from_json(error_to_json(error)), "request_id", "") == request_id


@pytest.mark.parametrize(
    ("operation", "advice"),
    [("AssumeRole", "role's trust policy and in the caller's policy"), ("AssumeRoleWithWebIdentity", "OIDC")],
)
def test_an_error_of_assuming_a_role_names_that_call(operation: str, advice: str) -> None:
    error = translated(client_error("AccessDenied", "not authorized", operation))
    assert error.operation == f"sts:{operation}"
    assert (error.resource, error.identity) == (f"{ME} or an earlier role in the chain", "the calling identity")
    assert advice in error.advice


@pytest.mark.parametrize(
    ("code", "message", "advice"),
    [
        (
            "AccessDenied",
            "User: a is not authorized to perform: sts:TagSession on resource: b",
            "Allow sts:TagSession with these tags, beside sts:AssumeRole, in the role's trust policy and in the caller's policy.",
        ),
        (
            "AccessDenied",
            "User: a is not authorized to perform: sts:SetSourceIdentity on resource: b",
            "Allow sts:SetSourceIdentity, beside sts:AssumeRole, in the role's trust policy and in the caller's policy.",
        ),
        (
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
            "Check role_arn, its partition and assume_role_kwargs in the settings, or role_arn, role_session_name, duration_seconds and"
            " external_id of the profile; sessions of a role that another role assumes last 3600 seconds at most.",
        ),
        ("MalformedPolicyDocument", "x", "Correct the session policy in assume_role_kwargs."),
        (
            "PackedPolicyTooLarge",
            "Packed size of session tags consumes 110% of allotted space.",
            "Name fewer or shorter groups or database roles: AWS packs session tags and session policies into a small space.",
        ),
    ],
)
def test_an_error_of_how_a_role_is_assumed_says_what_to_do(code: str, message: str, advice: str) -> None:
    error = translated(client_error(code, message, "AssumeRole"))
    assert (error.operation, error.code, error.advice) == ("sts:AssumeRole", code, advice)


@pytest.mark.parametrize(
    ("raised", "code", "advice"),
    [
        (exceptions.NoCredentialsError(), "NoCredentials", "instance profile, a task role or a pod role"),
        (exceptions.CredentialRetrievalError(provider="x", error_msg="y"), "NoCredentials", "instance profile"),
        (exceptions.UnauthorizedSSOTokenError(), "NoCredentials", "aws sso login"),
        (exceptions.TokenRetrievalError(provider="sso", error_msg="y"), "NoCredentials", "aws sso login"),
        (exceptions.ProfileNotFound(profile="p"), "Misconfigured", "profile_name"),
        (exceptions.ReadTimeoutError(endpoint_url="https://x"), "TimedOut", "VPC endpoint, proxy, security groups"),
        (exceptions.EndpointConnectionError(endpoint_url="https://x"), "Unreachable", "DNS"),
        (exceptions.PaginationError(message="The same next token"), "EndlessPaging", "repeats answers"),
        (
            exceptions.MissingDependencyException(msg='pip install "botocore[crt]"'),
            "Misconfigured",
            "Install that beside",
        ),
        (ResponseParserError("<html>a-password</html>"), "UnreadableResponse", "captive portal"),
        (KeyError("dbPassword"), "UnreadableResponse", "captive portal"),
    ],
)
def test_errors_without_an_answer_of_aws(raised: Exception, code: str, advice: str) -> None:
    error = translated(raised)
    assert error.code == code
    assert advice in error.advice
    assert error.host_only
    assert "password" not in str(error).lower()


@pytest.mark.parametrize(
    "code",
    [
        "AccessDenied",
        "AccessDeniedException",
        "AccessDeniedFault",
        "AuthorizationErrorException",
        "NotAuthorized",
        "UnauthorizedOperation",
    ],
)
def test_a_denied_call_is_denied_whichever_code_a_service_has_for_it(code: str) -> None:
    error = translated(client_error(code, "not authorized"))
    assert error.is_denied
    assert error.advice == f"Grant {ACTION} on {RESOURCE} to {ME}."
    assert translated(client_error(code, "not authorized", "AssumeRole")).is_denied
    assert not translated(client_error("ThrottlingException")).is_denied
    assert not translated(exceptions.NoCredentialsError()).is_denied


@pytest.mark.parametrize(
    "why",
    [
        "because no VPC endpoint policy allows the redshift:GetClusterCredentials action",
        "with an explicit deny in a VPC endpoint policy: arn:aws:ec2:eu-west-1:123456789012:vpc-endpoint/vpce-1",
    ],
)
@pytest.mark.parametrize("operation", ["GetClusterCredentials", "AssumeRole"])
def test_what_the_endpoint_of_this_hosts_network_denies_says_nothing_of_other_hosts(why: str, operation: str) -> None:
    error = translated(client_error("AccessDenied", f"User: {ME} is not authorized to perform it {why}", operation))
    assert error.host_only
    assert error.is_denied
    assert "in the policy of the VPC endpoint that the requests of this host go through" in error.advice
    assert not translated(client_error("AccessDenied", "no identity-based policy allows it", operation)).host_only


def test_an_older_botocore_that_knows_no_aws_login_has_its_errors_told_too() -> None:
    script = (
        "from botocore import exceptions; vars(exceptions).pop('LoginError', None); from redshift_secrets.aws import credential_errors as"
        " found; print([each.__name__ for each in found._LOG_IN_AGAIN])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "['SSOError', 'TokenRetrievalError']", done.stderr
