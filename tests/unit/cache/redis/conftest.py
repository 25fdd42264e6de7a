from __future__ import annotations

import logging

import pytest

from redshift_secrets.cache.redis import client as redis_client
from redshift_secrets.cache.redis.threads import ThreadCall
from redshift_secrets.cache.store import FreeLease
from tests.support.fakes import Clock
from tests.support.redis_servers import NOW, RedisServer, fleet_store


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
        assert self.store.read({"g": ["a"]})["g"] == {}
        self.store.replace("g", {"a": b"1"}, NOW + 600)
        leases = [self.store.try_lock("g"), self.store.try_lock("g")]
        assert [type(lease) for lease in leases] == [FreeLease, FreeLease]
        for lease in leases:
            lease.renew()
            lease.release()
        self.store.mark_flushed()
        assert self.store.flush_mark() is None
        self.store.clear("g")
        self.store.clear()


@pytest.fixture
def unavailable(clock: Clock, caplog, monkeypatch):
    monkeypatch.setattr(redis_client, "_CHECKS_PER_CALL", 1000)  # so that patience that is used up is noticed soon
    monkeypatch.setattr(ThreadCall, "queued_seconds", lambda _call: 0.0)  # that would be real time
    return lambda url: Unavailable(url, clock, caplog)
