"""The setting `cache.redis_url`, parsed and checked without redis-py. Pure.

Such a URL may hold a password, and both `urllib` and redis-py quote parts of it in their errors. So the messages here never
contain any part of the URL but its scheme, and `RedisAddress.shown` is composed of the harmless parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, parse_qs, unquote, urlencode, urlsplit

from msgspec import Struct

from redshift_secrets.model import Private
from redshift_secrets.settings import values

_FORMS = {
    "redis": "redis://[user:password@]host[:port][/db]",
    "rediss": "rediss://[user:password@]host[:port][/db]",
    "unix": "unix://[user:password@]/path[?db=0]",
    "redis+sentinel": "redis+sentinel://[user:password@]host[:port][,host...]/service[/db]",
    "rediss+sentinel": "rediss+sentinel://[user:password@]host[:port][,host...]/service[/db]",
    "redis+cluster": "redis+cluster://[user:password@]host[:port][,host...]",
    "rediss+cluster": "rediss+cluster://[user:password@]host[:port][,host...]",
}
"""The schemes, and what a URL of each looks like. `rediss` is TLS."""

_ESCAPE = "a password that contains any of / ? # @ [ % needs them percent-encoded"

_SENTINEL_LOGIN = {"sentinel_username": "username", "sentinel_password": "password"}

FALSE_WORDS = ("0", "f", "false", "n", "no")
TRUE_WORDS = ("1", "t", "true", "y", "yes")
CERT_REQS = ("none", "optional", "required")
TLS_VERSIONS = ("769", "770", "771", "772")
"""TLS 1.0 to 1.3, by the numbers of Python's `ssl.TLSVersion`."""


class RedisAddress(Private, frozen=True):
    """A checked URL of a Redis or Valkey server, Sentinel or cluster. Its `repr` has only the harmless part."""

    hidden = ("kind", "hosts", "service", "client_url", "sentinel_login")

    shown: str
    """The URL without user, password and options."""
    kind: str
    """`server`, `sentinel` or `cluster`."""
    hosts: tuple[tuple[str, int], ...]
    """Empty for a Unix socket."""
    service: str
    client_url: str
    """The URL with the first host alone, which is what redis-py can parse."""
    sentinel_login: Mapping[str, str]
    """User and password for the Sentinels themselves, under redis-py's names."""


def parse(raw: object) -> RedisAddress:
    """Parse a URL; raises `ValueError` with the end of a sentence that begins with the setting's name."""
    url = raw.strip() if isinstance(raw, str) else ""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in _FORMS:
        raise ValueError(f"must be a URL of Redis or Valkey that begins with one of {', '.join(_FORMS)} and ://")
    kind = scheme.partition("+")[2] or "server"
    parts, options = _split(scheme, url)
    _check_options(scheme, options)
    login, _, netloc = parts.netloc.rpartition("@")
    if scheme == "unix":
        if netloc or not parts.path or values.has_control_characters(unquote(parts.path)):
            raise ValueError(f"has no path of a socket: write {_FORMS[scheme]}; {_ESCAPE}")
        return RedisAddress(f"unix://{parts.path}", kind, (), "", url, {})
    hosts = _hosts(scheme, netloc, default_port=26379 if kind == "sentinel" else 6379)
    service, db = _service_and_db(scheme, kind, parts)
    databases = {db, *options.get("db", ())} - {""}
    if kind == "cluster" and databases - {"0"}:
        raise ValueError("names a database, and a cluster has only one: remove it")
    if len(databases) > 1:
        raise ValueError("names two databases: write one, at the end of the path or as the option db")
    names = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts)
    return RedisAddress(
        shown="/".join(part for part in (f"{scheme}://{names}", service, db) if part),
        kind=kind,
        hosts=hosts,
        service=service,
        client_url=_client_url(scheme, login, netloc.split(",")[0], db, options),
        sentinel_login={name: options[option][0] for option, name in _SENTINEL_LOGIN.items() if option in options},
    )


def options_for(scheme: str) -> tuple[str, ...]:
    """Return the names of the options that a URL of this scheme may have after its `?`."""
    kind = scheme.partition("+")[2]
    return tuple(
        name
        for name in _OPTIONS
        if (scheme.startswith("rediss") or not name.startswith("ssl_"))
        and (scheme != "unix" or name != "socket_keepalive")
        and (kind == "sentinel" or name not in _SENTINEL_LOGIN)
        and (kind != "cluster" or name not in _NOT_IN_A_CLUSTER)
    )


class _Option(Struct, frozen=True):
    rule: str
    accepts: Callable[[str], bool]


def _whole_number(text: str) -> bool:
    return re.fullmatch("[0-9]{1,9}", text) is not None


_TEXT = _Option("", lambda _text: True)
_BOOLEAN = _Option("true or false", lambda text: text.lower() in (*TRUE_WORDS, *FALSE_WORDS))

