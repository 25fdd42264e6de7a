"""The fleet tier with a real Redis: rows, their expiry, leases, forks."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.cache.redis.store import RedisLease
from redshift_secrets.cache.sealing import Seal
from tests.support.helpers import in_child
from tests.support.redis_servers import KEY, NOW, RedisServer, fleet_store, together, until

SECRET = b"the-password-that-aws-minted"
LATER = NOW + 600


@pytest.fixture(scope="module")
def server():
    with RedisServer() as server:
        yield server


@pytest.fixture
def admin(server):
    admin = server.admin()
    admin.flushall()
    return admin


@pytest.fixture
def store(server, admin):
    return fleet_store(server.url)


# --- rows


def test_another_host_reads_what_one_writes(server, store):
    store.replace("credential", {"a": SECRET, "b": b""}, LATER)
    assert fleet_store(server.url).read("credential", ["a", "b", "missing"]) == {"a": SECRET, "b": b""}
    assert store.read("another group", ["a"]) == {}
    assert store.read("credential", []) == {}


def test_replace_leaves_nothing_of_what_was_there(store):
    store.replace("g", {"old": b"1", "both": b"1"}, LATER)
    store.replace("g", {"both": b"2"}, LATER)
    assert store.read("g", ["old", "both"]) == {"both": b"2"}
    store.replace("g", {}, LATER)
    assert store.read("g", ["both"]) == {}


def test_readers_never_see_half_of_a_group(server, store):
    names = [f"conn_{number}" for number in range(1001)]
    versions = [{name: str(version).encode() for name in names} for version in range(8)]
    store.replace("catalog", versions[0], LATER)

    def write() -> None:
        for rows in versions[1:]:
            store.replace("catalog", rows, LATER)

    writer = threading.Thread(target=write)
    writer.start()
    reader = fleet_store(server.url)
    while writer.is_alive():
        assert reader.read("catalog", names) in versions
    writer.join()
    assert reader.read("catalog", names) == versions[-1]


def test_clear_removes_one_group_or_all_under_the_prefix_but_no_lease(server, store, admin):
    admin.set("somebody", "else")
    other = fleet_store(server.url, prefix="redshift-secret?:")
    for group in ("g1", "g2", "g3"):
        store.replace(group, {"a": b"1"}, LATER)
    other.replace("g1", {"a": b"other"}, LATER)
    assert store.try_lock("g3") is not None
    store.clear("g1")
    assert [store.read(group, ["a"]) for group in ("g1", "g2")] == [{}, {"a": b"1"}]
    store.clear()
    assert [store.read(group, ["a"]) for group in ("g2", "g3")] == [{}, {}]
    assert store.try_lock("g3") is None
    assert admin.get("somebody") == b"else"
    assert other.read("g1", ["a"]) == {"a": b"other"}
    other.clear()
    assert other.read("g1", ["a"]) == {}


def test_a_prefix_is_never_a_pattern(server, store):
    store.replace("g", {"a": b"1"}, LATER)
    for prefix in ("*", "redshift-secret?:", "[r]edshift-secrets:", "\\redshift-secrets:"):
        fleet_store(server.url, prefix=prefix).clear()
    assert store.read("g", ["a"]) == {"a": b"1"}


# --- sealing


def test_nothing_leaves_the_process_in_the_clear(server, store, admin):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.connect(str(server.path))
        listening.sendall(b"MONITOR\r\n")
        assert listening.recv(5) == b"+OK\r\n"
        store.replace("g", {"a": SECRET}, LATER)
        assert store.read("g", ["a"]) == {"a": SECRET}
        admin.echo("end of the recording")
        recorded = b""
        while b"end of the recording" not in recorded:
            recorded += listening.recv(65536)
    assert b'"HSET"' in recorded
    assert SECRET not in recorded
    assert all(SECRET not in value for value in admin.hgetall("redshift-secrets:{g}").values())


def test_a_row_that_was_moved_or_changed_is_ignored(store, admin, caplog):
    store.replace("g", {"a": SECRET, "b": b"2", "c": b"3"}, LATER)
    stored, key = admin.hgetall("redshift-secrets:{g}"), "redshift-secrets:{g}"
    admin.hset(key, "b", stored[b"a"])
    admin.hset(key, "c", stored[b"c"][:-9] + b"AAAAAAAA=")
    admin.hset("redshift-secrets:{h}", "a", stored[b"a"])
    assert store.read("g", ["a", "b", "c"]) == {"a": SECRET}
    assert store.read("h", ["a"]) == {}
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_rows_under_another_key_are_ignored_and_logged_once(server, store, caplog):
    store.replace("g", {"a": SECRET}, LATER)
    other = fleet_store(server.url, Fernet.generate_key().decode())
    assert other.read("g", ["a"]) == other.read("g", ["a"]) == {}
    (record,) = caplog.records
    assert "another key" in record.getMessage()
    assert KEY not in record.getMessage()


def test_rows_under_the_second_key_are_still_read(server, store):
    store.replace("g", {"a": SECRET}, LATER)
    rotated = fleet_store(server.url, Fernet.generate_key().decode(), KEY)
    assert rotated.read("g", ["a"]) == {"a": SECRET}


def test_a_key_of_another_type_reads_as_empty_and_is_overwritten(store, admin, caplog):
    admin.set("redshift-secrets:{g}", "a string")
    assert store.read("g", ["a"]) == {}
    store.replace("g", {"a": b"1"}, LATER)
    assert store.read("g", ["a"]) == {"a": b"1"}
    assert caplog.records == []


# --- expiry


def test_an_expired_row_is_ignored_even_if_the_server_still_has_it(server, store, admin):
    store.replace("g", {"a": b"1"}, NOW + 60)
    admin.persist("redshift-secrets:{g}")
    assert fleet_store(server.url, clock=lambda: NOW + 59.9).read("g", ["a"]) == {"a": b"1"}
    assert fleet_store(server.url, clock=lambda: NOW + 60).read("g", ["a"]) == {}


@pytest.mark.parametrize("writers_clock", [1000.0, NOW, 4e9], ids=["behind", "right", "ahead"])
def test_the_server_counts_down_the_time_left_by_the_clock_of_the_writer(server, admin, writers_clock):
    store = fleet_store(server.url, clock=lambda: writers_clock)
    store.replace("g", {"a": b"1"}, writers_clock + 600)
    assert 0 < admin.pttl("redshift-secrets:{g}") <= 600_000
    store.replace("g", {"a": b"1"}, writers_clock + 0.02)
    until(lambda: not admin.exists("redshift-secrets:{g}"))
    assert store.read("g", ["a"]) == {}  # although its own clock stands still


def test_a_group_that_has_already_expired_is_removed(store, admin):
    store.replace("g", {"a": b"1"}, LATER)
    store.replace("g", {"a": b"2"}, NOW)
    assert admin.keys() == []


# --- leases


def test_one_process_has_the_lease_until_it_releases_it(server, store):
    other = fleet_store(server.url)
    lease = store.try_lock("g")
    assert isinstance(lease, RedisLease)
    assert other.try_lock("g") is None
    assert store.try_lock("g") is None, "threads of one process exclude each other too"
    assert other.try_lock("another group") is not None
    lease.release()
    assert other.try_lock("g") is not None


def test_one_of_twenty_processes_gets_the_lease(server, store):
    store.read("g", ["a"])
    outcomes = together(20, lambda: store.try_lock("g") is not None)
    assert sorted(outcomes) == ["False"] * 19 + ["True"]


def test_the_lease_of_a_killed_process_expires(server, store, admin):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        lease = fleet_store(server.url, lease_seconds=1.0).try_lock("g")
        os.write(writer, b"y" if isinstance(lease, RedisLease) else b"n")
        time.sleep(600)
    assert os.read(reader, 1) == b"y"
    assert admin.pttl("redshift-secrets:{g}:lease") <= 1000
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    assert isinstance(until(lambda: store.try_lock("g")), RedisLease)


def test_an_expired_lease_does_not_release_the_next_one(server, store):
    late = fleet_store(server.url, lease_seconds=0.02).try_lock("g")
    assert isinstance(late, RedisLease)
    assert isinstance(until(lambda: store.try_lock("g")), RedisLease)
    late.release()
    assert store.try_lock("g") is None


def test_the_repr_of_a_lease_has_no_token(store, admin):
    lease = store.try_lock("g")
    assert admin.get("redshift-secrets:{g}:lease").decode() not in repr(lease)


# --- forks


def test_the_child_of_a_fork_cannot_release_the_lease_of_its_parent(store):
    lease = store.try_lock("g")
    in_child(lease.release)
    assert store.try_lock("g") is None
    lease.release()
    assert store.try_lock("g") is not None


def sockets() -> set[str]:
    folder = Path("/proc/self/fd")
    found = [os.readlink(folder / name) for name in os.listdir(folder) if (folder / name).is_symlink()]
    return {name for name in found if name.startswith("socket:")}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not list open files there")
def test_no_socket_crosses_a_fork(store):
    before = sockets()
    store.replace("g", {"a": SECRET}, LATER)
    store.try_lock("g").release()
    opened = sockets() - before
    assert len(opened) == 1
    assert in_child(lambda: opened & sockets()) == set()
    assert store.read("g", ["a"]) == {"a": SECRET}
    assert sockets() - before == opened, "the parent keeps its connection"


def test_fifty_children_of_a_connected_process_read_at_once(store):
    store.replace("g", {"a": SECRET}, LATER)
    assert together(50, lambda: store.read("g", ["a"]) == {"a": SECRET}) == ["True"] * 50
    assert store.read("g", ["a"]) == {"a": SECRET}


def test_a_fork_in_the_middle_of_a_call_harms_neither_process(store):
    store.replace("g", {"a": SECRET}, LATER)
    with store._client._lock:
        assert in_child(lambda: store.read("g", ["a"])) == {"a": SECRET}
    assert store.read("g", ["a"]) == {"a": SECRET}


def test_threads_share_a_store(store, caplog):
    caplog.set_level(logging.INFO)

    def work(number: int) -> None:
        for turn in range(10):
            store.replace(f"g{number}", {"a": b"%d" % turn}, LATER)
            assert store.read(f"g{number}", ["a"]) == {"a": b"%d" % turn}
            outcomes.append(number)

    outcomes: list[int] = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 80
    assert caplog.records == []


# --- for people


def test_describe_counts_the_groups_of_this_prefix(server, store, admin):
    admin.set("redshift-secrets:other", "1")
    fleet_store(server.url, prefix="another:").replace("g", {"a": b"1"}, LATER)
    for group in ("g1", "g2"):
        store.replace(group, {"a": b"1"}, LATER)
    store.try_lock("g1")
    info = store.describe()
    assert (info.groups, info.trouble) == (2, None)
    assert (info.url, info.key_fingerprint) == (server.url, Seal([KEY]).fingerprint)
