"""The fleet tier while its server is down, suspended, full, read-only or locked: never an error."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import redshift_secrets
from redshift_secrets.cache.flushes import flush
from redshift_secrets.cache.redis.threads import ThreadCall
from redshift_secrets.cache.store import FreeLease
from tests.support.fakes import Clock
from tests.support.redis_servers import NOW, PATIENT, RedisServer, fleet_store, free_port, tls_in_front_of

LATER = NOW + 600


def test_a_server_that_is_suspended_and_continues_is_used_again(unavailable, clock: Clock, monkeypatch):
    with RedisServer() as server:
        it = unavailable(server.url)
        server.pause()
        with monkeypatch.context() as patch:
            patch.setattr(ThreadCall, "queued_seconds", lambda _call: -PATIENT)  # its patience is used up at once
            assert it.store.read({"g": ["a"]})["g"] == {}
        it.reads_as_empty()
        server.resume()
        clock.pass_(31)
        it.store.replace("g", {"a": b"1"}, LATER)
        assert it.store.read({"g": ["a"]})["g"] == {"a": b"1"}
    assert [level for level, _ in it.logged()] == ["WARNING", "INFO"]
    assert it.logged()[1][1] == f"Redis at {server.url} is available again"


def test_a_server_that_was_restarted_between_two_calls_is_not_unavailable(unavailable):
    port = free_port()
    with RedisServer(port=port):
        it = unavailable(f"redis://127.0.0.1:{port}")
        it.store.replace("g", {"a": b"1"}, LATER)
    with RedisServer(port=port):
        assert it.store.read({"g": ["a"]})["g"] == {}
        it.store.replace("g", {"a": b"2"}, LATER)
        assert it.store.read({"g": ["a"]})["g"] == {"a": b"2"}
    assert it.logged() == []


def test_a_refused_connection_is_logged_in_the_words_of_the_system(unavailable):
    it = unavailable(f"redis://:hunter2@127.0.0.1:{free_port()}")
    it.reads_as_empty()
    ((_, message),) = it.logged()
    assert "is unavailable: Connection refused. Lookups continue" in message
    assert "hunter2" not in message


def test_a_full_server_drops_writes_and_keeps_what_it_has(unavailable, clock: Clock):
    with RedisServer("--maxmemory-policy", "noeviction") as server, server.admin() as admin:
        it = unavailable(server.url)
        it.store.replace("g", {"a": b"1"}, LATER)
        admin.config_set("maxmemory", 1)
        it.store.replace("g", {"a": b"2"}, LATER)
        assert it.store.read({"g": ["a"]})["g"] == {}
        assert isinstance(it.store.try_lock("g"), FreeLease)
        clock.pass_(31)
        admin.config_set("maxmemory", 0)
        assert it.store.read({"g": ["a"]})["g"] == {"a": b"1"}
    assert ["maxmemory" in message for _, message in it.logged()] == [True, False]


def test_a_replica_can_be_read_but_not_written(unavailable):
    with RedisServer("--replicaof", "127.0.0.1", str(free_port())) as server:
        it = unavailable(server.url)
        assert it.store.read({"g": ["a"]})["g"] == {}
        assert it.logged() == []
        it.reads_as_empty()
    ((_, message),) = it.logged()
    assert "replica" in message


def test_what_cannot_be_removed_is_not_said_to_be(unavailable, clock: Clock):
    with RedisServer() as server, server.admin() as admin:
        it = unavailable(server.url)
        it.store.replace("g", {"a": b"1"}, LATER)
        admin.replicaof("127.0.0.1", str(free_port()))
        for groups in (["g"], None):
            assert "replica" in (flush(it.store, groups) or "")
            clock.pass_(31)
        admin.replicaof("NO", "ONE")
        assert it.store.read({"g": ["a"]})["g"] == {"a": b"1"}
        assert flush(it.store, ["g"]) is None
        assert it.store.read({"g": ["a"]})["g"] == {}


def test_what_may_not_be_removed_is_not_said_to_be(unavailable):
    with RedisServer() as server, server.admin() as admin:
        fleet_store(server.url).replace("g", {"a": b"1"}, LATER)
        admin.execute_command("ACL", "SETUSER", "airflow", "on", ">hunter2", "~*", "+@all", "-del")
        it = unavailable(f"unix://airflow:hunter2@{server.path}")
        assert "access rules" in (flush(it.store, ["g"]) or "")
        assert fleet_store(server.url).read({"g": ["a"]})["g"] == {"a": b"1"}


def test_a_full_server_is_emptied_where_it_has_no_room_for_the_mark(unavailable):
    with RedisServer("--maxmemory-policy", "noeviction") as server, server.admin() as admin:
        it = unavailable(server.url)
        it.store.replace("g", {"a": b"1"}, LATER)
        admin.config_set("maxmemory", 1)
        assert "maxmemory" in (flush(it.store) or "")
        assert it.store.read({"g": ["a"]})["g"] == {}
        assert admin.keys() == []
    assert it.logged() == []


def test_what_is_not_tried_during_the_back_off_is_not_said_to_be_gone(unavailable, clock: Clock):
    port = free_port()
    it = unavailable(f"redis://127.0.0.1:{port}")
    assert it.store.read({"g": ["a"]})["g"] == {}
    with RedisServer(port=port) as server:
        fleet_store(server.url).replace("g", {"a": b"1"}, LATER)
        assert flush(it.store, ["g"]) == os.strerror(errno.ECONNREFUSED)
        clock.pass_(31)
        assert it.store.read({"g": ["a"]})["g"] == {"a": b"1"}
        assert flush(it.store, ["g"]) is None
        assert it.store.read({"g": ["a"]})["g"] == {}


@contextlib.contextmanager
def locked_server() -> Iterator[RedisServer]:
    with RedisServer() as server, server.admin() as admin:
        admin.execute_command("ACL", "SETUSER", "airflow", "on", ">hunter2", "~another:*", "+@all")
        admin.config_set("requirepass", "correct-horse")
        yield server


@pytest.mark.parametrize("login", ["", "airflow:wrong-horse@", ":wrong-horse@"])
def test_a_wrong_password_is_logged_without_it(unavailable, caplog, login):
    with locked_server() as server:
        it = unavailable(f"unix://{login}{server.path}")
        it.reads_as_empty()
        info = it.store.describe()
    assert [level for level, _ in it.logged()] == ["WARNING"]
    assert info.trouble
    assert "wrong-horse" not in caplog.text + repr(info)


def test_a_missing_access_rule_is_logged(unavailable):
    with locked_server() as server:
        it = unavailable(f"unix://airflow:hunter2@{server.path}")
        it.reads_as_empty()
        ((_, message),) = it.logged()
        assert "access rules" in message
        assert "access rules" not in (it.store.describe().trouble or "")


def test_the_access_rules_of_the_page_allow_everything_that_is_needed(unavailable):
    page = Path(redshift_secrets.__file__).parents[1] / "docs" / "security.md"
    (rules,) = re.findall(r"`ACL SETUSER (.*?)`", page.read_text(encoding="utf-8"))
    with RedisServer() as server, server.admin() as admin:
        admin.execute_command("ACL", "SETUSER", *rules.split())
        it = unavailable(f"unix://airflow:PASSWORD@{server.path}")
        lease = it.store.try_lock("g")
        assert it.store.try_lock("g") is None
        it.store.replace("g", {"a": b"1"}, LATER)
        assert it.store.read({"g": ["a"]}) == {"g": {"a": b"1"}}
        lease.renew()
        lease.release()
        assert it.store.try_lock("g") is not None
        it.store.mark_flushed()
        assert it.store.flush_mark() is not None
        assert it.store.describe().groups == 1
        it.store.clear("g")
        it.store.clear()
    assert it.logged() == []


def test_a_group_that_the_access_rules_forbid_takes_no_other_with_it(unavailable):
    with RedisServer() as server, server.admin() as admin:
        fleet_store(server.url).replace("g", {"a": b"1"}, LATER)
        admin.execute_command("ACL", "SETUSER", "airflow", "on", ">hunter2", "~redshift-secrets:{g}", "+@all")
        it = unavailable(f"unix://airflow:hunter2@{server.path}")
        for _ in range(2):
            assert it.store.read({"forbidden": ["a"], "g": ["a"]}) == {"forbidden": {}, "g": {"a": b"1"}}
    assert [("access rules" in message, level) for level, message in it.logged()] == [(True, "WARNING")]


@pytest.mark.attempt("pose as Redis")
def test_a_certificate_that_cannot_be_trusted_is_logged(unavailable):
    with RedisServer() as server, tls_in_front_of(server.path) as (front, _authority):
        it = unavailable(f"rediss://:hunter2@localhost:{front.port}")
        it.reads_as_empty()
    ((_, message),) = it.logged()
    assert "TLS failed" in message
    assert "hunter2" not in message


def test_without_redis_py_the_log_says_what_to_install(unavailable, monkeypatch):
    it = unavailable("redis://127.0.0.1")
    monkeypatch.setitem(sys.modules, "redis", None)
    it.reads_as_empty()
    assert [("pip install" in message and "redshift-secrets[redis]" in message) for _, message in it.logged()] == [True]


def test_describe_tries_even_during_the_back_off_and_reports_why_it_failed(unavailable):
    server = RedisServer()
    server.stop()
    it = unavailable(server.url)
    it.reads_as_empty()
    info = it.store.describe()
    assert info.groups is None
    assert info.trouble == os.strerror(errno.ENOENT)
