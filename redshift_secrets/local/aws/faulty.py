"""What a fault does to a request."""

from __future__ import annotations

import select
import socket
import threading
from datetime import datetime, timedelta
from typing import Any

from redshift_secrets.local.aws.errors import AwsError
from redshift_secrets.local.aws.faults import Fault
from redshift_secrets.local.aws.identity import Caller
from redshift_secrets.local.aws.requests import Envelope

EXPIRED = "The security token included in the request is expired"
_BASIC_ISO = "%Y%m%dT%H%M%SZ"
_LOOK_EVERY = 0.05
_JSON = ("json", "rest-json")


def hold(fault: Fault, released: threading.Event, client: socket.socket) -> None:
    """Keep a request waiting: `delay` for its seconds, `black_hole` until released or the client is gone."""
    if fault.kind == "delay":
        released.wait(fault.seconds)
        return
    while not released.wait(_LOOK_EVERY):
        if _gone(client):
            raise ConnectionAbortedError("the client is gone")


def fault_error(fault: Fault, envelope: Envelope, caller: Caller, params: dict[str, Any]) -> AwsError:
    """The error that AWS gives this caller for a fault of this kind."""
    json = envelope.protocol in _JSON
    if fault.kind == "throttle":
        return AwsError("ThrottlingException" if json else "Throttling", "Rate exceeded")
    if fault.kind == "server_error":
        return AwsError("InternalFailure", "The request processing has failed because of an unknown error.")
    if fault.kind == "expired_token":
        return AwsError("ExpiredTokenException" if json else "ExpiredToken", EXPIRED)
    if fault.kind == "clock_skew":
        return AwsError("InvalidSignatureException" if json else "SignatureDoesNotMatch", _signed_too_early(envelope))
    action = envelope.name.replace("resourcegroupstaggingapi:", "tag:")
    resource = _resource(envelope.name, caller, envelope.region, params)
    message = (
        f"User: {caller.arn} is not authorized to perform: {action} on resource: {resource} "
        f"because no identity-based policy allows the {action} action"
    )
    return AwsError("AccessDeniedException" if json else "AccessDenied", message)


def _signed_too_early(envelope: Envelope) -> str:
    # AWS takes a signature for five minutes. The clock of the caller is made out to be ten minutes behind.
    signed = envelope.request.headers.get("X-Amz-Date", "")
    now = datetime.strptime(signed, _BASIC_ISO) + timedelta(minutes=10)
    earliest = (now - timedelta(minutes=5)).strftime(_BASIC_ISO)
    return f"Signature expired: {signed} is now earlier than {earliest} ({now.strftime(_BASIC_ISO)} - 5 min.)"


def _resource(name: str, caller: Caller, region: str, params: dict[str, Any]) -> str:
    # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonredshift.html
    service = name.split(":")[0]
    where = f"arn:aws:{service}:{region}:{caller.account}"
    if service == "redshift":
        cluster = params.get("ClusterIdentifier", "*")
        if name == "redshift:GetClusterCredentials":
            return f"{where}:dbuser:{cluster}/{params.get('DbUser', '*')}"
        if name == "redshift:GetClusterCredentialsWithIAM":
            return f"{where}:dbname:{cluster}/{params.get('DbName', '*')}"
        return str(params.get("ResourceName", f"{where}:cluster:{cluster}"))
    if service == "redshift-serverless":
        return str(params.get("resourceArn", f"{where}:workgroup/*"))
    return str(params.get("SecretId") or params.get("RoleArn") or "*")


def _gone(client: socket.socket) -> bool:
    readable, _, _ = select.select([client], [], [], 0)
    if not readable:
        return False
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True
