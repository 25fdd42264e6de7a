"""Answers that are remembered are bounded in bytes."""

from __future__ import annotations

import threading
import tracemalloc

import pytest

from tests.support.fakes import cluster
from tests.support.helpers import Site, in_child

BYTES = 2**20


@pytest.fixture(autouse=True)
def bound(monkeypatch):
    monkeypatch.setattr("redshift_secrets.lookup.broker._MAX_ANSWERS_BYTES", BYTES)


@pytest.fixture
def broker(clock):
    return Site(clock, cluster(tags={"airflow:conn-id": "dwh", "airflow:team": "bi"})).broker


def kept(broker):
    return [team for _, team, _ in broker._answers]


def test_many_long_askers(broker):
    broker.connection("dwh", "bi")
    tracemalloc.start()
    try:
        for number in range(500):
            assert broker.connection("dwh", f"{number}" + "x" * 60_000) is None
        assert tracemalloc.get_traced_memory()[0] < 3 * BYTES
    finally:
        tracemalloc.stop()
    assert 10 < len(broker._answers) < 20


def test_many_connections(clock):
    extra = {"application_name": "x" * 5_000}
    names = [f"conn_{number}" for number in range(1_000)]
    clusters = [cluster(name, {"airflow:conn-id": name}) for name in names]
    broker = Site(clock, *clusters, extra=extra).broker
    for name in names:
        assert broker.connection(name).login
    assert 50 < len(broker._answers) < BYTES / 5_000
    assert broker.remembered(names[-1], None, None) is not None


def test_the_oldest_answers_make_room(broker):
    for number in range(30):
        broker.connection("dwh", f"{number:02}" + "x" * 100_000)
    assert [team[:2] for team in kept(broker)] == [f"{number:02}" for number in range(20, 30)]


def test_the_same_answer_again_takes_no_more_room(broker, clock):
    for _ in range(5):
        broker.connection("dwh", "x" * 100_000)
        clock.pass_(400)
    broker.connection("dwh", "x" * 100_000)
    assert broker._answers_size == sum(answer.size for answer in broker._answers.values()) < 200_000


def test_an_answer_that_is_larger_than_the_bound_is_not_remembered(broker):
    broker.connection("dwh", "etl")
    broker.connection("dwh", "x" * 2 * BYTES)
    assert kept(broker) == ["etl"]


def test_a_child_that_is_forked_in_the_middle_of_a_change_remembers_nothing(broker):
    broker.connection("dwh", "etl")
    with broker._answers_changed:
        assert in_child(lambda: (len(broker._answers), broker._answers_size)) == (0, 0)
        assert in_child(lambda: (broker.connection("dwh", "etl"), len(broker._answers))) == (None, 1)
    assert len(in_child(lambda: list(broker._answers))) == 1


def test_threads_at_once_do_not_lose_count(broker):
    def ask(thread):
        for number in range(50):
            broker.connection("dwh", f"{thread} {number} {'x' * 50_000}")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broker._answers_size == sum(answer.size for answer in broker._answers.values()) <= BYTES
