"""A reason for which lookups fail again and again is one line in the log, and then a count."""

from __future__ import annotations

import logging
import threading
import tracemalloc
from types import SimpleNamespace

import pytest

from redshift_secrets.lookup.reasons import ErrorLog
from tests.support.fakes import Clock
from tests.support.helpers import in_child

WAITING = "8 lookups of this API server already wait for AWS"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def errors(clock):
    return ErrorLog(logging.getLogger("redshift_secrets.test"), clock)


@pytest.fixture
def lines(caplog):
    def lines():
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    return lines


def fail(errors, conn_id, reason=WAITING):
    errors.error(f"connection {conn_id!r} cannot be served: {reason}", conn_id)


def test_two_hundred_refusals_a_second_are_one_line_and_a_count_each_minute(errors, clock, lines):
    for _ in range(3 * 60):
        for number in range(200):
            fail(errors, f"conn_{number}")
        clock.pass_(1)
    first, second, third = lines()
    assert first == f"connection 'conn_0' cannot be served: {WAITING}"
    named = ", ".join(f"'conn_{number}'" for number in range(1, 11))
    assert second == f"11999 more in 60 s, for {named} and others: {first}"
    assert third.startswith("12000 more in 60 s, for 'conn_0', 'conn_1', ")


def test_the_conn_ids_of_a_count_are_those_that_were_not_named(errors, clock, lines):
    for conn_id in ("a", "b", "c", "b"):
        fail(errors, conn_id)
    clock.pass_(61)
    fail(errors, "d")
    assert lines()[1:] == [f"3 more in 61 s, for 'b', 'c': connection 'a' cannot be served: {WAITING}"]


def test_each_reason_is_a_line(errors, lines):
    for reason in ("it is paused", "AWS throttles", "it is paused"):
        fail(errors, "dwh", reason)
    assert [line.rpartition(": ")[2] for line in lines()] == ["it is paused", "AWS throttles"]


def test_after_a_quiet_minute_a_reason_is_a_line_again(errors, clock, lines):
    for _ in range(2):
        fail(errors, "dwh")
        clock.pass_(60)
    assert lines() == [f"connection 'dwh' cannot be served: {WAITING}"] * 2


def test_a_refusal_for_another_reason_reports_what_is_due(errors, clock, lines):
    fail(errors, "dwh")
    fail(errors, "dwh")
    clock.pass_(60)
    fail(errors, "other", "it is paused")
    assert [line.split(" for")[0] for line in lines()[1:]] == [
        "1 more in 60 s,",
        "connection 'other' cannot be served: it is paused",
    ]


def test_memory_is_bounded_and_a_count_that_is_dropped_is_reported(clock):
    counts = []
    errors = ErrorLog(SimpleNamespace(log=lambda _level, _format, line: counts.append(line[:6])), clock)
    fail(errors, "dwh")
    fail(errors, "dwh")
    tracemalloc.start()
    try:
        for number in range(2_000):
            errors.error(f"connection 'x' cannot be served: {number} {'r' * 10_000}", f"{number}" * 1000)
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    finally:
        tracemalloc.stop()
    assert counts.count("1 more") == 1


def test_conn_ids_of_a_count_are_bounded_too(errors, clock, lines):
    for number in range(1_000):
        fail(errors, f"{number}{'x' * 60_000}")
    clock.pass_(60)
    fail(errors, "dwh")
    assert all(len(line) < 6_000 for line in lines())


def test_a_line_and_a_conn_id_from_outside_are_escaped(errors, clock, lines):
    for _ in range(2):
        fail(errors, "a\x1b[2J\nb", "one\ntwo\u2028three\x1b[31m")
        clock.pass_(30)
    clock.pass_(30)
    fail(errors, "dwh", "one\ntwo\u2028three\x1b[31m")
    assert len(found := lines()) == 2
    assert all(line.isprintable() for line in found)


def test_the_child_of_a_fork_says_it_in_its_own_log(errors, clock):
    fail(errors, "dwh")

    def child():
        found = []
        errors._logger = logging.getLogger("redshift_secrets.test.child")
        errors._logger.log = lambda _level, _format, line: found.append(line)
        fail(errors, "dwh")
        return found

    errors._lock.acquire()  # another thread is in the middle of it
    assert in_child(child) == [f"connection 'dwh' cannot be served: {WAITING}"]


def test_threads_at_once_count_every_refusal(errors, clock, lines):
    threads = [threading.Thread(target=lambda: [fail(errors, "dwh") for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clock.pass_(60)
    fail(errors, "dwh")
    assert [line.split(",")[0] for line in lines()[1:]] == ["3999 more in 60 s"]
