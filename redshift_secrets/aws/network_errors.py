"""Why a request was not sent or got no answer: DNS, a route, TLS, a proxy, a file, or a key that no request can carry."""

from __future__ import annotations

import errno
import http.client
import re
import socket
import ssl
from typing import NamedTuple

from botocore import exceptions
from urllib3.util.ssl_match_hostname import CertificateError

from redshift_secrets.aws.exchanges import Exchange
from redshift_secrets.aws.server_certificate import describe_certificate
from redshift_secrets.errors import exception_chain, one_line

NOT_REACHED = frozenset({"TimedOut", "Unreachable", "ProxyFailed", "TlsFailed"})
"""The codes of this package for an endpoint that does not answer."""

UNREADABLE = "UnreadableResponse"
"""The code of this package for what is no answer of AWS."""

LOGIN_NEEDED = 407
"""The HTTP status of a proxy that wants to be logged in to."""

CHECK_ANSWERER = "A proxy, a captive portal or another service answers there: check endpoint_url, AWS_ENDPOINT_URL, HTTPS_PROXY and DNS."
CHECK_PROXY = (
    "Check the proxy: HTTPS_PROXY and HTTP_PROXY, NO_PROXY for what needs none, or proxies in the setting config."
)
_CHECK_ROUTE = "Check the route to it: NAT, VPC endpoint, proxy, security groups."
_CHECK_NETWORK = "Check the network, DNS, and whether the service is available in this region."
_CHECK_SERVER = "Check what answers there: a proxy, a firewall, or a server without TLS on this port."
_CHECK_CLOCK = "Check the clock of this host; if it is right, the certificate has to be renewed."
_CHECK_BUNDLE = "Correct AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE, ca_bundle of the profile or the setting verify."
_MODES = {"-fips.": "use_fips_endpoint", ".api.": "use_dualstack_endpoint"}
"""What the names of endpoints have in them, by the option of the AWS configuration."""
_LONGEST_REASON = 300
_USER_INFO = re.compile(r"//\S*@")
_LOGIN = re.compile("//.*@", re.DOTALL)
_OTHER_SCHEME = re.compile("https?://([a-z0-9]+)://")
"""What botocore makes of the URL of a proxy that begins with neither http:// nor https://."""
_NO_FILE = (errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENOTDIR)
_WRONG_DAY = (9, 10)
"""OpenSSL's codes for a certificate that is not valid yet, or no longer."""


class Explained(NamedTuple):
    """Why a call failed. `of_aws` is what AWS says, where it has answered with an error of its own: its code has the advice."""

    code: str
    reason: str
    advice: str = ""
    host_only: bool = True
    request_id: str | None = None
    of_aws: str | None = None


def without_user(url: str) -> str:
    """Return a text with a URL in it without user and password."""
    return one_line(_USER_INFO.sub("//***@", url), _LONGEST_REASON)


def without_login(url: str) -> str:
    """Return a text that ends with a URL without its user and password, which may have any sign in them."""
    return one_line(_LOGIN.sub("//***@", url), _LONGEST_REASON)


def no_network(caught: Exception, exchange: Exchange | None) -> Explained | None:
    """Return why there is no answer, `None` where botocore's error is about something else."""
    if isinstance(caught, exceptions.ProxyConnectionError):
        return _of_proxy(caught)
    if isinstance(caught, exceptions.SSLError):
        return _of_tls(caught, exchange)
    if isinstance(caught, (exceptions.ReadTimeoutError, exceptions.ConnectTimeoutError)):
        return Explained("TimedOut", f"no response in time from {_endpoint(caught, exchange)}.", _CHECK_ROUTE)
    if isinstance(caught, (exceptions.HTTPClientError, exceptions.ConnectionError)):
        return _of_connection(caught, exchange)
    return None


def login_needed(exchange: Exchange) -> Explained:
    """Return what a proxy means that answers with status 407."""
    proxy = f"the proxy {exchange.proxy}" if exchange.proxy else "a proxy"
    reason = f"{proxy} on the way to {exchange.endpoint} wants to be logged in to (HTTP status {LOGIN_NEEDED})."
    return Explained("ProxyFailed", reason, f"Give its URL a user and a password. {CHECK_PROXY}")


