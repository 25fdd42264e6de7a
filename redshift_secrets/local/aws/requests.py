"""Parse HTTP requests into calls of operations. Signatures are read, but not verified."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from moto.core.model import OperationModel
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request, determine_request_protocol
from werkzeug.exceptions import ClientDisconnected, NotFound

from redshift_secrets.local.aws.errors import AwsError, NotSimulatedError
from redshift_secrets.local.aws.identity import Caller
from redshift_secrets.local.aws.models import router, service_for_signing_name, service_model
from redshift_secrets.local.aws.validation import violations

_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/\d{8}/([^/,\s]+)/([^/,\s]+)/aws4_request")


@dataclass(frozen=True)
class AwsRequest:
    """A request with its signing key, service, region and operation; its parameters are not parsed yet."""

    http_request: Request = field(repr=False)
    service: str
    region: str
    key_id: str
    session_token: str | None = field(repr=False)
    protocol: str
    operation: OperationModel
    uri_parameters: dict[str, Any]

    @property
    def name(self) -> str:
        """`redshift:DescribeClusters`: the boto3 name of the service and the AWS name of the operation."""
        return f"{self.service}:{self.operation.name}"


@dataclass(frozen=True)
class Call:
    """One call of an operation simulated here: all that its response depends on."""

    caller: Caller
    region: str
    params: dict[str, Any]

    @property
    def scope(self) -> tuple[str, str]:
        """Account and region: the caller sees the warehouses of these."""
        return self.caller.account, self.region


def buffer_body(environ: dict[str, Any]) -> Request:
    """Return the request with its body read, and buffered so that moto can read it again."""
    try:
        body = Request(environ).get_data()
    except ClientDisconnected:
        # werkzeug's server ignores a dropped connection, but logs a traceback for an HTTP error.
        raise ConnectionResetError("the client disconnected") from None
    environ["wsgi.input"] = BytesIO(body)
    request = Request(environ)
    # Parses a form and keeps any other body as is; afterwards only moto reads the stream.
    request.get_data(parse_form_data=True)
    environ["wsgi.input"] = BytesIO(body)
    return request


def identify_request(request: Request) -> AwsRequest:
    """Identify the service, region, key and operation of a request; raises `NotSimulatedError` if there are none."""
    credential = _CREDENTIAL.match(request.headers.get("Authorization", ""))
    if credential is None:
        raise NotSimulatedError(
            f"The simulated AWS accepts only requests signed with AWS4-HMAC-SHA256, not: {_summary(request)}"
        )
    key_id, region, signing_name = credential.groups()
    service = service_for_signing_name(signing_name)
    model = service_model(service)
    try:
        protocol = determine_request_protocol(model, request.content_type)
        operation, uri_parameters = router(service).match(request)
    except (NotFound, NotImplementedError) as error:
        raise NotSimulatedError(f"The simulated AWS finds no operation of {service} in: {_summary(request)}") from error
    return AwsRequest(
        http_request=request,
        service=service,
        region=region,
        key_id=key_id,
        session_token=request.headers.get("X-Amz-Security-Token"),
        protocol=protocol,
        operation=operation,
        uri_parameters=uri_parameters,
    )


def parse_parameters(aws_request: AwsRequest) -> dict[str, Any]:
    """Return the parameters of a request; raises the service's validation error if they violate its model."""
    code = "ValidationError" if aws_request.protocol in ("query", "ec2") else "ValidationException"
    request = aws_request.http_request
    try:
        params = PROTOCOL_PARSERS[aws_request.protocol](aws_request.operation).parse(
            {
                "method": request.method,
                "values": request.values,
                "headers": request.headers,
                "body": request.data,
                "url_path": request.path,
                "url_params": aws_request.uri_parameters,
            }
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise AwsError(code, f"The request for {aws_request.name} is malformed") from error
    shape = aws_request.operation.input_shape
    if shape is not None:
        found = list(violations(params, shape, aws_request.operation.name))
        if found:
            raise AwsError(code, f"{len(found)} validation error(s) detected: {'; '.join(found)}")
    return dict(params)


def _summary(request: Request) -> str:
    return request.headers.get("X-Amz-Target") or request.values.get("Action") or f"{request.method} {request.path}"
