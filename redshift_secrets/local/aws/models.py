"""botocore's service models, with the errors that every AWS service knows besides."""

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
    # Both.
    "InternalFailure": 500,
    # Ours: what is missing here must not look like anything AWS says. 501 is not retried by botocore.
    "NotSimulated": 501,
}
"""Error code to HTTP status."""

_SERVICE_OF_SIGNING_NAME = {
    "tagging": "resourcegroupstaggingapi",
    "monitoring": "cloudwatch",
    "states": "stepfunctions",
    "email": "ses",
    "elasticmapreduce": "emr",
}


def service_of_signing_name(signing_name: str) -> str:
    """boto3's name of the service that signs its requests as `signing_name`."""
    return _SERVICE_OF_SIGNING_NAME.get(signing_name, signing_name)


@functools.cache
def service_model(service: str) -> ServiceModel:
    """botocore's model of a service (boto3's name of it); raises `NotSimulatedError` for an unknown one."""
    try:
        # moto's own loader would mix its extensions in; answers are to be checked against botocore's words alone.
        description = Loader().load_service_model(service, "service-2")
    except UnknownServiceError as error:
        raise NotSimulatedError(f"The simulated AWS does not know a service {service!r}") from error
    # Services leave out of their models the errors that all have in common, with codes and statuses of their own.
    shapes = {code: _common_error(code, status) for code, status in COMMON_ERRORS.items()}
    return ServiceModel({**description, "shapes": {**shapes, **description["shapes"]}}, service)


@functools.cache
def router(service: str) -> ServiceOperationRouter:
    """What finds the operation of a request to this service."""
    return ServiceOperationRouter(service_model(service))


def _common_error(code: str, status: int) -> dict[str, object]:
    error = {"code": code, "httpStatusCode": status, "senderFault": status < 500}
    return {"type": "structure", "members": {}, "exception": True, "fault": status >= 500, "error": error}