def _of_proxy(caught: exceptions.ProxyConnectionError) -> Explained:
    url = str(caught.kwargs.get("proxy_url"))
    proxy, other = without_login(url), _OTHER_SCHEME.match(url)
    if other is not None:
        reason = f"the URL of the proxy begins with {other[1]}://, and botocore uses proxies for HTTP alone."
        return Explained("ProxyFailed", reason, CHECK_PROXY)
    text = " ".join(map(str, exception_chain(caught)))
    found = re.search(r"Tunnel connection failed: (\d{3})", text)
    if found is not None and found[1] == str(LOGIN_NEEDED):
        reason = f"the proxy {proxy} wants to be logged in to (HTTP status {LOGIN_NEEDED})."
        return Explained("ProxyFailed", reason, f"Give its URL a user and a password. {CHECK_PROXY}")
    if found is not None:
        return Explained(
            "ProxyFailed", f"the proxy {proxy} does not let it pass (HTTP status {found[1]}).", CHECK_PROXY
        )
    tls = next((each for each in exception_chain(caught) if isinstance(each, ssl.SSLError)), None)
    why = f"TLS with it failed: {_tls_reason(tls)}" if tls is not None else _network_reason(caught)
    return Explained("ProxyFailed", f"the proxy {proxy} cannot be reached: {why}.", CHECK_PROXY)


def _of_tls(caught: exceptions.BotoCoreError, exchange: Exchange | None) -> Explained:
    endpoint = _endpoint(caught, exchange)
    bundle = exchange.ca_bundle if exchange is not None else None
    chain = exception_chain(caught)
    missing = _unreadable_file(chain)
    if missing is not None:
        reason = f"TLS with {endpoint} needs the CA bundle {bundle}, which cannot be read: {missing.strerror}."
        return Explained("TlsFailed", reason, _CHECK_BUNDLE)
    found = next((each for each in chain if isinstance(each, (ssl.SSLError, CertificateError))), None)
    reason = f"TLS with {endpoint} failed: {_tls_reason(found)}"
    if not isinstance(found, (ssl.SSLCertVerificationError, CertificateError)):
        if getattr(found, "reason", None) == "KEY_VALUES_MISMATCH" or str(found).startswith("[SSL] PEM lib"):
            return _of_client_certificate(endpoint, "it is no certificate with its key in PEM format")
        if getattr(found, "library", None) == "X509":  # OpenSSL's part for files with certificates
            reason = f"TLS with {endpoint} needs the CA bundle {bundle}, which has no certificate that can be read."
            return Explained("TlsFailed", reason, _CHECK_BUNDLE)
        return Explained("TlsFailed", f"{reason}.", _CHECK_SERVER)
    certificate = describe_certificate(exchange.endpoint if exchange is not None else endpoint)
    reason += f". Its certificate is {certificate}" if certificate else ""
    reason += f"; it was checked against {bundle}." if bundle else "."
    if getattr(found, "verify_code", None) in _WRONG_DAY:
        return Explained("TlsFailed", reason, _CHECK_CLOCK)
    advice = (
        "If a proxy of this network opens TLS, add its CA to a bundle and name that in AWS_CA_BUNDLE (or ca_bundle of the profile);"
        " else something pretends to be AWS."
    )
    return Explained("TlsFailed", reason, advice)


def _of_client_certificate(endpoint: str, why: str | None) -> Explained:
    reason = f"TLS with {endpoint} needs the client certificate of the setting config, which cannot be read: {why}."
    return Explained("TlsFailed", reason, "Correct client_cert there.")


def _unreadable_file(chain: list[BaseException]) -> OSError | None:
    return next((each for each in chain if isinstance(each, OSError) and each.errno in _NO_FILE), None)


def _tls_reason(error: BaseException | None) -> str:
    if isinstance(error, CertificateError):  # the name is not checked by OpenSSL
        return one_line(str(error), 200).rstrip(".")
    if isinstance(error, ssl.SSLCertVerificationError):
        return one_line(error.verify_message or "the certificate cannot be verified", 200).rstrip(".")
    reason = getattr(error, "reason", None)
    return one_line(str(reason).replace("_", " ").lower(), 200) if reason else "the handshake was cut off"


