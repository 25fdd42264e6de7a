"""From a plain dict to an HTTP response, checked against botocore's model and written by moto's serializers."""

from __future__ import annotations

import uuid

from moto.core.errors import get_error_model
from moto.core.model import OperationModel
from moto.core.serialize import ResponseDict, SerializationContext, get_serializer_class
from werkzeug.wrappers import Response

from redshift_secrets.local.aws.errors import AwsError, DriftError
from redshift_secrets.local.aws.models import COMMON_ERRORS
from redshift_secrets.local.aws.validation import violations


def answer(operation: OperationModel, protocol: str, result: dict[str, object]) -> Response:
    """The response that carries `result`; raises `DriftError` naming operation and member if AWS could not say it."""
    shape = operation.output_shape
    if shape is None and result:
        raise DriftError(f"{operation.name} has no output, the stand-in answers {', '.join(sorted(result))}")
    found = list(violations(result, shape, operation.name)) if shape is not None else []
    if found:
        raise DriftError(f"Not an answer of {operation.service_model.service_name}: {'; '.join(found)}")
    return _serialized(operation, protocol, result)


def error_answer(operation: OperationModel, protocol: str, error: AwsError) -> Response:
    """The response for an error; raises `DriftError` when the operation does not know this error."""
    known = {shape.error_code for shape in operation.error_shapes} | set(COMMON_ERRORS)
    if error.code not in known:
        raise DriftError(f"{operation.name} has no error {error.code}; it has {', '.join(sorted(known))}")
    shape = get_error_model(error, operation.service_model)
    message = next((name for name in shape.members if name.lower() == "message"), None)
    members: dict[str, object] = {**error.members, **({message: error.message} if message else {})}
    found = list(violations(members, shape, f"{operation.name}: {error.code}"))
    if found:
        raise DriftError(f"Not an error of {operation.service_model.service_name}: {'; '.join(found)}")
    return _serialized(operation, protocol, error)


def _serialized(operation: OperationModel, protocol: str, result: object) -> Response:
    request_id = str(uuid.uuid4())
    serializer = get_serializer_class(operation.service_model.service_name, protocol)
    written: ResponseDict = serializer(operation, SerializationContext(request_id)).serialize(result)
    headers = {**written["headers"], "x-amzn-RequestId": request_id}
    if protocol == "json":
        # moto looks at the service's first protocol here, which is not always the one of the request.
        headers["Content-Type"] = f"application/x-amz-json-{operation.service_model.metadata['jsonVersion']}"
    return Response(written["body"], status=written["status_code"], headers=headers)
