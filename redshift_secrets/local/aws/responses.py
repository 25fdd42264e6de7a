"""Build HTTP responses from plain dicts: checked against botocore's model, serialized by moto."""

from __future__ import annotations

import uuid

from moto.core.errors import get_error_model
from moto.core.model import OperationModel
from moto.core.serialize import ResponseDict, SerializationContext, get_serializer_class
from werkzeug.wrappers import Response

from redshift_secrets.local.aws.errors import AwsError, InvalidResponseError
from redshift_secrets.local.aws.models import COMMON_ERRORS
from redshift_secrets.local.aws.validation import violations


def build_response(operation: OperationModel, protocol: str, result: dict[str, object]) -> Response:
    """Return the response that carries `result`.

    Raises `InvalidResponseError`, naming the operation and the member, for a result that AWS could not return.
    """
    shape = operation.output_shape
    if shape is None and result:
        raise InvalidResponseError(
            f"{operation.name} has no output, but the stand-in returned {', '.join(sorted(result))}"
        )
    found = list(violations(result, shape, operation.name)) if shape is not None else []
    if found:
        raise InvalidResponseError(f"Invalid response of {operation.service_model.service_name}: {'; '.join(found)}")
    return _serialize(operation, protocol, result)


def build_error_response(operation: OperationModel, protocol: str, error: AwsError) -> Response:
    """Return the response for an error; raises `InvalidResponseError` if the operation has no such error."""
    known = {shape.error_code for shape in operation.error_shapes} | set(COMMON_ERRORS)
    if error.code not in known:
        raise InvalidResponseError(f"{operation.name} has no error {error.code}; it has {', '.join(sorted(known))}")
    shape = get_error_model(error, operation.service_model)
    message = next((name for name in shape.members if name.lower() == "message"), None)
    members: dict[str, object] = {**error.members, **({message: error.message} if message else {})}
    found = list(violations(members, shape, f"{operation.name}: {error.code}"))
    if found:
        raise InvalidResponseError(f"Invalid error of {operation.service_model.service_name}: {'; '.join(found)}")
    return _serialize(operation, protocol, error)


def _serialize(operation: OperationModel, protocol: str, result: object) -> Response:
    request_id = str(uuid.uuid4())
    serializer = get_serializer_class(operation.service_model.service_name, protocol)
    serialized: ResponseDict = serializer(operation, SerializationContext(request_id)).serialize(result)
    headers = {**serialized["headers"], "x-amzn-RequestId": request_id}
    if protocol == "json":
        # moto uses the service's first protocol here, which is not always the protocol of the request.
        headers["Content-Type"] = f"application/x-amz-json-{operation.service_model.metadata['jsonVersion']}"
    return Response(serialized["body"], status=serialized["status_code"], headers=headers)
