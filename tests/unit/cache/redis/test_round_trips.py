"""How many times a call waits for the network, after connecting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from redshift_secrets.cache.redis.store import RedisLease
from tests.support.redis_servers import NOW, RedisServer, counting_in_front_of, fleet_store

LATER = NOW + 600
GROUPS = ("catalog", "credential", "failure")


@pytest.fixture
def connected():
    """A store that is connected, and a context that checks the number of round trips of the calls in it."""
    with RedisServer() as server, counting_in_front_of(server.path) as (proxy, round_trips):
        store = fleet_store(proxy.url)
        store.read({"g": ["a"]})

        @contextmanager
        def costs(expected: int) -> Iterator[None]:
            before = round_trips()
            yield
            assert round_trips() - before == expected

        yield store, costs


def test_reading_any_number_of_groups_costs_one_round_trip(connected):
    store, costs = connected
    for group in GROUPS:
        store.replace(group, {"a": group.encode()}, LATER)
    for groups in (GROUPS, GROUPS[:1]):
        with costs(1):
            found = store.read({group: ["a", "b"] for group in groups})
        assert found == {group: {"a": group.encode()} for group in groups}
    with costs(0):
        assert store.read({"catalog": []}) == {"catalog": {}}


def test_every_other_call_costs_one_too(connected):
    store, costs = connected
    with costs(1):
        store.replace("catalog", {"a": b"1", "b": b"2"}, LATER)
    with costs(1):
        lease = store.try_lock("catalog")
    assert isinstance(lease, RedisLease)
    for call in (lease.renew, lease.release, store.flush_mark, lambda: store.clear("catalog")):
        with costs(1):
            call()
    with costs(2):  # which is for commands
        store.mark_flushed()


def test_a_warm_lookup_costs_two(connected):
    store, costs = connected
    store.replace("catalog", {"a": b"1"}, LATER)
    with costs(2):
        assert store.read({"catalog": ["a"], "credential": ["a"]})["catalog"] == {"a": b"1"}
        store.flush_mark()
