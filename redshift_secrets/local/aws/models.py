"""botocore's service models, completed with the errors common to all AWS services."""

from __future__ import annotations

import functools

from botocore.exceptions import UnknownServiceError
from botocore.loaders import Loader
from moto.core.model import ServiceModel
from moto.core.routing import ServiceOperationRouter

from redshift_secrets.local.aws.errors import NotSimulatedError

COMMON_ERRORS = {
    # https://docs.aws.amazon.com/redshift/latest/APIReference/CommonErrors.html (query services)
    "AccessDenied": 403,
    "ExpiredToken": 403,
    "InvalidClientTokenId": 403,
    "InvalidParameterCombination": 400,
    "InvalidParameterValue": 400,
    "MissingAuthenticationToken": 403,
    "SignatureDoesNotMatch": 403,
    "Throttling": 400,
    "ValidationError": 400,
    # https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/CommonErrors.html (JSON services)
    "AccessDeniedException": 400,
    "ExpiredTokenException": 400,
    "InvalidSignatureException": 400,
    "MissingAuthenticationTokenException": 400,
    "ThrottlingException": 400,
    "UnrecognizedClientException": 400,
    "ValidationException": 400,
    # Both:
    "InternalFailure": 500,
    # The stand-in's own, to be distinguishable from every error of AWS. botocore does not retry a 501.
    "NotSimulated": 501,
}
"""Error code to HTTP status."""

_SERVICES_BY_SIGNING_NAME = {
    "tagging": "resourcegroupstaggingapi",
    "monitoring": "cloudwatch",
    "states": "stepfunctions",
    "email": "ses",
    "elasticmapreduce": "emr",
}


def service_for_signing_name(signing_name: str) -> str:
    """Return the boto3 name of the service that signs its requests as `signing_name`."""
    return _SERVICES_BY_SIGNING_NAME.get(signing_name, signing_name)


@functools.cache
def service_model(service: str) -> ServiceModel:
    """Return botocore's model of a service, by its boto3 name; raises `NotSimulatedError` for an unknown one."""
    try:
        # Not moto's own loader, which adds extensions: responses are checked against botocore's models alone.
        description = Loader().load_service_model(service, "service-2")
    except UnknownServiceError as error:
        raise NotSimulatedError(f"The simulated AWS does not know the service {service!r}") from error
    # The services' models omit the common errors, which have their own codes and statuses.
    shapes = {code: _common_error(code, status) for code, status in COMMON_ERRORS.items()}
    return ServiceModel({**description, "shapes": {**shapes, **description["shapes"]}}, service)


@functools.cache
def router(service: str) -> ServiceOperationRouter:
    """Return the router that finds the operation of a request to this service."""
    return ServiceOperationRouter(service_model(service))


def _common_error(code: str, status: int) -> dict[str, object]:
    error = {"code": code, "httpStatusCode": status, "senderFault": status < 500}
    return {"type": "structure", "members": {}, "exception": True, "fault": status >= 500, "error": error}
