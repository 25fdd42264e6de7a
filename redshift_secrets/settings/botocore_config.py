"""The setting `config`: arguments of `botocore.config.Config`, checked without botocore. Pure.

An option that only a newer botocore than the installed one knows is accepted here and refused when the first client is
created. No message repeats a value, since a proxy's URL may hold a password.
https://docs.aws.amazon.com/boto3/latest/reference/core/config.html
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from redshift_secrets.errors import SettingsError
from redshift_secrets.settings import values


class _Option(Struct, frozen=True):
    rule: str
    read: Callable[[object], Any]


def _seconds(raw: object) -> float:
    number = float(raw) if isinstance(raw, str) else raw
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
        raise ValueError
    if not 0 < number <= _DAY:
        raise ValueError
    return number


def _certificate(raw: object) -> str | tuple[str, str]:
    if isinstance(raw, (list, tuple)):
        certificate, key = raw
        # botocore ignores a list, which is all that JSON has.
        return values.text(certificate), values.text(key)
    return values.text(raw)


def _proxies(raw: object) -> dict[str, str]:
    proxies = {values.text(key): values.text(value) for key, value in values.mapping(raw).items()}
    for proxy in proxies.values():
        scheme, _, netloc = proxy.rpartition("://")
        if scheme.lower() not in ("", "http", "https"):  # botocore would take it for a host
            raise ValueError
        host, _ = values.host_and_port(netloc.partition("/")[0].rpartition("@")[2])
        if not host:
            raise ValueError
    return proxies


def _json_object(raw: object) -> dict[str, object]:
    value = values.mapping(raw)
    if not values.is_json(value):
        raise ValueError
    return value


def _s3(raw: object) -> dict[str, object]:
    value = _json_object(raw)
    if value.get("addressing_style") not in (None, "auto", "path", "virtual"):
        raise ValueError
    return value


def _choice(*choices: str) -> _Option:
    return _Option(f"one of {', '.join(choices)}", values.one_of(*choices))


def _whole_number(minimum: int, maximum: int) -> _Option:
    return _Option(f"a whole number from {minimum} to {maximum}", values.whole_number(minimum, maximum))


_DAY = 86_400
_TEXT = _Option("one line of text that is not empty", values.text)
_BOOLEAN = _Option("true or false", values.boolean)
_SECONDS = _Option(f"a number of seconds above 0, at most {_DAY}", _seconds)
_CERTIFICATE = _Option("the path of a file, or a list of two: certificate and key", _certificate)
_CHECKSUMS = _choice("when_supported", "when_required")

RETRIES: Mapping[str, _Option] = {
    "total_max_attempts": _whole_number(1, 100),
    "max_attempts": _whole_number(0, 100),
    "mode": _choice("legacy", "standard", "adaptive"),
}
PROXIES_CONFIG: Mapping[str, _Option] = {
    "proxy_ca_bundle": _TEXT,
    "proxy_client_cert": _CERTIFICATE,
    "proxy_use_forwarding_for_https": _BOOLEAN,
}
OPTIONS: Mapping[str, _Option | Mapping[str, _Option]] = {
    "region_name": _Option("an AWS region such as eu-west-1", values.region),
    "signature_version": _TEXT,
    "user_agent": _TEXT,
    "user_agent_extra": _TEXT,
    "user_agent_appid": _TEXT,
    "connect_timeout": _SECONDS,
    "read_timeout": _SECONDS,
    "parameter_validation": _BOOLEAN,
    "max_pool_connections": _whole_number(1, 10_000),
    "proxies": _Option(
        'a JSON object of URLs of HTTP proxies such as {"https": "http://proxy.example.com:3128"}', _proxies
    ),
    "proxies_config": PROXIES_CONFIG,
    "s3": _Option("a JSON object, its addressing_style one of auto, path, virtual", _s3),
    "s3_disable_express_session_auth": _BOOLEAN,
    "retries": RETRIES,
    "client_cert": _CERTIFICATE,
    "inject_host_prefix": _BOOLEAN,
    "endpoint_discovery_enabled": _Option(
        "true, false or auto", lambda raw: "auto" if raw == "auto" else values.boolean(raw)
    ),
    "use_dualstack_endpoint": _BOOLEAN,
    "use_fips_endpoint": _BOOLEAN,
    "ignore_configured_endpoint_urls": _BOOLEAN,
    "defaults_mode": _choice("legacy", "standard", "in-region", "cross-region", "mobile", "auto"),
    "tcp_keepalive": _BOOLEAN,
    "request_min_compression_size_bytes": _whole_number(1, 1_048_576),
    "disable_request_compression": _BOOLEAN,
    "client_context_params": _Option("a JSON object", _json_object),
    "sigv4a_signing_region_set": _TEXT,
    "request_checksum_calculation": _CHECKSUMS,
    "response_checksum_validation": _CHECKSUMS,
    "account_id_endpoint_mode": _choice("preferred", "disabled", "required"),
    "auth_scheme_preference": _TEXT,
}
"""Every option of `Config`, up to botocore 1.44, with its rule or the options inside it."""


def parse(raw: object) -> dict[str, Any]:
    """Return the arguments for `Config`; `None` means "not set". Raises `ValueError` with the end of a sentence that begins
    with the setting's name, or `SettingsError` with a sentence for each option that is wrong."""
    problems: list[str] = []
    config = _read("config", values.mapping(raw), OPTIONS, problems)
    if problems:
        raise SettingsError(problems)
    return config


def _read(
    name: str,
    given: Mapping[str, object],
    options: Mapping[str, _Option | Mapping[str, _Option]],
    problems: list[str],
) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for key, value in given.items():
        option = options.get(key)
        if option is None:
            problems.append(f"{name}.{key}: unknown option of botocore's Config{values.nearest(key, options)}")
        elif value is not None:
            try:
                if isinstance(option, _Option):
                    read[key] = option.read(value)
                else:
                    read[key] = _read(f"{name}.{key}", values.mapping(value), option, problems)
            except (ValueError, OverflowError):
                rule = option.rule if isinstance(option, _Option) else f"a JSON object of {', '.join(option)}"
                problems.append(f"{name}.{key} must be {rule}")
    return read