def _of_connection(caught: exceptions.BotoCoreError, exchange: Exchange | None) -> Explained:
    endpoint, chain = _endpoint(caught, exchange), exception_chain(caught)
    was_closed = isinstance(caught, exceptions.ConnectionClosedError)
    missing = _unreadable_file(chain)
    if any(isinstance(each, exceptions.InvalidProxiesConfigError) for each in chain):
        why = missing.strerror if missing is not None else "it is no certificate"
        reason = f"a file that proxies_config of the setting config names cannot be read: {why}."
        return Explained("ProxyFailed", reason, "Correct it there.")
    if was_closed and missing is not None:
        return _of_client_certificate(endpoint, missing.strerror)
    tls = next((each for each in chain if isinstance(each, ssl.SSLError)), None)
    if tls is not None and not was_closed:
        return Explained("TlsFailed", f"TLS with {endpoint} failed: {_tls_reason(tls)}.", _CHECK_NETWORK)
    if any(isinstance(each, http.client.HTTPException) and not isinstance(each, OSError) for each in chain):
        return Explained(UNREADABLE, f"{endpoint} gave no HTTP response that can be read.", CHECK_ANSWERER)
    return _not_sent(chain) or Explained(
        "Unreachable", f"could not connect to {endpoint}: {_network_reason(caught)}.", _check_network(chain, endpoint)
    )


def _check_network(chain: list[BaseException], endpoint: str) -> str:
    no_name = any(isinstance(each, socket.gaierror) for each in chain)
    return f"{about_modes(endpoint)}{_CHECK_NETWORK}" if no_name else _CHECK_NETWORK


def about_modes(endpoint: str) -> str:
    """Return what to do where DNS does not know an endpoint of FIPS or dual-stack mode, with a space behind it; nothing for any other one."""
    modes = [option for part, option in _MODES.items() if part in endpoint]
    if not modes:
        return ""
    # https://aws.amazon.com/compliance/fips/
    return (
        f"Not every service has such an endpoint in every region: unset {' or '.join(modes)}, or name another endpoint of this service in the"
        " AWS configuration. "
    )


def unresolved(error: OSError) -> str:
    """Return what is wrong where a name could not be looked up, as the begin of a sentence that ends with the name."""
    # Of a name that there is not, a resolver says so.
    return "DNS gives no answer for" if error.errno == socket.EAI_AGAIN else "DNS does not know"


def _not_sent(chain: list[BaseException]) -> Explained | None:
    """Return why a request could not even be written; the texts have keys and passwords in them."""
    if any(isinstance(each, OSError) for each in chain):
        return None
    if any(isinstance(each, ValueError) and str(each).startswith("Invalid header") for each in chain):
        return Explained(
            "Misconfigured",
            "the request cannot be sent: a header of it would have a line break in it.",
            "Look for a line break in the access key ID and the session token, and in what the metadata service answers.",
        )
    if any(isinstance(each, ValueError) for each in chain):
        return Explained("ProxyFailed", "the URL of a proxy cannot be used as one.", CHECK_PROXY)
    return None


def _network_reason(caught: Exception) -> str:
    chain = exception_chain(caught)
    no_name = next((each for each in chain if isinstance(each, socket.gaierror)), None)
    if no_name is not None:
        return f"{unresolved(no_name)} its name"
    said = [each.strerror for each in chain if isinstance(each, OSError) and each.strerror]
    if said:
        return one_line(said[-1], 100)
    if any(isinstance(each, TimeoutError) for each in chain):
        return "no response in time"
    return (
        "the connection was closed"
        if isinstance(caught, exceptions.ConnectionClosedError)
        else "there is no connection"
    )


def _endpoint(caught: exceptions.BotoCoreError, exchange: Exchange | None) -> str:
    if exchange is not None:
        return exchange.where
    return without_login(str(caught.kwargs.get("endpoint_url") or "the endpoint"))
