"""The effect of a fault on a request."""

from __future__ import annotations

import select
import socket
import threading
from datetime import datetime, timedelta
from typing import Any

from werkzeug.wrappers import Response

from redshift_secrets.local.aws.errors import AwsError, access_denied
from redshift_secrets.local.aws.faults import Fault
from redshift_secrets.local.aws.identity import EXPIRED_TOKEN, Caller
from redshift_secrets.local.aws.requests import AwsRequest

_BASIC_ISO = "%Y%m%dT%H%M%SZ"
_POLL_SECONDS = 0.05
_JSON = ("json", "rest-json")


def hold(fault: Fault, released: threading.Event, client: socket.socket) -> None:
    """Hold a request: for `seconds` if the fault is a `delay`, else until it is released or the client disconnects.

    Raises `ConnectionAbortedError` when the client of a `black_hole` disconnects.
    """
    if fault.kind == "delay":
        released.wait(fault.seconds)
        return
    while not released.wait(_POLL_SECONDS):
        if _has_disconnected(client):
            raise ConnectionAbortedError("the client disconnected")


def fault_error(fault: Fault, aws_request: AwsRequest, caller: Caller, params: dict[str, Any]) -> AwsError:
    """Return the error that AWS sends this caller for a fault of this kind."""
    is_json = aws_request.protocol in _JSON
    if fault.kind == "throttle":
        return AwsError("ThrottlingException" if is_json else "Throttling", "Rate exceeded")
    if fault.kind == "server_error":
        return AwsError("InternalFailure", "The request processing has failed because of an unknown error.")
    if fault.kind == "expired_token":
        return AwsError("ExpiredTokenException" if is_json else "ExpiredToken", EXPIRED_TOKEN)
    if fault.kind == "clock_skew":
        return AwsError(
            "InvalidSignatureException" if is_json else "SignatureDoesNotMatch", _expired_signature_message(aws_request)
        )
    action = aws_request.name.replace("resourcegroupstaggingapi:", "tag:")
    resource = _resource(aws_request.name, caller, aws_request.region, params)
    because = f"because no identity-based policy allows the {action} action"
    return access_denied(aws_request.protocol, caller.arn, action, resource, because)


def nonsense(fault: Fault, response: Response) -> Response:
    """Return what comes instead of a response, with status 200."""
    if fault.kind == "html":
        return Response(
            "<!doctype html><html><body>Please log in to this network<br></body></html>", mimetype="text/html"
        )
    body, declared = response.get_data(), str(response.headers.get("Content-Type"))
    if fault.kind == "truncated":
        return Response(body[: len(body) // 2], content_type=declared)
    if fault.kind == "other":
        return Response(
            "<Other><Thing>1</Thing></Other>" if "xml" in declared else '{"thing": 1}', content_type=declared
        )
    return Response("", content_type=declared)


def _expired_signature_message(aws_request: AwsRequest) -> str:
    # AWS accepts a signature for five minutes. Pretend that the caller's clock is ten minutes behind.
    signed = aws_request.http_request.headers.get("X-Amz-Date", "")
    now = datetime.strptime(signed, _BASIC_ISO) + timedelta(minutes=10)
    earliest = (now - timedelta(minutes=5)).strftime(_BASIC_ISO)
    return f"Signature expired: {signed} is now earlier than {earliest} ({now.strftime(_BASIC_ISO)} - 5 min.)"


def _resource(name: str, caller: Caller, region: str, params: dict[str, Any]) -> str:
    # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonredshift.html
    service = name.split(":")[0]
    prefix = f"arn:aws:{service}:{region}:{caller.account}"
    if service == "redshift":
        cluster = params.get("ClusterIdentifier", "*")
        if name == "redshift:GetClusterCredentials":
            return f"{prefix}:dbuser:{cluster}/{params.get('DbUser', '*')}"
        if name == "redshift:GetClusterCredentialsWithIAM":
            return f"{prefix}:dbname:{cluster}/{params.get('DbName', '*')}"
        return str(params.get("ResourceName", f"{prefix}:cluster:{cluster}"))
    if service == "redshift-serverless":
        return str(params.get("resourceArn", f"{prefix}:workgroup/*"))
    return str(params.get("SecretId") or params.get("RoleArn") or "*")


def _has_disconnected(client: socket.socket) -> bool:
    readable, _, _ = select.select([client], [], [], 0)
    if not readable:
        return False
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True
