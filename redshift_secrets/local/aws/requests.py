"""From an HTTP request to a call of an operation. Signatures are not checked, what they say is used."""

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
from redshift_secrets.local.aws.models import router, service_model, service_of_signing_name
from redshift_secrets.local.aws.validation import violations

_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/\d{8}/([^/,\s]+)/([^/,\s]+)/aws4_request")


@dataclass(frozen=True)
class Envelope:
    """What the outside of a request tells: who signed it, where it goes, which operation it is."""

    request: Request = field(repr=False)
    service: str
    region: str
    key_id: str
    session_token: str | None = field(repr=False)
    protocol: str
    operation: OperationModel
    uri_parameters: dict[str, Any]

    @property
    def name(self) -> str:
        """`redshift:DescribeClusters`: boto3's name of the service, AWS's name of the operation."""
        return f"{self.service}:{self.operation.name}"


@dataclass(frozen=True)
class Call:
    """One call of an operation of ours, with everything that decides its answer."""

    service: str
    operation: str
    caller: Caller
    region: str
    params: dict[str, Any]

    @property
    def scope(self) -> tuple[str, str]:
        """Account and region: what the caller can see."""
        return self.caller.account, self.region


def rewindable(environ: dict[str, Any]) -> Request:
    """Read the body once and for all, so that moto can read it again."""
    try:
        body = Request(environ).get_data()
    except ClientDisconnected:
        # For werkzeug's server this is a dropped connection, as which it is no news; an HTTP error would be a traceback.
        raise ConnectionResetError("the client hung up") from None
    environ["wsgi.input"] = BytesIO(body)
    request = Request(environ)
    # A form is parsed, anything else kept as it came; after that the stream is nobody's business but moto's.
    request.get_data(parse_form_data=True)
    environ["wsgi.input"] = BytesIO(body)
    return request


def open_envelope(request: Request) -> Envelope:
    """Find out what a request is; raises `NotSimulatedError` when that is nothing we can answer."""
    credential = _CREDENTIAL.match(request.headers.get("Authorization", ""))
    if credential is None:
        what = request.headers.get("X-Amz-Target") or request.values.get("Action") or f"{request.method} {request.path}"
        raise NotSimulatedError(f"The simulated AWS answers requests signed with AWS4-HMAC-SHA256 only, not: {what}")
    key_id, region, signing_name = credential.groups()
    service = service_of_signing_name(signing_name)
    model = service_model(service)
    try:
        protocol = determine_request_protocol(model, request.content_type)
        operation, uri_parameters = router(service).match(request)
    except (NotFound, NotImplementedError) as error:
        what = request.headers.get("X-Amz-Target") or request.values.get("Action") or f"{request.method} {request.path}"
        raise NotSimulatedError(f"The simulated AWS finds no operation of {service} in: {what}") from error
    return Envelope(
        request=request,
        service=service,
        region=region,
        key_id=key_id,
        session_token=request.headers.get("X-Amz-Security-Token"),
        protocol=protocol,
        operation=operation,
        uri_parameters=uri_parameters,
    )


def parse(envelope: Envelope) -> dict[str, Any]:
    """The parameters of a request; raises the service's validation error for what its model forbids."""
    code = validation_code(envelope.protocol)
    request = envelope.request
    try:
        params = PROTOCOL_PARSERS[envelope.protocol](envelope.operation).parse(
            {
                "method": request.method,
                "values": request.values,
                "headers": request.headers,
                "body": request.data,
                "url_path": request.path,
                "url_params": envelope.uri_parameters,
            }
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise AwsError(code, f"The request for {envelope.name} is malformed") from error
    shape = envelope.operation.input_shape
    if shape is not None:
        found = list(violations(params, shape, envelope.operation.name))
        if found:
            raise AwsError(code, f"{len(found)} validation error(s) detected: {'; '.join(found)}")
    return dict(params)


def validation_code(protocol: str) -> str:
    """The error code for malformed input."""
    return "ValidationError" if protocol in ("query", "ec2") else "ValidationException"