_OPTIONS: Mapping[str, _Option] = {
    "db": _Option("a whole number", _whole_number),
    "username": _TEXT,
    "password": _TEXT,
    # What `CLIENT SETNAME` accepts: https://redis.io/docs/latest/commands/client-setname/
    "client_name": _Option("ASCII without spaces", lambda text: re.fullmatch("[!-~]+", text) is not None),
    "max_connections": _Option("a whole number above 0", lambda text: _whole_number(text) and int(text) > 0),
    "health_check_interval": _Option("a whole number of seconds", _whole_number),
    "socket_keepalive": _BOOLEAN,
    "ssl_ca_certs": _TEXT,
    "ssl_ca_path": _TEXT,
    "ssl_certfile": _TEXT,
    "ssl_keyfile": _TEXT,
    "ssl_password": _TEXT,
    "ssl_cert_reqs": _Option(f"one of {', '.join(CERT_REQS)}", lambda text: text in CERT_REQS),
    "ssl_check_hostname": _BOOLEAN,
    "ssl_min_version": _Option(f"one of {', '.join(TLS_VERSIONS)} (TLS 1.0 to 1.3)", lambda text: text in TLS_VERSIONS),
    **dict.fromkeys(_SENTINEL_LOGIN, _TEXT),
}

_NOT_IN_A_CLUSTER = ("health_check_interval", "ssl_min_version")
"""redis-py's client of a cluster ignores them silently."""


def _split(scheme: str, url: str) -> tuple[SplitResult, dict[str, list[str]]]:
    try:
        parts = urlsplit(url)
        options = parse_qs(parts.query, strict_parsing=bool(parts.query), keep_blank_values=True)
    except ValueError:
        raise ValueError(f"is malformed: write {_FORMS[scheme]}; {_ESCAPE}") from None
    if values.has_control_characters(url):  # which `urlsplit` removes silently
        raise ValueError("must not contain line breaks or other control characters")
    if parts.fragment:
        raise ValueError(f"contains a #; {_ESCAPE}")
    return parts, options


def _check_options(scheme: str, options: Mapping[str, list[str]]) -> None:
    known = options_for(scheme)
    for name, given in options.items():
        if name not in known:
            # The name is not repeated: after an unescaped ? in a password it is a part of the password.
            raise ValueError(
                f"has an option that {scheme}:// does not have{values.nearest(name, known)}; it has {', '.join(known)};"
                f" {_ESCAPE}"
            )
        if len(given) > 1:
            raise ValueError(f"has the option {name} twice")
        if not given[0]:
            raise ValueError(f"has the option {name} without a value: remove it or give it one")
        if not _OPTIONS[name].accepts(given[0]):
            raise ValueError(f"has a value for {name} that is not {_OPTIONS[name].rule}")
    trusts_anyone = options.get("ssl_cert_reqs") == ["none"]
    if trusts_anyone and options.get("ssl_check_hostname", ["no"])[0].lower() in TRUE_WORDS:
        raise ValueError("has ssl_check_hostname, which needs the certificate that ssl_cert_reqs=none does not ask for")
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ValueError("has an ssl_keyfile, which needs the ssl_certfile that it belongs to")


def _hosts(scheme: str, netloc: str, default_port: int) -> tuple[tuple[str, int], ...]:
    hosts = []
    for each in netloc.split(","):
        try:
            host, port = values.host_and_port(each)
        except ValueError as error:
            raise ValueError(f"{error}; {_ESCAPE}") from None
        if not host and "+" in scheme:
            raise ValueError(f"names no host: write {_FORMS[scheme]}")
        hosts.append((host or "localhost", port or default_port))
    if len(hosts) > 1 and "+" not in scheme:
        raise ValueError(f"names several hosts: write {_FORMS[scheme]}, or use redis+sentinel:// or redis+cluster://")
    return tuple(hosts)


def _service_and_db(scheme: str, kind: str, parts: SplitResult) -> tuple[str, str]:
    """Return the parts of the path: Sentinel alone has a service, and needs one."""
    path = parts.path.strip("/")
    service, _, db = path.partition("/") if kind == "sentinel" else ("", "", path)
    service = unquote(service)
    if kind == "sentinel" and (not service or values.has_control_characters(service)):
        raise ValueError(f"names no service: write {_FORMS[scheme]}")
    if db and not _whole_number(db):
        raise ValueError(f"names a database that is not a whole number: write {_FORMS[scheme]}; {_ESCAPE}")
    return service, db


def _client_url(scheme: str, login: str, first_host: str, db: str, options: Mapping[str, list[str]]) -> str:
    query = urlencode({name: given[0] for name, given in options.items() if name not in _SENTINEL_LOGIN})
    at = f"{login}@" if login else ""
    return f"{scheme.partition('+')[0]}://{at}{first_host or 'localhost'}/{db}" + (f"?{query}" if query else "")
