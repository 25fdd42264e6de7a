"""A source of entries that tests of the process cache refresh from."""

from __future__ import annotations

import threading

from redshift_secrets.cache import CacheEntry
from tests.support.fakes import Clock
from tests.support.helpers import (
    BOUND,
    WatchedDeadline,
)

FRESH, STALE = 100, 200


class Source:
    """Refreshes to v1, v2, ... that are fresh for 100 s and expire after 200; `hold` makes it wait, `error` fail."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.refreshes = 0
        self.error: Exception | None = None
        self.hold: threading.Event | None = None
        self.entered = threading.Event()

    def __call__(self) -> CacheEntry[str]:
        self.refreshes += 1
        self.entered.set()
        value, now = f"v{self.refreshes}", self.clock()
        if self.hold is not None:
            assert self.hold.wait(BOUND)
        if self.error is not None:
            raise self.error
        return CacheEntry(value, now + FRESH, now + STALE)


def get(cache, source, deadline=None):
    return cache.get("k", source, deadline or WatchedDeadline()).value
