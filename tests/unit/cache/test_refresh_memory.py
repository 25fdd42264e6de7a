"""What a process remembers is bounded in number and in bytes, however long names, values and errors are."""

from __future__ import annotations

import gc
import logging
import tracemalloc

import pytest
from msgspec import msgpack

from redshift_secrets.cache.entry import Entry, Item
from redshift_secrets.cache.refresh import Refresher
from redshift_secrets.cache.workers import Deadline, Lookup, MustWait
from redshift_secrets.errors import CannotServeError
from tests.support.fakes import Clock

LONG = 60_000
BYTES = 2**20


@pytest.fixture(autouse=True)
def bound(monkeypatch):
    monkeypatch.setattr("redshift_secrets.cache.refresh._MAX_BYTES", BYTES)


@pytest.fixture
def refresher():
    return Refresher(clock=Clock())


def item(name, fetch=None, kept=True):
    rows = ("value",)
    encode, decode = (lambda value: {"value": msgpack.encode(value)}), (lambda rows: msgpack.decode(rows["value"]))
    return Item(name, lambda: "it", fetch, encode, decode, rows, rows, kept=kept)


def put(refresher, name, value, kept=True):
    now = refresher.clock()
    refresher.put(item(name, kept=kept), Entry(value, now, now + 10, now + 10, now + 10))


def refresh(refresher, name, fetch):
    """Refresh an item to the end; return the answer."""
    lookup = Lookup(Deadline(10))
    while True:
        try:
            return refresher.get([item(name, fetch)], lookup)[0]
        except MustWait as must:
            for run, until in must.waits:
                run.wait(until)


def growth(work):
    tracemalloc.start()
    try:
        work()
        gc.collect()  # errors are in cycles with their tracebacks
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_long_values(refresher):
    assert growth(lambda: [put(refresher, f"{n}", f"{n}" + "x" * LONG) for n in range(500)]) < 3 * BYTES
    assert refresher.cached(item("499")) is not None
    assert refresher.cached(item("0")) is None


def test_long_names(refresher):
    assert growth(lambda: [put(refresher, f"{n}" + "x" * LONG, 1) for n in range(500)]) < 3 * BYTES


def test_long_names_of_what_is_refreshed_here(refresher):
    def fetch(_recall):
        now = refresher.clock()
        return Entry(1, now, now + 10, now + 10, now + 10)

    # Each name is in two memories: that of entries, and when the newest one was made.
    assert growth(lambda: [refresh(refresher, f"{n}" + "x" * LONG, fetch) for n in range(200)]) < 4 * BYTES


def test_long_errors(refresher, caplog):
    caplog.set_level(logging.ERROR, "redshift_secrets")  # or it would remember them as well

    def fail(_recall):
        raise CannotServeError("y" * LONG)

    assert growth(lambda: [refresh(refresher, f"{n}", fail) for n in range(200)]) < 4 * BYTES
    assert isinstance(refresh(refresher, "199", fail), CannotServeError)


def test_one_that_is_larger_than_the_bound_is_remembered_alone(refresher):
    put(refresher, "small", 1)
    put(refresher, "large", "x" * 2 * BYTES)
    assert (refresher.cached(item("small")), refresher.cached(item("large")) is not None) == (None, True)


def test_listings_of_any_size_stay_together(refresher):
    for name in ("one", "two"):
        put(refresher, name, "x" * BYTES, kept=False)
    assert all(refresher.cached(item(name)) is not None for name in ("one", "two"))
