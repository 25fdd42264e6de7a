"""`cache.redis_url`: the URLs that are accepted, those that are refused, and that no password in them is ever shown."""

from __future__ import annotations

import inspect
import ssl
import sys
import traceback
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import cluster, connection
from rich.pretty import pretty_repr

from redshift_secrets.settings import redis_url

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")

ACCEPTED = {
    "redis://": "redis://localhost:6379",
    "redis://cache.example": "redis://cache.example:6379",
    "redis://cache_1.example.:6380/": "redis://cache_1.example.:6380",
    "redis://user:hunter2@cache.example:6380/2": "redis://cache.example:6380/2",
    "redis://:hunter2@[::1]:6380": "redis://[::1]:6380",
    "redis://cache.example?db=3&password=hunter2": "redis://cache.example:6379",
    "redis://cache.example/3?db=3": "redis://cache.example:6379/3",
    "redis://h?client_name=airflow&max_connections=5&health_check_interval=30&socket_keepalive=no": "redis://h:6379",
    "rediss://u:hunter2@h:1?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required": "rediss://h:1",
    "rediss://h:1?ssl_cert_reqs=none&ssl_check_hostname=False": "rediss://h:1",
    "rediss://h:1?ssl_min_version=772&ssl_certfile=/c.pem&ssl_keyfile=/k.pem": "rediss://h:1",
    "unix:///run/redis.sock?db=1": "unix:///run/redis.sock",
    "unix://user:hunter2@/run/redis.sock": "unix:///run/redis.sock",
    "redis+sentinel://u:hunter2@one,two:26380/main": "redis+sentinel://one:26379,two:26380/main",
    "redis+sentinel://one/main/2?sentinel_password=hunter2": "redis+sentinel://one:26379/main/2",
    "rediss+sentinel://one:1,two:2,three:3/main": "rediss+sentinel://one:1,two:2,three:3/main",
    "redis+cluster://u:hunter2@one:7000,two:7001": "redis+cluster://one:7000,two:7001",
    "rediss+cluster://one/0": "rediss+cluster://one:6379/0",
}

