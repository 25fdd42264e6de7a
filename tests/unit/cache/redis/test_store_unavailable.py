"""The fleet tier while its server is down, slow, full, read-only, locked or not a Redis: never an error.

Patience is counted by the clock of each test, which a slow server advances itself.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from redshift_secrets.cache.redis import client as redis_client
from redshift_secrets.cache.store import FreeLease
from tests.support.fakes import Clock
from tests.support.helpers import BOUND, Crowd, all_refreshes_done, in_child
from tests.support.redis_servers import (
    NOW,
    PATIENT,
    FakeServer,
    RedisServer,
    fleet_store,
    free_port,
    tls_in_front_of,
    until,
)

LATER = NOW + 600


class Unavailable:
    """A store, the clock of its patience and back-off, and everything it logs."""

    def __init__(self, url: str, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        self._caplog = caplog
        self._clock = clock
        self.store = fleet_store(url, monotonic=clock)

    def logged(self) -> list[tuple[str, str]]:
        records = [record for record in self._caplog.records if record.name.startswith("redshift_secrets")]
        return [(record.levelname, record.getMessage()) for record in records]

    def reads_as_empty(self) -> None:
        """Make every call of the protocol: none raises or finds anything."""
        assert self.store.read("g", ["a"]) == {}
        self.store.replace("g", {"a": b"1"}, LATER)
        leases = [self.store.try_lock("g"), self.store.try_lock("g")]
        assert [type(lease) for lease in leases] == [FreeLease, FreeLease]
        for lease in leases:
            lease.release()
        self.store.clear("g")
        self.store.clear()


@pytest.fixture
def unavailable(clock: Clock, caplog, monkeypatch):
    monkeypatch.setattr(redis_client, "_CHECKS_PER_CALL", 1000)  # so that patience that is used up is noticed soon
    monkeypatch.setattr(redis_client, "_queued_seconds", lambda _thread_id: 0.0)  # that would be real time
    return lambda url: Unavailable(url, clock, caplog)


def close_at_once(sock: socket.socket, _clock: Clock) -> None:
    sock.close()


def speak_http(sock: socket.socket, _clock: Clock) -> None:
    sock.recv(4096)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def answer_with_numbers(sock: socket.socket, _clock: Clock) -> None:
    while received := sock.recv(4096):
        sock.sendall(b"*1\r\n:7\r\n" if b"HMGET" in received else b"+OK\r\n" * received.count(b"*"))


def quote_the_password(sock: socket.socket, _clock: Clock) -> None:
    while received := sock.recv(4096):
        sock.sendall(b"-ERR unknown command, with args beginning with: " + received.replace(b"\r\n", b" ") + b"\r\n")


def never_answer(sock: socket.socket, clock: Clock) -> None:
    if sock.recv(4096):
        clock.pass_(PATIENT)
    while sock.recv(4096):
        pass


def never_finish_the_answer(sock: socket.socket, clock: Clock) -> None:
    if sock.recv(4096):
        clock.pass_(PATIENT)
    while True:
        sock.sendall(b"+" + b"a" * 1000)


Talk = Callable[[socket.socket, Clock], None]
every_talk = pytest.mark.parametrize(
    "talk",
    [close_at_once, speak_http, answer_with_numbers, quote_the_password, never_answer, never_finish_the_answer],
    ids=lambda talk: talk.__name__,
)


@every_talk
def test_a_server_that_fails_is_tried_once_per_back_off_and_logged_once(unavailable, clock: Clock, talk: Talk):
    with FakeServer(lambda sock: talk(sock, clock)) as fake:
        it = unavailable(f"redis://user:hunter2@127.0.0.1:{fake.port}/3")
        it.reads_as_empty()
        assert fake.connections() == 1
        clock.pass_(29.9)
        it.reads_as_empty()
        assert fake.connections() == 1
        clock.pass_(0.2)
        it.reads_as_empty()
        assert fake.connections() == 2
        all_refreshes_done()  # the threads that were left behind have ended, though the server would continue for ever
    ((level, message),) = it.logged()
    assert level == "WARNING"
    assert message.startswith(f"Redis at redis://127.0.0.1:{fake.port}/3 is unavailable: ")
    assert message.endswith(". Lookups continue without it; next attempt in 30 s")


@every_talk
def test_no_log_line_at_any_level_has_the_password(unavailable, clock: Clock, caplog, talk: Talk):
    with FakeServer(lambda sock: talk(sock, clock)) as fake:
        it = unavailable(f"redis://user:hunter2@127.0.0.1:{fake.port}/0")
        it.reads_as_empty()
        info = it.store.describe()
    assert "hunter2" not in caplog.text + repr(it.store) + repr(info) + repr(it.store.try_lock("g"))
    assert it.logged()


def test_of_many_threads_one_finds_out_whether_it_is_available_again(unavailable, clock: Clock):
    with FakeServer(lambda sock: sock.close()) as fake:
        it = unavailable(fake.url)
        it.store.read("g", ["a"])
        clock.pass_(31)
        assert Crowd(16, lambda: it.store.read("g", ["a"])).outcomes() == [{}] * 16
        assert fake.connections() == 2


def test_many_threads_that_fail_together_log_it_once(unavailable):
    with FakeServer(lambda sock: sock.close()) as fake:
        it = unavailable(fake.url)
        assert Crowd(16, lambda: it.store.read("g", ["a"])).outcomes() == [{}] * 16
    assert len(it.logged()) == 1


def test_the_child_of_a_fork_does_not_try_during_the_back_off_of_its_parent(unavailable):
    with FakeServer(lambda sock: sock.close()) as fake:
        it = unavailable(fake.url)
        it.store.read("g", ["a"])
        assert in_child(lambda: it.store.read("g", ["a"])) == {}
        assert fake.connections() == 1


def test_a_name_server_that_does_not_answer_is_bounded_too(unavailable, clock: Clock, monkeypatch):
    resolved = threading.Event()
    received = []

    with FakeServer(lambda sock: received.append(sock.recv(4096))) as fake:

        def getaddrinfo(*_args: object) -> list[object]:
            clock.pass_(PATIENT)
            resolved.wait()
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", fake.port))]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        it = unavailable("redis://:hunter2@redis.example:6379/0")
        it.reads_as_empty()
        resolved.set()
        all_refreshes_done()
        assert until(lambda: received) == [b""], "a connection that comes too late sends nothing"
    assert [(level, ": no answer within 20 s. " in message) for level, message in it.logged()] == [("WARNING", True)]


def test_time_spent_waiting_for_a_processor_does_not_count(unavailable, clock: Clock, monkeypatch):
    checks = threading.Semaphore(0)

    def queued_for_an_hour(_thread_id: int) -> float:
        checks.release()
        return 3600.0

    def answer_after_the_patience(sock: socket.socket) -> None:
        while sock.recv(4096):
            clock.pass_(2 * PATIENT)
            for _ in range(3):
                assert checks.acquire(timeout=BOUND)
            sock.sendall(b"+OK\r\n")

    monkeypatch.setattr(redis_client, "_queued_seconds", queued_for_an_hour)
    with FakeServer(answer_after_the_patience) as fake:
        it = unavailable(fake.url)
        lease = it.store.try_lock("g")
        assert it.logged() == []
        lease.release()
        assert it.logged() == []


def test_a_thread_that_has_ended_waits_for_no_processor():
    assert redis_client._queued_seconds(-1) == 0.0


def test_a_server_that_is_suspended_and_continues_is_used_again(unavailable, clock: Clock, monkeypatch):
    with RedisServer() as server:
        it = unavailable(server.url)
        server.pause()
        with monkeypatch.context() as patch:
            patch.setattr(
                redis_client, "_queued_seconds", lambda _thread_id: -PATIENT
            )  # its patience is used up at once
            assert it.store.read("g", ["a"]) == {}
        it.reads_as_empty()
        server.resume()
        clock.pass_(31)
        it.store.replace("g", {"a": b"1"}, LATER)
        assert it.store.read("g", ["a"]) == {"a": b"1"}
    assert [level for level, _ in it.logged()] == ["WARNING", "INFO"]
    assert it.logged()[1][1] == f"Redis at {server.url} is available again"


def test_a_server_that_was_restarted_between_two_calls_is_not_unavailable(unavailable):
    port = free_port()
    with RedisServer(port=port):
        it = unavailable(f"redis://127.0.0.1:{port}")
        it.store.replace("g", {"a": b"1"}, LATER)
    with RedisServer(port=port):
        assert it.store.read("g", ["a"]) == {}
        it.store.replace("g", {"a": b"2"}, LATER)
        assert it.store.read("g", ["a"]) == {"a": b"2"}
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
        assert it.store.read("g", ["a"]) == {}
        assert isinstance(it.store.try_lock("g"), FreeLease)
        clock.pass_(31)
        admin.config_set("maxmemory", 0)
        assert it.store.read("g", ["a"]) == {"a": b"1"}
    assert ["maxmemory" in message for _, message in it.logged()] == [True, False]


def test_a_replica_can_be_read_but_not_written(unavailable):
    with RedisServer("--replicaof", "127.0.0.1", str(free_port())) as server:
        it = unavailable(server.url)
        assert it.store.read("g", ["a"]) == {}
        assert it.logged() == []
        it.reads_as_empty()
    ((_, message),) = it.logged()
    assert "replica" in message


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


def test_a_certificate_that_cannot_be_trusted_is_logged(unavailable):
    with RedisServer() as server, tls_in_front_of(server.path) as (front, _authority):
        it = unavailable(f"rediss://:hunter2@localhost:{front.port}")
        it.reads_as_empty()
    ((_, message),) = it.logged()
    assert "TLS failed" in message
    assert "hunter2" not in message


def test_tls_with_a_server_that_does_not_speak_it_is_logged(unavailable, clock: Clock):
    with FakeServer(lambda sock: speak_http(sock, clock)) as fake:
        it = unavailable(f"rediss://localhost:{fake.port}")
        it.reads_as_empty()
    assert ["TLS failed" in message for _, message in it.logged()] == [True]


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
