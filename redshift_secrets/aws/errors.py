"""Translate what a call to AWS raises to `AwsError`: what happened, on which resource, as which identity, and what to do."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from botocore import exceptions
from botocore.parsers import ResponseParserError
from urllib3.util.ssl_match_hostname import CertificateError

from redshift_secrets.aws.advice import BAD_SIGNATURE, CLOCK_SKEW, EXPIRED, UNKNOWN_KEY, WRONG_TIME, advice_on
from redshift_secrets.aws.exchanges import Exchange, exchanges
from redshift_secrets.aws.log_redaction import suppress_payload_logs
from redshift_secrets.aws.server_certificate import describe_certificate
from redshift_secrets.errors import AwsError, ExhaustedError, exception_chain, exhausted_error, one_line

_HOST_ONLY = EXPIRED | CLOCK_SKEW | BAD_SIGNATURE | UNKNOWN_KEY
"""What is wrong with the clock or the credentials of this host: another one of the same role may be well."""

NOT_REACHED = frozenset({"TimedOut", "Unreachable", "ProxyFailed", "TlsFailed"})
"""The codes of this package for an endpoint that does not answer."""

UNREADABLE = "UnreadableResponse"
"""The code of this package for what is no answer of AWS."""

_LONGEST_REASON = 300
_QUOTES_REQUEST = re.compile(
    "canonical string|string-to-sign|authorization header|security-?token|credential=|signature=", re.IGNORECASE
)
"""In texts in which AWS repeats the request, with the session token in it."""
_BODY = re.compile(r"(from container metadata|metadata service):.*", re.DOTALL)
"""Where botocore quotes what a metadata service has answered."""
_ONLY_WHOSE = r"\1"
_USER_INFO = re.compile(r"//[^/@\s]*@")
_NOT_SHOWN = "what AWS says is not shown, since it may quote the request."

_CHECK_ROUTE = "Check the route to it: NAT, VPC endpoint, proxy, security groups."
_CHECK_NETWORK = "Check the network, DNS, and whether the service is available in this region."
_CHECK_PROXY = (
    "Check the proxy: HTTPS_PROXY and HTTP_PROXY, NO_PROXY for what needs none, or proxies in the setting config."
)
_CHECK_ANSWERER = "A proxy, a captive portal or another service answers there: check endpoint_url, AWS_ENDPOINT_URL, HTTPS_PROXY and DNS."
_GIVE_ROLE = "Give this process an instance profile, a task role or a pod role, or set profile_name."
_ASSUME_ROLE_OPERATIONS = frozenset({"AssumeRole", "AssumeRoleWithWebIdentity", "AssumeRoleWithSAML"})
"""Operations that botocore calls to obtain credentials for the operation that was requested."""


class OddAnswerError(Exception):
    """An answer of AWS lacks something; the text says what, and quotes nothing of it."""


class TokenFileError(exceptions.CredentialRetrievalError):  # type: ignore[misc]  # botocore has no types
    """A file that credentials are found with cannot be read; `variable` names it."""

    fmt = "{error_msg}"

    def __init__(self, error: OSError) -> None:
        name = str(error.filename)
        variable = next((each for each in _TOKEN_FILES if os.environ.get(each) == name), None)
        what = f"the token file {name} of {variable}" if variable else f"the file {name}"
        super().__init__(provider="file", error_msg=f"{what} cannot be read: {error.strerror}")
        self.variable = variable


_TOKEN_FILES = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")


def member(answer: Any, name: str, kind: type) -> Any:
    """Return what an answer has under a name; raises `OddAnswerError` where it is not of this kind."""
    found = answer.get(name) if isinstance(answer, Mapping) else None
    if not isinstance(found, kind) or found == "":
        raise OddAnswerError(f"it has no {name}" if found is None else f"its {name} cannot be read")
    return found


@contextmanager
def credential_errors() -> Iterator[None]:
    """Raise as botocore's own error what its search for credentials lets pass: an unreadable file, an answer of a metadata service
    or a program that lacks something."""
    try:
        yield
    except OSError as error:
        if error.filename is None or isinstance(error, exceptions.BotoCoreError) or exhausted_error(error) is not None:
            raise
        raise TokenFileError(error) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, exceptions.BotoCoreError) or exchanges.last is not None:
            raise
        raise exceptions.CredentialRetrievalError(
            provider="the metadata service, the program or the configuration that has them",
            error_msg=f"they cannot be read ({type(error).__name__})",
        ) from None


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


class _Explained(NamedTuple):
    """Why a call failed. `of_aws` is what AWS says, where it has answered with an error of its own: its code has the advice."""

    code: str
    reason: str
    advice: str = ""
    host_only: bool = True
    request_id: str | None = None
    of_aws: str | None = None


def _explained(
    caught: Exception, operation: str, resource: str, identity: str, exchange: Exchange | None
) -> _Explained | None:
    if isinstance(caught, AwsError):
        return None
    if isinstance(caught, exceptions.ClientError):
        return _of_error_answer(caught, operation, exchange)
    if isinstance(caught, (TokenFileError, exceptions.InfiniteLoopConfigError, exceptions.InvalidConfigError)):
        advice = "Correct it in the AWS configuration files and the environment."
        if isinstance(caught, TokenFileError) and caught.variable is not None:
            advice = "Check that the pod has its service account and the volume with the token, and that this user may read it."
        return _Explained("NoCredentials", _reason(str(caught)), advice)
    if isinstance(caught, _LOG_IN_AGAIN):
        advice = "Log in again with aws sso login or aws login; for unattended use, give this process a role instead."
        return _Explained("NoCredentials", _reason(str(caught)), advice)
    if isinstance(caught, _NO_CREDENTIALS):
        return _Explained("NoCredentials", _reason(str(caught)), _GIVE_ROLE)
    if isinstance(caught, _MISCONFIGURED):
        return _Explained(
            "Misconfigured", _reason(str(caught)), "Fix profile_name, regions or the AWS configuration files."
        )
    if isinstance(caught, exceptions.ProxyConnectionError):
        return _of_proxy(caught)
    if isinstance(caught, exceptions.SSLError):
        return _of_tls(caught, exchange)
    if isinstance(caught, (exceptions.ReadTimeoutError, exceptions.ConnectTimeoutError)):
        return _Explained("TimedOut", f"no response in time from {_endpoint(caught, exchange)}.", _CHECK_ROUTE)
    if isinstance(caught, (exceptions.HTTPClientError, exceptions.ConnectionError)):
        return _of_network(caught, exchange)
    if isinstance(caught, exceptions.ParamValidationError):
        reason = "botocore does not take the values of the request."  # its text quotes them
        return _Explained("Misconfigured", reason, "Check the tags and settings that it is called with.")
    if isinstance(caught, exceptions.BotoCoreError):
        return _Explained(type(caught).__name__, _reason(str(caught)), "Check the named setting.")
    if isinstance(caught, (OddAnswerError, ResponseParserError, KeyError)) or (
        exchange is not None
        and exchange.was_answered
        and isinstance(caught, (AttributeError, LookupError, TypeError, ValueError))
    ):
        return _of_nonsense(operation, exchange, str(caught) if isinstance(caught, OddAnswerError) else None)
    if isinstance(caught, ValueError) and str(caught).startswith("Invalid endpoint"):
        return _Explained("Misconfigured", _reason(str(caught)), "Fix endpoint_url or AWS_ENDPOINT_URL.")
    return None


_LOG_IN_AGAIN = tuple(
    getattr(exceptions, name)
    for name in ("SSOError", "TokenRetrievalError", "LoginError")
    if hasattr(exceptions, name)  # an older botocore knows no `aws login`
)
_NO_CREDENTIALS = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.CredentialRetrievalError,
    exceptions.MetadataRetrievalError,
    exceptions.RefreshWithMFAUnsupportedError,
    exceptions.UnknownCredentialError,
)
_MISCONFIGURED = (
    exceptions.ProfileNotFound,
    exceptions.NoRegionError,
    exceptions.ConfigNotFound,
    exceptions.ConfigParseError,
    exceptions.InvalidRegionError,
    exceptions.BaseEndpointResolverError,
    exceptions.EndpointProviderError,
)


def _of_error_answer(caught: exceptions.ClientError, operation: str, exchange: Exchange | None) -> _Explained:
    details = caught.response.get("Error") or {}
    code, message = one_line(str(details.get("Code") or "Unknown"), 100), str(details.get("Message") or "")
    # Every error of AWS has a code of letters. Botocore makes one of the HTTP status where there is none.
    status = exchange.status if exchange is not None else None
    if exchange is not None and (code == "Unknown" or code.isdigit() or code == f"HTTP {status}"):
        if status == 407:
            reason = f"a proxy on the way to {exchange.endpoint} wants to be logged in to (HTTP status 407)."
            return _Explained("ProxyFailed", reason, f"Give its URL a user and a password. {_CHECK_PROXY}")
        return _of_nonsense(operation, exchange, None)
    reason = _reason(message)
    if code in BAD_SIGNATURE and not message.startswith(WRONG_TIME):
        reason = _NOT_SHOWN
    return _Explained(code, reason, "", code in _HOST_ONLY, request_id(caught.response), message)


def _of_nonsense(operation: str, exchange: Exchange | None, lack: str | None) -> _Explained:
    """What came is no answer of AWS. It may hold a password, so nothing of it is quoted."""
    if exchange is None or not exchange.was_answered:
        why = f": {lack}" if lack else " could not be parsed"
        return _Explained(UNREADABLE, f"the response{why}.", _CHECK_ANSWERER)
    name = _name(exchange.operation) or operation
    why = f" ({lack})" if lack else ""
    reason = f"{exchange.endpoint} was asked for {name} and gave no answer of that kind{why}, but {exchange.describe_answer()}."
    return _Explained(UNREADABLE, reason, _CHECK_ANSWERER)


def _of_proxy(caught: exceptions.ProxyConnectionError) -> _Explained:
    proxy = _without_user(str(caught.kwargs.get("proxy_url")))
    text = " ".join(map(str, exception_chain(caught)))
    found = re.search(r"Tunnel connection failed: (\d{3})", text)
    if found is not None and found[1] == "407":
        reason = f"the proxy {proxy} wants to be logged in to (HTTP status 407)."
        return _Explained("ProxyFailed", reason, f"Give its URL a user and a password. {_CHECK_PROXY}")
    if found is not None:
        return _Explained(
            "ProxyFailed", f"the proxy {proxy} does not let it pass (HTTP status {found[1]}).", _CHECK_PROXY
        )
    tls = next((each for each in exception_chain(caught) if isinstance(each, ssl.SSLError)), None)
    why = f"TLS with it failed: {_tls_reason(tls)}" if tls is not None else _network_reason(caught)
    return _Explained("ProxyFailed", f"the proxy {proxy} cannot be reached: {why}.", _CHECK_PROXY)


def _of_tls(caught: exceptions.SSLError, exchange: Exchange | None) -> _Explained:
    endpoint = _endpoint(caught, exchange)
    bundle = exchange.ca_bundle if exchange is not None else None
    chain = exception_chain(caught)
    missing = next((each for each in chain if isinstance(each, OSError) and each.errno in _NO_FILE), None)
    if missing is not None:
        reason = f"TLS with {endpoint} needs the CA bundle {bundle}, which cannot be read: {missing.strerror}."
        return _Explained("TlsFailed", reason, "Correct AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE or ca_bundle of the profile.")
    found = next((each for each in chain if isinstance(each, (ssl.SSLError, CertificateError))), None)
    reason = f"TLS with {endpoint} failed: {_tls_reason(found)}"
    if not isinstance(found, (ssl.SSLCertVerificationError, CertificateError)):
        return _Explained(
            "TlsFailed",
            f"{reason}.",
            "Check what answers there: a proxy, a firewall, or a server without TLS on this port.",
        )
    certificate = describe_certificate(endpoint)
    reason += f". Its certificate is {certificate}" if certificate else ""
    reason += f"; it was checked against {bundle}." if bundle else "."
    advice = (
        "If a proxy of this network opens TLS, add its CA to a bundle and name that in AWS_CA_BUNDLE (or ca_bundle of the profile);"
        " else something pretends to be AWS."
    )
    return _Explained("TlsFailed", reason, advice)


_NO_FILE = (errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENOTDIR)


def _tls_reason(error: Exception | None) -> str:
    if isinstance(error, CertificateError):  # the name is not checked by OpenSSL
        return one_line(str(error), 200).rstrip(".")
    if isinstance(error, ssl.SSLCertVerificationError):
        return one_line(error.verify_message or "the certificate cannot be verified", 200).rstrip(".")
    reason = getattr(error, "reason", None)
    return one_line(str(reason).replace("_", " ").lower(), 200) if reason else "the handshake was cut off"


def _of_network(caught: exceptions.BotoCoreError, exchange: Exchange | None) -> _Explained:
    tls = next((each for each in exception_chain(caught) if isinstance(each, ssl.SSLError)), None)
    if tls is not None and not isinstance(caught, exceptions.ConnectionClosedError):
        return _Explained(
            "TlsFailed", f"TLS with {_endpoint(caught, exchange)} failed: {_tls_reason(tls)}.", _CHECK_NETWORK
        )
    reason = f"could not connect to {_endpoint(caught, exchange)}: {_network_reason(caught)}."
    return _Explained("Unreachable", reason, _CHECK_NETWORK)


def _network_reason(caught: Exception) -> str:
    chain = exception_chain(caught)
    if any(isinstance(each, socket.gaierror) for each in chain):
        return "DNS does not know its name"
    said = [each.strerror for each in chain if isinstance(each, OSError) and each.strerror]
    if said:
        return one_line(said[-1], 100)
    return (
        "the connection was closed"
        if isinstance(caught, exceptions.ConnectionClosedError)
        else "there is no connection"
    )


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
    return f"{_without_user(_BODY.sub(_ONLY_WHOSE, text)).rstrip('.')}."


def _without_user(url: str) -> str:
    return one_line(_USER_INFO.sub("//***@", url), _LONGEST_REASON)


def _endpoint(caught: exceptions.BotoCoreError, exchange: Exchange | None) -> str:
    if exchange is not None:
        return exchange.endpoint
    return _without_user(str(caught.kwargs.get("endpoint_url") or "the endpoint"))
