"""Translate botocore's exceptions to `AwsError`: what happened, on which resource, as which identity, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore import exceptions
from botocore.parsers import ResponseParserError

from redshift_secrets.aws.log_redaction import suppress_payload_logs
from redshift_secrets.errors import DENIED, GONE, AwsError, one_line

_THROTTLED = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException"})
_CLOCK_SKEW = frozenset({"RequestExpired", "RequestTimeTooSkewed", "RequestInTheFuture"})
_BAD_SIGNATURE = frozenset({"SignatureDoesNotMatch", "InvalidSignatureException"})
_UNKNOWN_KEY = frozenset({"InvalidClientTokenId", "UnrecognizedClientException", "InvalidIdentityToken"})
_HOST_ONLY = _EXPIRED | _CLOCK_SKEW | _BAD_SIGNATURE | _UNKNOWN_KEY
"""What is wrong with the clock or the credentials of this host: another one of the same role may be well."""
_INTERNAL = frozenset(
    {"InternalFailure", "InternalServerException", "ServiceUnavailable", "ServiceUnavailableException"}
)

NOT_REACHED = frozenset({"TimedOut", "Unreachable"})
"""The codes of this package for an endpoint that does not answer."""

_LONGEST_REASON = 300
_QUOTES_REQUEST = re.compile(
    "canonical string|string-to-sign|authorization header|security-?token|credential=|signature=", re.IGNORECASE
)
"""In texts in which AWS repeats the request, with the session token in it."""
_NOT_SHOWN = "what AWS says is not shown, since it may quote the request."
_WRONG_TIME = ("Signature expired", "Signature not yet")
"""What a bad signature is explained with where it is not the request."""

_FIX_CLOCK = "This host's clock is out of sync with AWS. Synchronize it with NTP or the Amazon Time Sync Service."
_ASSUME_ROLE_OPERATIONS = frozenset({"AssumeRole", "AssumeRoleWithWebIdentity", "AssumeRoleWithSAML"})
"""Operations that botocore calls to obtain credentials for the operation that was requested."""


def _advice(code: str, operation: str, resource: str, identity: str, message: str) -> str:
    if code in DENIED and operation == "sts:AssumeRoleWithWebIdentity":
        return "The role's trust policy must name the OIDC provider of this Kubernetes cluster and the service account of this pod."
    if code in DENIED and "sts:TagSession" in message:
        return "Allow sts:TagSession with these tags, beside sts:AssumeRole, in the role's trust policy and in the caller's policy."
    if code == "PackedPolicyTooLarge":
        return "Name fewer or shorter groups or database roles: AWS packs session tags and session policies into a small space."
    if code in DENIED and operation.startswith("sts:AssumeRole"):
        return "Allow it in the role's trust policy and in the caller's policy, and check external_id."
    if code in DENIED and "explicit deny" in message:
        return f"A policy explicitly denies {operation} on {resource} to {identity}; remove that statement, no grant overrides it."
    if code in DENIED:
        return f"Grant {operation} on {resource} to {identity}."
    if code in _THROTTLED:
        return "AWS is throttling this account; the request will be retried after a backoff."
    if code in GONE:
        return "It was deleted or renamed after the last listing; the next listing corrects this."
    if code in _EXPIRED:
        return "The AWS credentials of this process have expired; renew them, or use a role whose credentials refresh themselves."
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html
    if code in _CLOCK_SKEW or (code in _BAD_SIGNATURE and message.startswith(_WRONG_TIME)):
        return _FIX_CLOCK
    if code in _BAD_SIGNATURE:
        return "The secret access key of this process does not match the access key ID; configure both again."
    if code in _UNKNOWN_KEY:
        return "AWS does not recognize the credentials of this process; check them, and that the region is enabled for the account."
    if code in _INTERNAL:
        return "AWS returned an internal error; the request will be retried after a backoff."
    return "Look up the error code in the AWS API reference of this operation."


@contextmanager
def translate_errors(operation: str, resource: str, identity: str) -> Iterator[None]:
    """Raise botocore's exceptions, and the `KeyError` of a response that lacks something, as `AwsError`; keep responses out of
    the logs."""

    def error(code: str, reason: str, advice: str, host_only: bool = True, request_id: str | None = None) -> AwsError:
        return AwsError(operation, resource, identity, code, reason, advice, host_only, request_id)

    try:
        with suppress_payload_logs():
            yield
    except exceptions.ClientError as caught:
        details = caught.response.get("Error", {})
        code = str(details.get("Code", "Unknown"))
        # Role chains and refreshes call STS first: name the call that failed, not the one that was requested.
        if caught.operation_name in _ASSUME_ROLE_OPERATIONS:
            operation, resource, identity = (
                f"sts:{caught.operation_name}",
                f"{identity} or an earlier role in the chain",
                "the calling identity",
            )
        message = str(details.get("Message", ""))
        advice = _advice(code, operation, resource, identity, message)
        reason = _reason(message)
        if code in _BAD_SIGNATURE and not message.startswith(_WRONG_TIME):
            reason = _NOT_SHOWN
        host_only = code in _HOST_ONLY
        raise error(one_line(code, 100), reason, advice, host_only, request_id(caught.response)) from None
    except (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
    ) as caught:
        advice = "Give this process an instance profile, a task role or a pod role, or set profile_name."
        raise error("NoCredentials", _reason(str(caught)), advice) from None
    except (exceptions.SSOError, exceptions.TokenRetrievalError) as caught:
        advice = "Log in again with aws sso login; for unattended use, give this process a role instead."
        raise error("NoCredentials", _reason(str(caught)), advice) from None
    except (exceptions.ProfileNotFound, exceptions.NoRegionError, exceptions.ConfigParseError) as caught:
        raise error(
            "Misconfigured", _reason(str(caught)), "Fix profile_name, regions or the AWS configuration files."
        ) from None
    except (exceptions.ReadTimeoutError, exceptions.ConnectTimeoutError) as caught:
        advice = "Check the route to it: NAT, VPC endpoint, proxy, security groups."
        raise error("TimedOut", f"no response in time from {_endpoint(caught)}.", advice) from None
    except (exceptions.HTTPClientError, exceptions.ConnectionError) as caught:
        advice = "Check the network, DNS, and whether the service is available in this region."
        raise error("Unreachable", f"could not connect to {_endpoint(caught)}.", advice) from None
    except exceptions.BotoCoreError as caught:
        raise error(type(caught).__name__, _reason(str(caught)), "Check the named setting.") from None
    except (ResponseParserError, KeyError):
        # The text of the former is the whole response, including the password. A response in JSON that cannot be parsed
        # comes without any of its members.
        advice = "Try again; if this persists, look for a proxy that alters responses."
        raise error("UnreadableResponse", "the response could not be parsed.", advice) from None


def request_id(response: Mapping[str, Any]) -> str | None:
    """Return the id that AWS gave to a request, under which CloudTrail has it.

    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html
    """
    found = (response.get("ResponseMetadata") or {}).get("RequestId")
    return one_line(str(found), 100) if found else None


def _reason(text: str) -> str:
    """Return what AWS or botocore says as one short sentence; nothing of a text that quotes the request."""
    if _QUOTES_REQUEST.search(text):
        return _NOT_SHOWN
    return f"{one_line(text, _LONGEST_REASON).rstrip('.')}."


def _endpoint(caught: exceptions.BotoCoreError) -> str:
    return one_line(str(caught.kwargs.get("endpoint_url") or "the endpoint"), _LONGEST_REASON)