REFUSED = [
    ("", "must be a URL of Redis or Valkey that begins with one of redis, rediss, unix"),
    ("hunter2", "must be a URL"),
    (7, "must be a URL"),
    (["redis://user:hunter2@cache.example"], "must be a URL"),
    ("http://user:hunter2@cache.example", "must be a URL"),
    ("redis:/user:hunter2@cache.example", "must be a URL"),
    ("REDIS://user:hunter2@cache.example", "must be a URL"),
    ("redis+unix://user:hunter2@/path", "must be a URL"),
    (
        "redis://user:hunter2/x@cache.example",
        "has a port that is not a number from 1 to 65535; a password that contains",
    ),
    ("redis://user:hunter2?x@cache.example", "is malformed"),
    ("redis://user:hunter2#x@cache.example", "contains a #"),
    ("redis://user:7#hunter2@cache.example", "contains a #"),
    ("redis://user:[hunter2@cache.example", "is malformed"),
    ("redis://user:hunter2\u2100@cache.example", "is malformed"),
    ("redis://user:7?hunter2=1@cache.example", "has an option that redis:// does not have"),
    ("redis://user:hunter2@cache\n.example", "must not contain line breaks"),
    ("redis://user:hunter2@cache\0.example", "must not contain line breaks or other control characters"),
    ("redis://user:hunter2@cache.example:99999", "has a port that is not a number from 1 to 65535"),
    ("redis://user:hunter2@cache.example:0", "has a port that is not a number from 1 to 65535"),
    ("redis://h:notaport/0", "has a port that is not a number from 1 to 65535"),
    ("redis://user:hunter2@cache..example", "has a host that is neither a host name nor an IP address"),
    ("redis://user:hunter2@cache example", "has a host that is neither a host name nor an IP address"),
    ("redis://user:hunter2@" + "h" * 64, "has a host that is neither a host name nor an IP address"),
    ("redis://h/one", "names a database that is not a whole number: write redis://[user:password@]host[:port][/db]"),
    ("redis://user:hunter2@cache.example/1/2", "names a database that is not a whole number"),
    ("redis://user:hunter2@cache.example?db=one", "has a value for db that is not a whole number"),
    ("redis://user:hunter2@cache.example?db=-1", "has a value for db that is not a whole number"),
    ("redis://user:hunter2@cache.example?db=1&db=2", "has the option db twice"),
    ("redis://user:hunter2@cache.example/1?db=2", "names two databases"),
    ("redis://user:hunter2@cache.example?password=", "has the option password without a value"),
    ("redis://user:hunter2@cache.example?hunter2=1", "has an option that redis:// does not have; it has db, username"),
    ("rediss://h/0?nonsense=1", "has an option that rediss:// does not have"),
    ("rediss://h/0?ssl_ca_cert=/ca.pem", "does not have (did you mean 'ssl_ca_certs'?)"),
    ("redis://user:hunter2@cache.example?socket_timeout=60", "has an option that redis:// does not have"),
    ("redis://user:hunter2@h?sentinel_password=hunter2", "has an option that redis:// does not have"),
    ("redis://user:hunter2@h?ssl_ca_certs=/ca.pem", "has an option that redis:// does not have"),
    ("unix:///run/redis.sock?socket_keepalive=true", "has an option that unix:// does not have"),
    ("redis+cluster://h?health_check_interval=30", "has an option that redis+cluster:// does not have"),
    ("rediss+cluster://h?ssl_min_version=771", "has an option that rediss+cluster:// does not have"),
    ("redis://h?socket_keepalive=hunter2", "has a value for socket_keepalive that is not true or false"),
    ("redis://h?client_name=hunter2%20x", "has a value for client_name that is not ASCII without spaces"),
    ("redis://h?max_connections=0", "has a value for max_connections that is not a whole number above 0"),
    ("redis://h?health_check_interval=1.5", "that is not a whole number of seconds"),
    ("rediss://h?ssl_cert_reqs=hunter2", "has a value for ssl_cert_reqs that is not one of none, optional, required"),
    ("rediss://h?ssl_check_hostname=off", "has a value for ssl_check_hostname that is not true or false"),
    ("rediss://h?ssl_min_version=1.2", "that is not one of 769, 770, 771, 772 (TLS 1.0 to 1.3)"),
    ("rediss://h?ssl_cert_reqs=none&ssl_check_hostname=true", "which needs the certificate that ssl_cert_reqs=none"),
    ("rediss://h?ssl_keyfile=/hunter2.pem", "has an ssl_keyfile, which needs the ssl_certfile"),
    ("redis://user:hunter2@one,two", "names several hosts"),
    ("unix://user:hunter2@", "has no path of a socket"),
    ("unix://run/hunter2.sock", "has no path of a socket"),
    ("unix:///run/hunter2%00.sock", "has no path of a socket"),
    (
        "redis+sentinel://h",
        "names no service: write redis+sentinel://[user:password@]host[:port][,host...]/service[/db]",
    ),
    ("redis+sentinel://user:hunter2@one,two", "names no service"),
    ("redis+sentinel://user:hunter2@/main", "names no host"),
    ("redis+sentinel://user:hunter2@one/main/db", "names a database that is not a whole number"),
    ("redis+cluster://user:hunter2@", "names no host"),
    ("redis+cluster://user:hunter2@one/1", "names a database, and a cluster has only one"),
    ("redis+cluster://user:hunter2@one?db=1", "names a database, and a cluster has only one"),
]


@pytest.mark.parametrize(("url", "shown"), ACCEPTED.items())
@pytest.mark.parametrize("show", [repr, str, pretty_repr], ids=["repr", "str", "rich"])
def test_an_accepted_url_is_shown_without_user_password_and_options(
    url: str, shown: str, show: Callable[[object], str]
):
    address = redis_url.parse(f" {url} ")
    assert address.shown == shown
    assert "".join(show(address).split()) == f"RedisAddress(shown={shown!r})"


