"""The fleet tier while its server is down, slow, full, read-only, locked or no Redis at all: never an error."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator

import pytest

from redshift_secrets.cache.redis import client as redis_client
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
IMPATIENT = 0.1


class Away:
    """A store and the clock of its back-off, with all that is logged from level info up."""

    def __init__(self, url: str, caplog: pytest.LogCaptureFixture, **options: object) -> None:
        caplog.set_level(logging.DEBUG)
        self._caplog = caplog
        self.clock = Clock(100.0)
        self.store = fleet_store(url, monotonic=self.clock, **options)

    def said(self) -> list[tuple[str, str]]:
        ours = [record for record in self._caplog.records if record.name.startswith("redshift_secrets")]
        return [(record.levelname, record.getMessage()) for record in ours]

    def answers_as_nothing(self) -> None:
        """Every call of the protocol, and none of them raises or finds anything."""
        assert self.store.read("g", ["a"]) == {}
        self.store.replace("g", {"a": b"1"}, LATER)
        claims = [self.store.claim("g"), self.store.claim("g")]
        assert None not in claims, "too many renewals are better than none"
        for claim in claims:
            claim.release()
        self.store.clear("g")
        self.store.clear()


@pytest.fixture
def away(caplog):
    return lambda url, **options: Away(url, caplog, **options)


def close_at_once(sock: socket.socket) -> None:
    sock.close()


def say_nothing(sock: socket.socket) -> None:
    while sock.recv(4096):
        pass


def talk_of_something_else(sock: socket.socket) -> None:
    sock.recv(4096)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def answer_with_numbers(sock: socket.socket) -> None:
    while heard := sock.recv(4096):
        sock.sendall(b"*1\r\n:7\r\n" if b"HMGET" in heard else b"+OK\r\n" * heard.count(b"*"))


def never_come_to_an_end(sock: socket.socket) -> None:
    sock.recv(4096)
    while True:
        sock.sendall(b"+" + b"a" * 1000)


def quote_the_password(sock: socket.socket) -> None:
    while heard := sock.recv(4096):
        sock.sendall(b"-ERR unknown command, with args beginning with: " + heard.replace(b"\r\n", b" ") + b"\r\n")


BAD = [close_at_once, talk_of_something_else, answer_with_numbers, quote_the_password]
SLOW = [say_nothing, never_come_to_an_end]


@pytest.mark.parametrize("talk", [*BAD, *SLOW], ids=lambda talk: talk.__name__)
def test_what_is_no_good_is_asked_once_in_a_back_off_and_said_once(away, talk):
    with FakeServer(talk) as fake:
        url = f"redis://user:hunter2@127.0.0.1:{fake.port}/3"
        it = away(url, patience_seconds=IMPATIENT if talk in SLOW else PATIENT)
        it.answers_as_nothing()
        assert fake.connections() == 1
        it.clock.pass_(29.9)
        it.answers_as_nothing()
        assert fake.connections() == 1
        it.clock.pass_(0.2)
        it.answers_as_nothing()
        assert fake.connections() == 2
        all_refreshes_done()  # what was left behind has ended, though the server would go on for ever
    ((level, message),) = it.said()
    assert (level, "is away" in message, f"127.0.0.1:{fake.port}/3" in message) == ("WARNING", True, True)


@pytest.mark.parametrize("talk", [*BAD, *SLOW], ids=lambda talk: talk.__name__)
def test_no_log_line_at_any_level_has_the_password(away, caplog, talk):
    with FakeServer(talk) as fake:
        url = f"redis://user:hunter2@127.0.0.1:{fake.port}/0"
        it = away(url, patience_seconds=IMPATIENT if talk in SLOW else PATIENT)
        it.answers_as_nothing()
        info = it.store.describe()
    assert "hunter2" not in caplog.text + repr(it.store) + repr(info) + repr(it.store.claim("g"))
    assert it.said()


def test_of_many_threads_one_finds_out_whether_it_is_back(away):
    with FakeServer(close_at_once) as fake:
        it = away(fake.url)
        it.store.read("g", ["a"])
        it.clock.pass_(31)
        assert Crowd(16, lambda: it.store.read("g", ["a"])).outcomes() == [{}] * 16
        assert fake.connections() == 2


def test_many_threads_that_find_it_away_together_say_so_once(away):
    with FakeServer(close_at_once) as fake:
        it = away(fake.url)
        assert Crowd(16, lambda: it.store.read("g", ["a"])).outcomes() == [{}] * 16
    assert len(it.said()) == 1


def test_a_child_knows_that_it_is_away_and_does_not_try_again(away):
    with FakeServer(close_at_once) as fake:
        it = away(fake.url)
        it.store.read("g", ["a"])
        assert in_child(lambda: it.store.read("g", ["a"])) == {}
        assert fake.connections() == 1


def test_a_name_server_that_is_silent_is_bounded_too(away, monkeypatch):
    answered = threading.Event()
    heard = []

    with FakeServer(lambda sock: heard.append(sock.recv(4096))) as fake:

        def look_up(*_args: object) -> list[object]:
            answered.wait()
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", fake.port))]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        it = away("redis://:hunter2@redis.example:6379/0", patience_seconds=IMPATIENT)
        it.answers_as_nothing()
        answered.set()
        all_refreshes_done()
        assert until(lambda: heard) == [b""], "what comes too late has nothing to say"
    assert [(level, "did not answer within 0.1 s" in message) for level, message in it.said()] == [("WARNING", True)]


def test_waiting_for_a_processor_of_ones_own_machine_is_not_held_against_the_server(away, monkeypatch):
    looks = threading.Semaphore(0)

    def queued_all_the_time(_thread_id: int) -> float:
        looks.release()
        return BOUND

    def answer_when_the_patience_was_over_twice(sock: socket.socket) -> None:
        while sock.recv(4096):
            for _ in range(20):
                assert looks.acquire(timeout=BOUND)
            sock.sendall(b"+OK\r\n")

    monkeypatch.setattr(redis_client, "_queued_seconds", queued_all_the_time)
    with FakeServer(answer_when_the_patience_was_over_twice) as fake:
        it = away(fake.url, patience_seconds=0.01)
        claim = it.store.claim("g")
        assert it.said() == []
        claim.release()
        assert it.said() == []


def test_a_thread_that_is_gone_waits_for_nothing():
    assert redis_client._queued_seconds(-1) == 0.0


def test_a_server_that_stops_answering_and_goes_on_is_used_again(away):
    with RedisServer() as server:
        it = away(server.url, patience_seconds=0.5)
        server.pause()
        it.answers_as_nothing()
        server.resume()
        it.clock.pass_(31)
        it.store.replace("g", {"a": b"1"}, LATER)
        assert it.store.read("g", ["a"]) == {"a": b"1"}
    assert [level for level, _ in it.said()] == ["WARNING", "INFO"]
    assert "is back" in it.said()[1][1]


def test_a_server_that_was_restarted_between_two_calls_is_not_away_at_all(away):
    port = free_port()
    with RedisServer(port=port):
        it = away(f"redis://127.0.0.1:{port}")
        it.store.replace("g", {"a": b"1"}, LATER)
    with RedisServer(port=port):
        assert it.store.read("g", ["a"]) == {}
        it.store.replace("g", {"a": b"2"}, LATER)
        assert it.store.read("g", ["a"]) == {"a": b"2"}
    assert it.said() == []


def test_nobody_listening_is_said_in_the_words_of_the_system(away):
    it = away(f"redis://:hunter2@127.0.0.1:{free_port()}")
    it.answers_as_nothing()
    ((_, message),) = it.said()
    assert "Connection refused" in message
    assert "hunter2" not in message


def test_a_full_server_loses_what_is_written_and_keeps_what_it_has(away):
    with RedisServer("--maxmemory-policy", "noeviction") as server, server.admin() as admin:
        it = away(server.url)
        it.store.replace("g", {"a": b"1"}, LATER)
        admin.config_set("maxmemory", 1)
        it.store.replace("g", {"a": b"2"}, LATER)
        assert it.store.read("g", ["a"]) == {}
        assert it.store.claim("g") is not None
        it.clock.pass_(31)
        admin.config_set("maxmemory", 0)
        assert it.store.read("g", ["a"]) == {"a": b"1"}
    assert ["full" in message for _, message in it.said()] == [True, False]


def test_a_replica_can_be_read_but_not_written(away):
    with RedisServer("--replicaof", "127.0.0.1", str(free_port())) as server:
        it = away(server.url)
        assert it.store.read("g", ["a"]) == {}
        assert it.said() == []
        it.answers_as_nothing()
    ((_, message),) = it.said()
    assert "replica" in message


@contextlib.contextmanager
def locked_server() -> Iterator[RedisServer]:
    with RedisServer() as server, server.admin() as admin:
        admin.execute_command("ACL", "SETUSER", "airflow", "on", ">hunter2", "~ours:*", "+@all")
        admin.config_set("requirepass", "correct-horse")
        yield server


@pytest.mark.parametrize("login", ["", "airflow:wrong-horse@", ":wrong-horse@"])
def test_a_wrong_password_is_told_without_it(away, caplog, login):
    with locked_server() as server:
        it = away(f"unix://{login}{server.path}")
        it.answers_as_nothing()
        info = it.store.describe()
    assert [level for level, _ in it.said()] == ["WARNING"]
    assert info.trouble
    assert "wrong-horse" not in caplog.text + repr(info)


def test_an_access_rule_in_the_way_is_told(away):
    with locked_server() as server:
        it = away(f"unix://airflow:hunter2@{server.path}")
        it.answers_as_nothing()
        ((_, message),) = it.said()
        assert "access rules" in message
        assert "access rules" not in (it.store.describe().trouble or "")


def test_tls_that_cannot_be_trusted_is_told(away):
    with RedisServer() as server, tls_in_front_of(server.path) as (front, _authority):
        it = away(f"rediss://:hunter2@localhost:{front.port}")
        it.answers_as_nothing()
    ((_, message),) = it.said()
    assert "TLS failed" in message
    assert "hunter2" not in message


def test_tls_to_a_server_without_it_is_told(away):
    with FakeServer(talk_of_something_else) as fake:
        it = away(f"rediss://localhost:{fake.port}")
        it.answers_as_nothing()
    assert ["TLS failed" in message for _, message in it.said()] == [True]


def test_without_redis_py_the_log_says_what_to_install(away, monkeypatch):
    it = away("redis://127.0.0.1")
    monkeypatch.setitem(sys.modules, "redis", None)
    it.answers_as_nothing()
    assert [("pip install" in message and "redshift-secrets[redis]" in message) for _, message in it.said()] == [True]


def test_describe_asks_even_in_the_back_off_and_says_why_not(away):
    server = RedisServer()
    server.stop()
    it = away(server.url)
    it.answers_as_nothing()
    info = it.store.describe()
    assert (info.groups, info.groups_complete, info.memory_bytes) == (None, False, None)
    assert info.trouble == f"it cannot be reached: {os.strerror(errno.ENOENT)}"
