"""The fleet tier with servers that are slow, hostile or not a Redis: never an error.

Patience is counted by the clock of each test, which a slow server advances itself.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from redshift_secrets.cache.redis.threads import ThreadCall
from tests.support.fakes import Clock
from tests.support.helpers import BOUND, Crowd, in_child
from tests.support.redis_servers import NOW, PATIENT, FakeServer, all_calls_done, until

pytestmark = pytest.mark.attempt("hold lookups up with a Redis that answers slowly or wrongly")


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
        all_calls_done()  # those that were left behind have ended, though the server would continue for ever
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
        it.store.read({"g": ["a"]})["g"]
        clock.pass_(31)
        assert Crowd(16, lambda: it.store.read({"g": ["a"]})["g"]).outcomes() == [{}] * 16
        assert fake.connections() == 2


def test_many_threads_that_fail_together_log_it_once(unavailable):
    with FakeServer(lambda sock: sock.close()) as fake:
        it = unavailable(fake.url)
        assert Crowd(16, lambda: it.store.read({"g": ["a"]})["g"]).outcomes() == [{}] * 16
    assert len(it.logged()) == 1


def test_the_child_of_a_fork_does_not_try_during_the_back_off_of_its_parent(unavailable):
    with FakeServer(lambda sock: sock.close()) as fake:
        it = unavailable(fake.url)
        it.store.read({"g": ["a"]})["g"]
        assert in_child(lambda: it.store.read({"g": ["a"]})["g"]) == {}
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
        all_calls_done()
        assert until(lambda: received) == [b""], "a connection that comes too late sends nothing"
    assert [(level, ": no answer within 20 s. " in message) for level, message in it.logged()] == [("WARNING", True)]


def test_time_spent_waiting_for_a_processor_does_not_count(unavailable, clock: Clock, monkeypatch):
    checks = threading.Semaphore(0)

    def queued_for_an_hour(_call: ThreadCall) -> float:
        checks.release()
        return 3600.0

    def answer_after_the_patience(sock: socket.socket) -> None:
        while sock.recv(4096):
            clock.pass_(2 * PATIENT)
            for _ in range(3):
                assert checks.acquire(timeout=BOUND)
            sock.sendall(b"+OK\r\n")

    monkeypatch.setattr(ThreadCall, "queued_seconds", queued_for_an_hour)
    with FakeServer(answer_after_the_patience) as fake:
        it = unavailable(fake.url)
        lease = it.store.try_lock("g")
        assert it.logged() == []
        lease.release()
        assert it.logged() == []


@pytest.mark.parametrize("unusual", [b":7", b"*0"])
def test_a_mark_that_is_no_string_reads_as_none(unavailable, unusual: bytes):
    def answer(sock: socket.socket) -> None:
        while received := sock.recv(4096):
            sock.sendall(unusual + b"\r\n" if b"GET" in received else b"+OK\r\n" * received.count(b"*"))

    with FakeServer(answer) as fake:
        it = unavailable(fake.url)
        assert it.store.flush_mark() is None
    assert ["not in the Redis protocol" in message for _, message in it.logged()] == [True]


@pytest.mark.parametrize(
    ("unusual", "reason"),
    [
        (b":7", "the answer is not in the Redis protocol"),
        (b"+OK", "the answer is not in the Redis protocol"),
        (b"*2\r\n$-1\r\n$-1", "the answer is not in the Redis protocol"),
        (b"*1\r\n:7", "the answer is not in the Redis protocol"),
        (b"-CLUSTERDOWN Hash slot not served", "the cluster is down"),
    ],
)
def test_an_unusual_answer_of_one_group_does_not_make_the_server_unavailable(unavailable, unusual: bytes, reason: str):
    def answer_one(sock: socket.socket) -> None:
        while received := sock.recv(4096):
            sock.sendall(unusual + b"\r\n*1\r\n$-1\r\n" if b"HMGET" in received else b"+OK\r\n" * received.count(b"*"))

    with FakeServer(answer_one) as fake:
        it = unavailable(fake.url)
        for _ in range(2):
            assert it.store.read({"g": ["a"], "h": ["a"]}) == {"g": {}, "h": {}}
        assert fake.connections() == 1
        assert it.logged() == [
            ("WARNING", f"Redis at {it.store.describe().url} cannot read some of its keys: {reason}")
        ]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (b"MOVED 3999 10.0.0.7:6379", "a node of a cluster: write redis+cluster:// or rediss+cluster:// in its URL"),
        (b"MISCONF Redis is configured to save RDB snapshots", "it cannot save to its disk, and takes no writes"),
        (b"NOREPLICAS Not enough good replicas to write.", "it has too few replicas to take writes"),
        (b"LOADING Redis is loading the dataset in memory", "still loading its data"),
        (b"MASTERDOWN Link with MASTER is down", "a replica that has lost its master"),
        (b"BUSY Redis is busy running a script.", "busy with a script"),
        (b"ERR max number of clients reached", "it has no connection left (maxclients)"),
    ],
)
@pytest.mark.parametrize("call", ["read", "replace", "try_lock"])
def test_what_a_server_says_is_told_in_our_words(unavailable, error: bytes, reason: str, call: str):
    def refuse(sock: socket.socket) -> None:
        while received := sock.recv(4096):
            sock.sendall((b"-" + error + b"\r\n") * (received.count(b"\r\n*") + 1))

    with FakeServer(refuse) as fake:
        it = unavailable(fake.url)
        arguments = {"read": ({"g": ["a"]},), "replace": ("g", {"a": b"1"}, NOW + 600), "try_lock": ("g",)}
        getattr(it.store, call)(*arguments[call])
    ((_, message),) = it.logged()
    assert f" is unavailable: {reason}" in message
    assert "10.0.0.7" not in message


def test_tls_with_a_server_that_does_not_speak_it_is_logged(unavailable, clock: Clock):
    with FakeServer(lambda sock: speak_http(sock, clock)) as fake:
        it = unavailable(f"rediss://localhost:{fake.port}")
        it.reads_as_empty()
    assert ["TLS failed" in message for _, message in it.logged()] == [True]
