"""The shared tiers together: the nearest store that knows answers, one process renews for all of them.

A group of rows is one value with its ages. Who needs a new one reads, claims and reads again; who cannot claim waits for
the rows of the one who could, until its deadline.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from redshift_secrets.cache.deadline import Deadline
from redshift_secrets.cache.process import RETRY_AFTER_SECONDS, CacheEntry
from redshift_secrets.cache.store import Lease, SharedStore
from redshift_secrets.errors import DeadlineError, RedshiftSecretsError, error_from_json, error_to_json

log = logging.getLogger(__name__)

V = TypeVar("V")

Rows = Mapping[str, bytes]

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.02, 0.4
_PAUSE_FOR_LOOK = 20
"""Between looks at what another process is renewing. Each pause is longer than the one before, and at least so many times
as long as the last look took, up to the longest; and none is the same in two processes. Hundreds that wait together, and
make each look slow by that, must leave the processor to the one they wait for."""
_STALLED = 0.75
"""The part of its deadline after which a process that waits takes the one it waits for as stalled. Then one of all that
wait asks AWS as well: a holder that was stopped keeps its claim, and may never come back."""
_BUSY_SECONDS = 1.0
"""How long a process that found another one renewing does not look again."""

_AGES, _FAILURE = "ages", "failure"


class Group(Struct, Generic[V], frozen=True):
    """One value in the shared tiers. `name` is its key there; `what` is what logs and errors call it.

    `names` are the rows that `decode` needs; it returns `None` for rows it does not understand. `all_names` returns the
    names of every row of the group, for copying it to a nearer tier.
    """

    name: str
    what: str
    names: tuple[str, ...]
    decode: Callable[[Rows], V | None]
    all_names: Callable[[], Sequence[str]]


class Refreshed(Struct, Generic[V], frozen=True):
    """A value with its ages, and a way to get the rows that carry it to others."""

    aged: CacheEntry[V]
    rows: Callable[[], Rows]


class _Request(Struct, Generic[V], frozen=True):
    """What a caller of `get_or_refresh` would take."""

    group: Group[V]
    renew: Callable[[], Refreshed[V]]
    good: Callable[[CacheEntry[V]], bool]
    waits: bool
    deadline: Deadline
    recalled: int
    """In how many of the stores, from the nearest on, `recall` has looked and counted before."""


class _RefreshInProgressError(Exception):
    """Another process is renewing, and the caller does not wait for it."""


class SharedTiers:
    """Shared stores from near to far; none at all is fine. `sleep` takes seconds, `rand` gives numbers from 0 to 1."""

    def __init__(
        self,
        stores: Sequence[SharedStore] = (),
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self.stores = tuple(stores)
        self._clock = clock
        self._sleep = sleep
        self._rand = rand

    def recall(self, group: Group[V], *, anywhere: bool = False, counted: bool = False) -> CacheEntry[V] | None:
        """Return what the nearest store has, fresh or usable, in one read; `None` when it has nothing that lives.

        With `anywhere`, the farther stores are read too. What is `counted` is somebody's lookup.
        """
        for store in self.stores if anywhere else self.stores[:1]:
            if not store.ready:
                continue
            found = self._alive(group, store)
            if counted:
                store.count(group.name, found is not None)
            if found is not None:
                return found
        return None

    def get_or_refresh(
        self,
        group: Group[V],
        renew: Callable[[], Refreshed[V]],
        *,
        deadline: Deadline,
        good: Callable[[CacheEntry[V]], bool] = lambda _aged: True,
        meanwhile: CacheEntry[V] | None = None,
    ) -> CacheEntry[V]:
        """Return a living and `good` value that another process put there, or renew it for all of them.

        While another process renews, this one goes on with `meanwhile`, or waits where there is none; `DeadlineError`
        when that takes too long. Raises what `renew` raises; others hear of it and do not ask AWS again at once.
        """
        recalled = 1 if self.stores and self.stores[0].ready else 0
        wish = _Request(group, renew, good, meanwhile is None, deadline, recalled)
        try:
            return self._get_or_refresh(wish, 0).aged
        except _RefreshInProgressError:
            if meanwhile is None:
                raise DeadlineError(group.what, deadline.seconds) from None
            return replace(meanwhile, stale_at=min(self._clock() + _BUSY_SECONDS, meanwhile.expires_at))

    def _get_or_refresh(self, wish: _Request[V], level: int) -> Refreshed[V]:
        """Look into the store at `level`; who gets its claim goes on to the next one, and last of all to AWS."""
        if level == len(self.stores):
            return wish.renew()
        store = self.stores[level]
        pause = _FIRST_PAUSE_SECONDS
        while True:
            left_before = wish.deadline.left()
            found = self._good(wish, level)
            if found is not None:
                return found
            claim = store.claim(wish.group.name) or self._take_over_stalled_refresh(wish, store)
            if claim is not None:
                try:
                    return self._fill(wish, level)
                finally:
                    claim.release()
            left = wish.deadline.left()
            if not wish.waits or left <= 0:
                raise _RefreshInProgressError
            for_look = (left_before - left) * _PAUSE_FOR_LOOK
            self._sleep(min(min(max(pause, for_look), _LONGEST_PAUSE_SECONDS) * (0.5 + self._rand()), left))
            pause *= 2

    def _take_over_stalled_refresh(self, wish: _Request[V], store: SharedStore) -> Lease | None:
        """The right of the one who renews beside a holder that seems to have stalled."""
        if not wish.waits or not 0 < wish.deadline.left() <= wish.deadline.seconds * (1 - _STALLED):
            return None
        claim = store.claim(_takeover_group(wish.group))
        if claim is not None:
            waited = wish.deadline.seconds - wish.deadline.left()
            log.warning(
                "who renews %s has not come to an end within %.1f s, so this process does it", wish.group.what, waited
            )
        return claim

    def _fill(self, wish: _Request[V], level: int) -> Refreshed[V]:
        """Fill the store at `level`, whose claim is held, from the next one."""
        store = self.stores[level]
        # Between the look and the claim, the one who had the claim before may have finished.
        found = self._good(wish, level)
        if found is not None:
            return found
        self._raise_failure(wish.group, store)
        if level >= wish.recalled:
            store.count(wish.group.name, False)
        try:
            renewed = self._get_or_refresh(wish, level + 1)
        except RedshiftSecretsError as error:
            until = self._clock() + RETRY_AFTER_SECONDS
            store.replace(_failure_group(wish.group), {_FAILURE: error_to_json(error).encode()}, until)
            raise
        aged = renewed.aged
        rows = renewed.rows()
        ages = json.dumps([aged.stale_at, aged.expires_at]).encode()
        store.replace(wish.group.name, {**rows, _AGES: ages}, aged.expires_at)
        return Refreshed(aged, lambda: rows)

    def _good(self, wish: _Request[V], level: int) -> Refreshed[V] | None:
        group, store = wish.group, self.stores[level]
        aged = self._alive(group, store)
        if aged is None or not wish.good(aged):
            return None
        if level >= wish.recalled:
            store.count(group.name, True)

        def all_rows() -> Rows:
            return store.read(group.name, group.all_names())

        return Refreshed(aged, all_rows)

    def _alive(self, group: Group[V], store: SharedStore) -> CacheEntry[V] | None:
        rows = store.read(group.name, (*group.names, _AGES))
        if _AGES not in rows:
            return None
        value = group.decode(rows)
        try:
            stale_at, expires_at = json.loads(rows[_AGES])
        except (TypeError, ValueError):
            return None
        if value is None or expires_at <= self._clock():
            return None
        return CacheEntry(value, stale_at, expires_at)

    def _raise_failure(self, group: Group[V], store: SharedStore) -> None:
        rows = store.read(_failure_group(group), (_FAILURE,))
        error = error_from_json(rows[_FAILURE].decode()) if _FAILURE in rows else None
        if error is not None:
            raise error


def _failure_group(group: Group[V]) -> str:
    return f"{group.name}!"


def _takeover_group(group: Group[V]) -> str:
    return f"{group.name}?"
