"""What botocore raises, in words: the advice fits the code, and the call that failed is the one that is named."""

from __future__ import annotations

import pytest
from botocore import exceptions

from redshift_secrets.aws.errors import translate_errors
from redshift_secrets.errors import AwsError

RESOURCE = "arn:aws:redshift:eu-west-1:123456789012:dbuser:prod/etl"
ME = "arn:aws:sts::123456789012:assumed-role/airflow/i-1"
ACTION = "redshift:GetClusterCredentials"


def told(error: Exception) -> AwsError:
    with pytest.raises(AwsError) as caught, translate_errors(ACTION, RESOURCE, ME):
        raise error
    return caught.value


def answer(
    code: str, message: str = "Said by AWS.", operation: str = "GetClusterCredentials"
) -> exceptions.ClientError:
    return exceptions.ClientError({"Error": {"Code": code, "Message": message}}, operation)


@pytest.mark.parametrize(
    ("code", "message", "advice"),
    [
        ("AccessDenied", "no identity-based policy allows it", f"Grant {ACTION} on {RESOURCE} to {ME}."),
        ("AccessDenied", "with an explicit deny in a service control policy", f"A policy denies {ACTION} on {RESOURCE}"),
        ("Throttling", "Rate exceeded", "asked again after a pause"),
        ("ClusterNotFound", "Cluster prod not found.", "deleted or renamed since it was listed"),
        ("ExpiredToken", "The security token included in the request is expired", "have expired: renew them"),
        ("ExpiredTokenException", "The security token included in the request is expired", "have expired: renew them"),
        ("SignatureDoesNotMatch", "Signature expired: 1 is now earlier than 2 (3 - 5 min.)", "The clock of this machine"),
        ("InvalidSignatureException", "Signature not yet current: 3 is still later than 2", "The clock of this machine"),
        ("RequestExpired", "Request has expired.", "The clock of this machine"),
        ("SignatureDoesNotMatch", "The request signature we calculated does not match", "does not belong to its key id"),
        ("InvalidClientTokenId", "The security token included in the request is invalid.", "check them, and that the region"),
        ("InternalFailure", "An unknown error.", "trouble of its own"),
        ("Odd", "Nobody knows.", "Look the code up"),
    ],
)  # fmt: skip
def test_the_advice_fits_what_aws_said(code: str, message: str, advice: str) -> None:
    error = told(answer(code, message))
    assert (error.code, error.operation, error.resource, error.identity) == (code, ACTION, RESOURCE, ME)
    assert error.reason == f"{message.rstrip('.')}."
    assert advice in error.advice


@pytest.mark.parametrize(
    ("operation", "advice"),
    [("AssumeRole", "trust policy of the role and in the policy of the caller"), ("AssumeRoleWithWebIdentity", "OIDC")],
)
def test_a_role_that_cannot_be_assumed_on_the_way_is_what_failed(operation: str, advice: str) -> None:
    error = told(answer("AccessDenied", "not authorized", operation))
    assert error.operation == f"sts:{operation}"
    assert error.resource.startswith(ME)
    assert advice in error.advice


@pytest.mark.parametrize(
    ("raised", "code", "advice"),
    [
        (exceptions.NoCredentialsError(), "NoCredentials", "instance profile, a task or pod role"),
        (exceptions.CredentialRetrievalError(provider="x", error_msg="y"), "NoCredentials", "instance profile"),
        (exceptions.UnauthorizedSSOTokenError(), "NoCredentials", "aws sso login"),
        (exceptions.TokenRetrievalError(provider="sso", error_msg="y"), "NoCredentials", "aws sso login"),
        (exceptions.ProfileNotFound(profile="p"), "Misconfigured", "profile_name"),
        (exceptions.ReadTimeoutError(endpoint_url="https://x"), "TimedOut", "security groups and VPC endpoints"),
        (exceptions.EndpointConnectionError(endpoint_url="https://x"), "Unreachable", "DNS"),
    ],
)
def test_what_never_reached_aws(raised: Exception, code: str, advice: str) -> None:
    error = told(raised)
    assert error.code == code
    assert advice in error.advice