@pytest.mark.parametrize(("url", "reason"), REFUSED)
def test_a_refused_url_is_never_repeated(url: object, reason: str):
    with pytest.raises(ValueError, match=r"^(must|has|is|names|contains) ") as caught:
        redis_url.parse(url)
    assert reason in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_the_message_names_every_scheme():
    with pytest.raises(ValueError, match="one of ") as caught:
        redis_url.parse("memcached://cache.example")
    assert f"one of {', '.join(SCHEMES)} and ://" in str(caught.value)


MARK = "Zq9x"


@given(st.text(max_size=12), st.sampled_from(["redis", "rediss", "redis+cluster", "unix", "redis+sentinel"]))
def test_no_password_whatever_it_contains_is_shown_or_quoted(tail: str, scheme: str):
    try:
        address = redis_url.parse(f"{scheme}://user:{MARK}{tail}@{'' if scheme == 'unix' else 'host'}/0")
        seen = address.shown + repr(address)
    except ValueError as error:
        seen = "".join(traceback.format_exception(error))
    assert MARK not in seen


def test_a_url_is_checked_without_redis_py(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    for url in ACCEPTED:
        redis_url.parse(url)


# --- the names and values here are those of redis-py


def parameters(connection_class: type) -> set[str]:
    classes = [each for each in connection_class.__mro__ if "__init__" in vars(each)]
    return {name for each in classes for name in inspect.signature(each.__init__).parameters}


NEEDS = {
    "rediss+cluster": pytest.mark.skipif(
        "ssl_ca_path" not in cluster.REDIS_ALLOWED_KEYS, reason="redis-py before 7.2 takes no ssl_ca_path in a cluster"
    )
}
CONNECTIONS = {
    "redis": connection.Connection,
    "rediss": connection.SSLConnection,
    "unix": connection.UnixDomainSocketConnection,
}


@pytest.mark.parametrize(
    "scheme", [pytest.param(scheme, marks=NEEDS[scheme]) if scheme in NEEDS else scheme for scheme in SCHEMES]
)
def test_redis_py_accepts_the_options_of_each_scheme(scheme: str):
    accepted = parameters(CONNECTIONS[scheme.partition("+")[0]])
    accepted |= set(inspect.signature(connection.ConnectionPool.__init__).parameters)
    if scheme.endswith("+sentinel"):
        accepted |= {"sentinel_username", "sentinel_password"}
    if scheme.endswith("+cluster"):
        # `db` may only be 0, and is left out.
        accepted = set(cluster.REDIS_ALLOWED_KEYS) & (accepted | {"db"})
    assert set(redis_url.options_for(scheme)) <= accepted


def test_the_words_for_booleans_mean_the_same_to_redis_py():
    assert [connection.to_bool(word) for word in redis_url.FALSE_WORDS] == [False] * len(redis_url.FALSE_WORDS)
    assert [connection.to_bool(word) for word in redis_url.TRUE_WORDS] == [True] * len(redis_url.TRUE_WORDS)
    assert {word.lower() for word in connection.FALSE_STRINGS} == set(redis_url.FALSE_WORDS)


@pytest.mark.parametrize("word", redis_url.CERT_REQS)
def test_redis_py_knows_every_choice_of_ssl_cert_reqs(word: str):
    known = connection.SSLConnection(ssl_cert_reqs=word, ssl_check_hostname=False)
    assert known.cert_reqs == ssl.VerifyMode[f"CERT_{word.upper()}"]


def test_python_knows_every_choice_of_ssl_min_version():
    assert [ssl.TLSVersion(int(number)).name for number in redis_url.TLS_VERSIONS] == [
        "TLSv1",
        "TLSv1_1",
        "TLSv1_2",
        "TLSv1_3",
    ]


@pytest.mark.parametrize("url", ACCEPTED)
def test_redis_py_parses_every_accepted_url(url: str):
    address = redis_url.parse(url)
    options = connection.parse_url(address.client_url)
    assert options.get("host", "localhost") == (address.hosts[0][0] if address.hosts else "localhost")
    assert not address.hosts or options.get("port", address.hosts[0][1]) == address.hosts[0][1]
