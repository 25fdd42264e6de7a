"""Every error that botocore's models name for the calls made here has advice of its own."""

from __future__ import annotations

import boto3
import pytest

from redshift_secrets.aws.advice import advice_on
from redshift_secrets.aws.minting import WAYS

CALLS = {
    "redshift": ["DescribeClusters", "DescribeEndpointAccess", "GetClusterCredentials", "GetClusterCredentialsWithIAM"],
    "redshift-serverless": [
        "ListWorkgroups", "GetWorkgroup", "ListNamespaces", "ListEndpointAccess", "ListTagsForResource", "GetCredentials",
    ],
    "resourcegroupstaggingapi": ["GetResources"],
    "secretsmanager": ["GetSecretValue"],
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


@pytest.mark.parametrize("code", ["InvalidParameterValue", "ValidationError", "InvalidParameterCombination"])
def test_a_database_user_in_capitals_is_told(code: str) -> None:
    resource = "arn:aws:redshift:eu-west-1:1:dbuser:prod/{} and arn:aws:redshift:eu-west-1:1:dbname:prod/DEV"
    action = "redshift:GetClusterCredentials"
    advice = advice_on(code, action, resource.format("ETL"), "arn:me", "invalid")
    assert advice == "Write the database user in lower case: GetClusterCredentials takes no capitals, which 'ETL' has."
    assert "Check the database user, groups and database" in advice_on(
        code, action, resource.format("etl"), "arn:me", "x"
    )
