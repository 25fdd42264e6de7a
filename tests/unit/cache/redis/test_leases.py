"""The leases of the fleet tier, with a real Redis."""

from __future__ import annotations

import os
import signal
import time

import pytest

from redshift_secrets.cache.redis.store import RedisLease
from tests.support.helpers import Crowd, in_child
from tests.support.redis_servers import fleet_store, together, until


def test_one_process_has_the_lease_until_it_releases_it(server, store):
    other = fleet_store(server.url)
    lease = store.try_lock("g")
    assert isinstance(lease, RedisLease)
    assert other.try_lock("g") is None
    assert store.try_lock("g") is None, "threads of one process exclude each other too"
    assert not other.is_taken("g"), "to ask would be a round trip"
    assert other.try_lock("another group") is not None
    lease.release()
    assert other.try_lock("g") is not None


def test_one_of_twenty_processes_gets_the_lease(server, store):
    store.read({"g": ["a"]})["g"]
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


@pytest.mark.attempt("stop every mint with a lease that does not end")
@pytest.mark.parametrize("put", ["without an end", "with an end too late", "of another type"])
def test_what_can_be_no_lease_holds_nobody_up(store, admin, put):
    key = "redshift-secrets:{g}:lease"
    if put == "of another type":
        admin.hset(key, "a", "b")
    else:
        admin.set(key, "somebody", px=None if put == "without an end" else 3_600_000)
    assert isinstance(store.try_lock("g"), RedisLease)
    assert 0 < admin.pttl(key) <= 600_000
    assert store.try_lock("g") is None, "the lease that was taken is one"


@pytest.mark.parametrize("end", ["renew", "release"])
def test_a_lease_that_something_of_another_type_replaced_has_ended_and_the_server_is_well(store, admin, caplog, end):
    lease = store.try_lock("g")
    admin.delete("redshift-secrets:{g}:lease")
    admin.rpush("redshift-secrets:{g}:lease", "a")
    getattr(lease, end)()
    assert caplog.records == []
    assert isinstance(store.try_lock("g"), RedisLease)


def test_a_renewed_lease_lasts_as_long_as_a_new_one(store, admin):
    lease = store.try_lock("g")
    admin.pexpire("redshift-secrets:{g}:lease", 500)
    lease.renew()
    assert 590_000 < admin.pttl("redshift-secrets:{g}:lease") <= 600_000


def test_an_expired_lease_renews_neither_itself_nor_the_next_one(store, admin):
    late = store.try_lock("g")
    admin.delete("redshift-secrets:{g}:lease")
    late.renew()
    assert not admin.exists("redshift-secrets:{g}:lease")
    assert isinstance(store.try_lock("g"), RedisLease)
    admin.pexpire("redshift-secrets:{g}:lease", 500)
    late.renew()
    assert admin.pttl("redshift-secrets:{g}:lease") <= 500


def test_another_thread_may_renew_and_release_a_lease(store, admin):
    lease = store.try_lock("g")
    admin.pexpire("redshift-secrets:{g}:lease", 500)
    assert Crowd(1, lease.renew).outcomes() == [None]
    assert admin.pttl("redshift-secrets:{g}:lease") > 500
    assert Crowd(1, lease.release).outcomes() == [None]
    assert not admin.exists("redshift-secrets:{g}:lease")


def test_the_repr_of_a_lease_has_no_token(store, admin):
    lease = store.try_lock("g")
    assert admin.get("redshift-secrets:{g}:lease").decode() not in repr(lease)


def test_the_child_of_a_fork_can_neither_renew_nor_release_the_lease_of_its_parent(store, admin):
    lease = store.try_lock("g")
    admin.pexpire("redshift-secrets:{g}:lease", 100_000)
    in_child(lease.renew)
    assert admin.pttl("redshift-secrets:{g}:lease") <= 100_000
    in_child(lease.release)
    assert store.try_lock("g") is None
    lease.release()
    assert store.try_lock("g") is not None
