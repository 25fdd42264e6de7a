"""Translate what a call to AWS raises to `AwsError`: what happened, on which resource, as which identity, and what to do."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore import exceptions
from botocore.parsers import ResponseParserError

from redshift_secrets.aws.advice import (
    BAD_SIGNATURE,
    CHECK_ROLE_OF_PROFILE,
    CLOCK_SKEW,
    ENDPOINT_POLICY,
    EXPIRED,
    UNKNOWN_KEY,
    WRONG_TIME,
    advice_on,
)
from redshift_secrets.aws.credential_errors import (
    CHECK_TOKEN,
    CORRECT,
    INVALID_URLS,
    ClientConfigError,
    advice_on_credentials,
)
from redshift_secrets.aws.exchanges import Exchange, exchanges
from redshift_secrets.aws.log_redaction import suppress_payload_logs
from redshift_secrets.aws.network_errors import (
    CHECK_ANSWERER,
    LOGIN_NEEDED,
    UNREADABLE,
    Explained,
    login_needed,
    no_network,
    without_login,
    without_user,
)
from redshift_secrets.errors import (
    DENIED,
    ENDLESS_PAGING,
    AwsError,
    ExhaustedError,
    exception_chain,
    exhausted_error,
    one_line,
)

_HOST_ONLY = EXPIRED | CLOCK_SKEW | BAD_SIGNATURE | UNKNOWN_KEY
"""What is wrong with the clock or the credentials of this host: another one of the same role may be well."""

_SIGN = "[A-Za-z0-9+/=]"  # of base64
_QUOTES_REQUEST = re.compile(
    "canonical string|string-to-sign|authorization header|security-?token|credential=|signature="
    r"|\bat '[\w.]*(?:token|externalid|secret|password)[\w.]*'"
    r"|(?:secret_?access_?key|session_?token|password)[\"']?\s*[:=]"
    r"|\beyj[\w-]{8,}\.[\w-]"
    rf"|(?-i:(?={_SIGN}{{0,79}}\d)(?={_SIGN}{{0,79}}[A-Z])(?={_SIGN}{{0,79}}[a-z]){_SIGN}{{80}})",
    re.IGNORECASE,
)
"""In texts in which AWS repeats the request with the session token in it, or the value of a parameter that is secret; in which a
program for credentials names a secret; and in which anybody repeats a token, by the look of it (a path of a role has no capitals)."""
_BODY = re.compile(r"(from container metadata|metadata service):.*", re.DOTALL)
"""Where botocore quotes what a metadata service has answered."""
_ONLY_WHOSE = r"\1"
_NOT_SHOWN = "what AWS says is not shown, since it may quote the request."
_PARAMETERS = re.compile(r'^[A-Z][a-z ]* parameter(?: in [\w.\[\]]+)?:? "?(\w+)', re.MULTILINE)
"""The names that botocore gives of parameters that it does not take."""
_OF_A_ROLE = frozenset({"DurationSeconds", "ExternalId", "RoleArn", "RoleSessionName"})
"""Those that AssumeRole has, of a profile or of the environment."""
_ASSUME_ROLE_OPERATIONS = frozenset({"AssumeRole", "AssumeRoleWithWebIdentity", "AssumeRoleWithSAML"})
"""Operations that botocore calls to obtain credentials for the operation that was requested."""


class OddAnswerError(Exception):
    """An answer of AWS lacks something; the text says what, and quotes nothing of it."""


def member(answer: Any, name: str, kind: type) -> Any:
    """Return what an answer has under a name; raises `OddAnswerError` where it is not of this kind."""
    found = answer.get(name) if isinstance(answer, Mapping) else None
    if not isinstance(found, kind) or found == "":
        raise OddAnswerError(f"it has no {name}" if found is None else f"its {name} cannot be read")
    return found


@contextmanager
def translate_errors(operation: str, resource: str, identity: str) -> Iterator[None]:
    """Raise what went wrong with a call to AWS as `AwsError`, or `ExhaustedError` where this process has run out of something; keep
    responses out of the logs. What has nothing to do with the call passes."""
    with exchanges.call():
        try:
            with suppress_payload_logs():
                yield
        except Exception as caught:
            exhausted = exhausted_error(caught) or _no_descriptors(caught)
            if exhausted is not None:
                raise exhausted from None
            exchange = exchanges.last
            found = _explained(caught, operation, resource, identity, exchange)
            if found is None:
                raise
            # Role chains and refreshes call STS first: name the call that failed, not the one that was requested.
            if exchange is not None and _name(exchange.operation) != _name(operation):
                operation, resource, identity = _earlier_call(exchange.operation, identity)
            elif isinstance(caught, exceptions.ClientError) and caught.operation_name in _ASSUME_ROLE_OPERATIONS:
                operation, resource, identity = _earlier_call(f"sts:{caught.operation_name}", identity)
            advice = found.advice
            if found.of_aws is not None:
                advice = advice_on(found.code, operation, resource, identity, found.of_aws)
            raise AwsError(
                operation, resource, identity, found.code, found.reason, advice, found.host_only, found.request_id
            ) from None


def _name(operation: str) -> str:
    return operation.partition(":")[2]


def _earlier_call(operation: str, identity: str) -> tuple[str, str, str]:
    """Return operation, resource and identity of the call that was to give the credentials."""
    if operation.startswith("sts:AssumeRole"):
        return operation, f"{identity} or an earlier role in the chain", "the calling identity"
    return operation, f"the credentials of {identity}", "the calling identity"


def _explained(
    caught: Exception, operation: str, resource: str, identity: str, exchange: Exchange | None
) -> Explained | None:
    if isinstance(caught, AwsError):
        return None
    if isinstance(caught, exceptions.ClientError):
        return _of_error_answer(caught, operation, exchange)
    advice = advice_on_credentials(caught)
    if advice is not None:
        return Explained("NoCredentials", _reason(str(caught)), advice)
    if isinstance(caught, ClientConfigError):
        return Explained("Misconfigured", _reason(str(caught)), f"{CORRECT[:-1]}, or in the setting config.")
    if isinstance(caught, _MISCONFIGURED):
        return Explained(
            "Misconfigured", _reason(str(caught)), "Fix profile_name, regions or the AWS configuration files."
        )
    unreached = no_network(caught, exchange)
    if unreached is not None:
        return unreached
    if isinstance(caught, exceptions.ParamValidationError):
        return _of_parameters(caught)
    if isinstance(caught, exceptions.PaginationError):
        reason = "the pages do not end: the token of one came twice."
        return Explained(ENDLESS_PAGING, reason, "Look for a proxy or an endpoint that repeats answers.")
    if isinstance(caught, exceptions.MissingDependencyException):
        advice = "Install that beside redshift-secrets, or give this process credentials that do not need it."
        return Explained("Misconfigured", _reason(str(caught)), advice)
    if isinstance(caught, exceptions.BotoCoreError):
        return Explained(type(caught).__name__, _reason(str(caught)), "Check the named setting.")
    if isinstance(caught, RuntimeError) and "refreshed credentials are still expired" in str(caught):
        reason = "by the clock of this host, the AWS credentials that this process was just given have expired."
        advice = "Check that clock; if it is right, the program, service or proxy that gives them repeats old ones."
        return Explained("NoCredentials", reason, advice)
    if isinstance(caught, (OddAnswerError, ResponseParserError, KeyError)) or (
        exchange is not None
        and exchange.was_answered
        and isinstance(caught, (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError))
    ):
        return _of_nonsense(operation, exchange, str(caught) if isinstance(caught, OddAnswerError) else None)
    if isinstance(caught, ValueError) and str(caught).startswith(INVALID_URLS):
        reason = without_login(str(caught))
        if reason.startswith("Port "):  # with some signs in a password, it is quoted as the port
            reason = "the URL of an endpoint has a port that is not a number from 1 to 65535"
        return Explained("Misconfigured", f"{reason}.", "Fix endpoint_url or AWS_ENDPOINT_URL.")
    return None


_MISCONFIGURED = (
    exceptions.ProfileNotFound,
    exceptions.NoRegionError,
    exceptions.ConfigNotFound,
    exceptions.ConfigParseError,
    exceptions.InvalidRegionError,
    exceptions.BaseEndpointResolverError,
    exceptions.EndpointProviderError,
)


def _of_error_answer(caught: exceptions.ClientError, operation: str, exchange: Exchange | None) -> Explained:
    details = caught.response.get("Error") or {}
    code, message = one_line(str(details.get("Code") or "Unknown"), 100), str(details.get("Message") or "")
    # Every error of AWS has a code of letters. Botocore makes one of the HTTP status where there is none.
    status = exchange.status if exchange is not None else None
    if exchange is not None and (code == "Unknown" or code.isdigit() or code == f"HTTP {status}"):
        return _of_nonsense(operation, exchange, None)
    reason = _reason(message) if message.strip() else "AWS gives no reason."
    if code in BAD_SIGNATURE and not message.startswith(WRONG_TIME):
        reason = _NOT_SHOWN
    host_only = code in _HOST_ONLY or (code in DENIED and ENDPOINT_POLICY in message)
    return Explained(code, reason, "", host_only, request_id(caught.response), message)


def _of_parameters(caught: exceptions.ParamValidationError) -> Explained:
    """Name what botocore does not take. Its text quotes the values, too."""
    names = list(dict.fromkeys(_PARAMETERS.findall(str(caught.kwargs.get("report")))))
    if "WebIdentityToken" in names:
        return Explained("NoCredentials", "the file of the web identity token is empty or has no token.", CHECK_TOKEN)
    which = f"{', '.join(names)} in" if names else "the values of"
    advice = "Check the tags, settings and AWS configuration files that it is called with."
    if not _OF_A_ROLE.isdisjoint(names):  # settings are checked for what botocore does not take
        advice = CHECK_ROLE_OF_PROFILE
    return Explained("Misconfigured", f"botocore does not take {which} the request.", advice)


def _of_nonsense(operation: str, exchange: Exchange | None, lack: str | None) -> Explained:
    """What came is no answer of AWS. It may hold a password, so nothing of it is quoted."""
    if exchange is None or not exchange.was_answered:
        why = f": {lack}" if lack else " could not be parsed"
        return Explained(UNREADABLE, f"the response{why}.", CHECK_ANSWERER)
    if exchange.status == LOGIN_NEEDED:
        return login_needed(exchange)
    name = _name(exchange.operation) or operation
    why = f" ({lack})" if lack else ""
    reason = (
        f"{exchange.where} was asked for {name} and gave no answer of that kind{why}, but {exchange.describe_answer()}."
    )
    return Explained(UNREADABLE, reason, CHECK_ANSWERER)


def _no_descriptors(caught: Exception) -> ExhaustedError | None:
    """Whether a name could not be looked up since no file can be opened, which the resolver does not say."""
    if any(isinstance(each, socket.gaierror) for each in exception_chain(caught)):
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            return exhausted_error(error)
    return None


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
    return f"{without_user(_BODY.sub(_ONLY_WHOSE, text)).rstrip('.')}."
