"""Every error that botocore's models name for the calls made here has advice of its own."""

from __future__ import annotations

import boto3
import pytest

from redshift_secrets.aws.advice import advice_on
from redshift_secrets.aws.minting import WAYS
from redshift_secrets.errors import AwsError

CALLS = {
    "redshift": [
        "CreateTags", "DeleteTags", "DescribeClusters", "DescribeEndpointAccess", "GetClusterCredentials", "GetClusterCredentialsWithIAM",
    ],
    "redshift-serverless": [
        "ListWorkgroups", "GetWorkgroup", "ListNamespaces", "ListEndpointAccess", "ListTagsForResource", "GetCredentials",
        "TagResource", "UntagResource",
    ],
    "resourcegroupstaggingapi": ["GetResources"],
    "secretsmanager": ["DescribeSecret", "GetSecretValue", "ListSecrets"],
    "ssm": ["GetParameter", "GetParametersByPath"],
    "sts": ["AssumeRole", "AssumeRoleWithWebIdentity", "GetCallerIdentity"],
}  # fmt: skip
# https://docs.aws.amazon.com/redshift/latest/APIReference/CommonErrors.html
COMMON = (
    "AccessDeniedException", "ExpiredTokenException", "IncompleteSignature", "InternalFailure", "InvalidAction",
    "InvalidClientTokenId", "MissingAuthenticationToken", "MalformedQueryString", "MissingParameter", "NotAuthorized",
    "OptInRequired", "RequestExpired", "ServiceUnavailable", "ThrottlingException", "UnrecognizedClientException",
    "UnknownOperationException", "ValidationError",
)  # fmt: skip
UNKNOWN = "Look up the error code"


def errors() -> list[tuple[str, str]]:
    session = boto3.session.Session()._session
    found = []
    for service, operations in CALLS.items():
        model = session.get_service_model(service)
        for operation in operations:
            codes = {
                code
                for shape in model.operation_model(operation).error_shapes
                for code in (shape.name, shape.error_code)
            }
            names = codes | set(COMMON)
            prefix = "tag" if service == "resourcegroupstaggingapi" else service
            found += [(f"{prefix}:{operation}", code) for code in sorted(names)]
    return found


@pytest.mark.parametrize(("operation", "code"), errors())
def test_has_advice(operation: str, code: str) -> None:
    advice = advice_on(code, operation, "arn:x", "arn:me", "what AWS says")
    assert UNKNOWN not in advice
    assert advice.endswith(".")


def test_an_error_that_nobody_knows_has_none() -> None:
    assert UNKNOWN in advice_on("SomethingOfNextYear", "sts:AssumeRole", "arn:x", "arn:me", "")


def test_the_calls_that_mint_are_among_them() -> None:
    assert {action.partition(":")[2] for action, _ in WAYS.values()} <= {
        name for names in CALLS.values() for name in names
    }


@pytest.mark.parametrize(
    ("why", "where"),
    [
        ("because no permissions boundary allows the", "in the permissions boundary of arn:me"),
        ("because no service control policy allows the", "in the service control policies of the organization"),
        ("because no resource control policy allows the", "in the resource control policies of the organization"),
        ("because no session policy allows the", "in the session policy of arn:me"),
    ],
)
@pytest.mark.parametrize("action", ["redshift:DescribeClusters", "sts:AssumeRole"])
def test_what_a_grant_to_the_caller_does_not_help_against(action: str, why: str, where: str) -> None:
    message = f"User: arn:me is not authorized to perform: {action} on resource: arn:x {why} {action} action"
    assert advice_on("AccessDenied", action, "arn:x", "arn:me", message).startswith(f"Allow {action} on arn:x {where}")
    denied = f"not authorized to perform: {action} with an explicit deny in a service control policy"
    assert "in the service control policies" not in advice_on("AccessDenied", action, "arn:x", "arn:me", denied)


@pytest.mark.parametrize("action", ["redshift:JoinGroup", "redshift:CreateClusterUser", "kms:Decrypt"])
def test_the_permission_that_aws_names_is_the_one_to_grant(action: str) -> None:
    message = f"User: arn:me is not authorized to perform: {action} on resource: arn:y because no identity-based policy allows it"
    advice = advice_on("AccessDenied", "redshift:GetClusterCredentials", "arn:x", "arn:me", message)
    assert advice == f"Grant {action} on arn:y to arn:me."
    message = f"User: arn:me is not authorized to perform: {action}"
    assert advice_on("AccessDenied", "redshift:GetClusterCredentials", "arn:x", "arn:me", message) == (
        f"Grant {action} on arn:x to arn:me."
    )


@pytest.mark.parametrize("code", ["ForbiddenException", "ResourceNotFoundException", "InvalidRequestException"])
def test_what_a_login_may_not_says_nothing_of_warehouses_and_secrets(code: str) -> None:
    advice = advice_on(code, "sso:GetRoleCredentials", "the credentials of me", "arn:me", "No access")
    assert advice.startswith("Check sso_account_id and sso_role_name of the profile")
    error = AwsError("sso:GetRoleCredentials", "the credentials of me", "arn:me", code, "No access.", advice)
    assert not error.is_gone
    assert "throttling" in advice_on("TooManyRequestsException", "sso:GetRoleCredentials", "x", "arn:me", "x")


def test_what_sts_does_not_take_of_a_web_identity_is_in_the_profile_or_the_environment() -> None:
    advice = advice_on("ValidationError", "sts:AssumeRoleWithWebIdentity", "x", "arn:me", "Request ARN is invalid")
    assert advice.startswith("Check AWS_ROLE_ARN and AWS_ROLE_SESSION_NAME")


def test_a_secret_whose_key_is_denied() -> None:
    for code, message in (("AccessDeniedException", "Access to KMS is not allowed"), ("DecryptionFailure", "x")):
        advice = advice_on(code, "secretsmanager:GetSecretValue", "arn:x", "arn:me", message)
        assert advice.startswith("Allow the caller kms:Decrypt on the KMS key of this secret")


@pytest.mark.parametrize("code", ["InvalidParameterValue", "ValidationError", "InvalidParameterCombination"])
def test_a_database_user_in_capitals_is_told(code: str) -> None:
    resource = "arn:aws:redshift:eu-west-1:1:dbuser:prod/{} and arn:aws:redshift:eu-west-1:1:dbname:prod/DEV"
    action = "redshift:GetClusterCredentials"
    advice = advice_on(code, action, resource.format("ETL"), "arn:me", "invalid")
    assert advice == "Write the database user in lower case: GetClusterCredentials takes no capitals, which 'ETL' has."
    assert "Check the database user, groups and database" in advice_on(
        code, action, resource.format("etl"), "arn:me", "x"
    )
