"""From botocore's exceptions to `AwsError`: what happened, on which resource, as which identity, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions
from botocore.parsers import ResponseParserError

from redshift_secrets.aws.log_redaction import suppress_payload_logs
from redshift_secrets.errors import AwsError

DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_THROTTLED = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"})
_GONE = frozenset({"ClusterNotFound", "ClusterNotFoundFault", "ResourceNotFoundException", "EndpointNotFound"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException"})
_OUT_OF_TIME = frozenset({"RequestExpired", "RequestTimeTooSkewed", "RequestInTheFuture"})
_BAD_SIGNATURE = frozenset({"SignatureDoesNotMatch", "InvalidSignatureException"})
_UNKNOWN_KEY = frozenset({"InvalidClientTokenId", "UnrecognizedClientException", "InvalidIdentityToken"})
_TROUBLE = frozenset(
    {"InternalFailure", "InternalServerException", "ServiceUnavailable", "ServiceUnavailableException"}
)

_CLOCK = "The clock of this machine is not that of AWS: set it, by NTP or the Amazon Time Sync Service."
_ASSUMING = frozenset({"AssumeRole", "AssumeRoleWithWebIdentity", "AssumeRoleWithSAML"})
"""What botocore itself calls on the way to another call, to obtain credentials."""


def _advice(code: str, operation: str, resource: str, identity: str, message: str) -> str:
    if code in DENIED and operation == "sts:AssumeRoleWithWebIdentity":
        return (
            "The trust policy of the role must name the OIDC provider of this cluster and this pod's service account."
        )
    if code in DENIED and operation.startswith("sts:AssumeRole"):
        return "Allow it in the trust policy of the role and in the policy of the caller, and check external_id."
    if code in DENIED and "explicit deny" in message:
        return f"A policy denies {operation} on {resource} to {identity}: no grant helps before that statement is gone."
    if code in DENIED:
        return f"Grant {operation} on {resource} to {identity}."
    if code in _THROTTLED:
        return "AWS throttles this account; it is asked again after a pause."
    if code in _GONE:
        return "It was deleted or renamed since it was listed; the catalog catches up by itself."
    if code in _EXPIRED:
        return (
            "The AWS credentials that Airflow runs with have expired: renew them, or give it a role that renews them."
        )
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html
    if code in _OUT_OF_TIME or (
        code in _BAD_SIGNATURE and message.startswith(("Signature expired", "Signature not yet"))
    ):
        return _CLOCK
    if code in _BAD_SIGNATURE:
        return "The secret access key that Airflow runs with does not belong to its key id: set both anew."
    if code in _UNKNOWN_KEY:
        return "AWS does not know the credentials that Airflow runs with: check them, and that the region is enabled for the account."
    if code in _TROUBLE:
        return "AWS has trouble of its own; it is asked again after a pause."
    return "Look the code up in the AWS API reference of this operation."


@contextmanager
def translate_errors(operation: str, resource: str, identity: str) -> Iterator[None]:
    """Run calls to AWS; whatever botocore raises comes out as `AwsError`, and no answer reaches a log."""

    def error(code: str, reason: str, advice: str) -> AwsError:
        return AwsError(operation, resource, identity, code, reason, advice)

    try:
        with suppress_payload_logs():
            yield
    except exceptions.ClientError as caught:
        details = caught.response.get("Error", {})
        code = str(details.get("Code", "Unknown"))
        # Role chains and refreshed credentials call STS on the way: name the call that failed, not the one asked for.
        if caught.operation_name in _ASSUMING:
            operation, resource, identity = (
                f"sts:{caught.operation_name}",
                f"{identity} or a role before it",
                "the identity before it",
            )
        message = str(details.get("Message", "")).rstrip(".") + "."
        raise error(code, message, _advice(code, operation, resource, identity, message)) from None
    except (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
    ) as caught:
        advice = "Give Airflow an instance profile, a task or pod role, or set profile_name or role_arn."
        raise error("NoCredentials", f"{str(caught).rstrip('.')}.", advice) from None
    except (exceptions.SSOError, exceptions.TokenRetrievalError) as caught:
        advice = "Log in again with aws sso login; where nobody can, give Airflow a role instead."
        raise error("NoCredentials", f"{str(caught).rstrip('.')}.", advice) from None
    except (exceptions.ProfileNotFound, exceptions.NoRegionError, exceptions.ConfigParseError) as caught:
        raise error(
            "Misconfigured", f"{str(caught).rstrip('.')}.", "Mend profile_name, regions or the AWS configuration."
        ) from None
    except (exceptions.ReadTimeoutError, exceptions.ConnectTimeoutError) as caught:
        advice = "Check routes, security groups and VPC endpoints from here to it."
        raise error("TimedOut", f"no answer in time from {_endpoint(caught)}.", advice) from None
    except (exceptions.HTTPClientError, exceptions.ConnectionError) as caught:
        advice = "Check the network, DNS, and whether the service exists in this region."
        raise error("Unreachable", f"no connection to {_endpoint(caught)}.", advice) from None
    except exceptions.BotoCoreError as caught:
        raise error(type(caught).__name__, f"{str(caught).rstrip('.')}.", "Check the setting it names.") from None
    except ResponseParserError as caught:
        # Its text is the whole answer, password and all.
        advice = "Try again; if this lasts, look for a proxy on the way that changes answers."
        raise error(type(caught).__name__, "the answer is not one that AWS gives.", advice) from None


def _endpoint(caught: exceptions.BotoCoreError) -> str:
    return str(caught.kwargs.get("endpoint_url") or "the endpoint")
