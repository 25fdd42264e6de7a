"""The shared tiers together: the nearest store that has an entry answers, one process refreshes for all of them.

A group of rows is one entry. A process that needs a new one reads, tries to get the lease, and reads again; without the
lease it waits for the rows of the process that has it, until its deadline.
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

from redshift_secrets.cache.process import FAILURE_KEPT_SECONDS, CacheEntry, Failure
from redshift_secrets.cache.single_flight import Deadline
from redshift_secrets.cache.store import Lease, SharedStore
from redshift_secrets.errors import DeadlineError, error_from_json, error_to_json, known_error

log = logging.getLogger(__name__)

V = TypeVar("V")

Rows = Mapping[str, bytes]

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.02, 0.4
_PAUSE_PER_READ = 20
"""Between reads of what another process is refreshing. Each pause is longer than the one before, and at least so many times
as long as the last read took, up to the longest; and it differs from process to process. Hundreds that wait together, and
slow each read down, must leave the processor to the one they wait for."""
_STALLED_AFTER = 0.75
"""The part of its deadline after which a waiting process takes the refresh elsewhere for stalled. Then one of all that wait
asks AWS as well: a process that is suspended keeps its lease, and may never resume."""
_IN_PROGRESS_SECONDS = 1.0
"""How long a process that found a refresh in progress elsewhere does not look again."""

_TIMES, _FAILURE = "ages", "failure"


class Group(Struct, Generic[V], frozen=True):
    """One entry in the shared tiers. `name` is its key there; `what` names it in logs and errors.

    `names` are the rows that `decode` needs; it returns `None` for rows it does not understand. `all_names` returns the
    names of every row of the group, for copying it to a nearer tier.
    """

    name: str
    what: str
    names: tuple[str, ...]
    decode: Callable[[Rows], V | None]
    all_names: Callable[[], Sequence[str]]


class Refreshed(Struct, Generic[V], frozen=True):
    """A new entry, and a way to get the rows that carry it to others."""

    entry: CacheEntry[V]
    rows: Callable[[], Rows]


class _Request(Struct, Generic[V], frozen=True):
    """What `get_or_refresh` was asked for."""

    group: Group[V]
    refresh: Callable[[], Refreshed[V]]
    accept: Callable[[CacheEntry[V]], bool]
    waits: bool
    deadline: Deadline


class _RefreshInProgressError(Exception):
    """Another process is refreshing, and the caller does not wait for it."""


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

    def get(self, group: Group[V], *, anywhere: bool = False) -> CacheEntry[V] | None:
        """Return what the nearest store has, fresh or stale, in one read; `None` when it has nothing unexpired.

        With `anywhere`, the farther stores are read too.
        """
        for store in self.stores if anywhere else self.stores[:1]:
            found = self._unexpired(group, store) if store.ready else None
            if found is not None:
                return found
        return None

    def get_or_refresh(
        self,
        group: Group[V],
        refresh: Callable[[], Refreshed[V]],
        *,
        deadline: Deadline,
        accept: Callable[[CacheEntry[V]], bool] = lambda _entry: True,
        stale_value: CacheEntry[V] | None = None,
    ) -> CacheEntry[V]:
        """Return an unexpired entry that another process put there and that `accept` takes, or refresh it for all of them.

        While another process refreshes, this one returns `stale_value`, or waits where there is none; `DeadlineError` when
        that takes too long. Raises what `refresh` raises. Others read the failure, and get it at once until the next
        attempt has ended.
        """
        request = _Request(group, refresh, accept, stale_value is None, deadline)
        try:
            return self._get_or_refresh(request, 0).entry
        except _RefreshInProgressError:
            if stale_value is None:  # only where a lookup does not wait
                raise
            return replace(stale_value, stale_at=min(self._clock() + _IN_PROGRESS_SECONDS, stale_value.expires_at))

    def report_time_out(self, group: Group[V], error: DeadlineError) -> None:
        """Let other processes of this host know that a lookup timed out, while the refresh still runs."""
        for store in self.stores[:1]:
            failure = self._failure(group, store)
            if failure is None or self._clock() >= failure.retry_at:
                self._record_failure(group, store, failure, error)

    def _get_or_refresh(self, request: _Request[V], level: int) -> Refreshed[V]:
        """Read the store at `level`; with its lease, go on to the next one, and last of all to AWS."""
        if level == len(self.stores):
            return request.refresh()
        store = self.stores[level]
        pause = _FIRST_PAUSE_SECONDS
        while True:
            left_before = request.deadline.left()
            found = self._accepted(request, store)
            if found is not None:
                return found
            failure = self._failure(request.group, store)
            if failure is not None and self._clock() < failure.retry_at:
                raise failure.error
            lease = store.try_lock(request.group.name) or self._take_over_stalled_refresh(request, store)
            if lease is not None:
                try:
                    return self._fill(request, level)
                finally:
                    lease.release()
            left = request.deadline.left()
            if not request.waits:
                raise _RefreshInProgressError
            if left <= 0:
                raise DeadlineError(request.group.what, request.deadline.seconds)
            for_read = (left_before - left) * _PAUSE_PER_READ
            self._sleep(min(min(max(pause, for_read), _LONGEST_PAUSE_SECONDS) * (0.5 + self._rand()), left))
            pause *= 2

    def _take_over_stalled_refresh(self, request: _Request[V], store: SharedStore) -> Lease | None:
        """The right of one waiting process to refresh beside one that seems to have stalled."""
        deadline = request.deadline
        if not request.waits or not 0 < deadline.left() <= deadline.seconds * (1 - _STALLED_AFTER):
            return None
        lease = store.try_lock(f"{request.group.name}?")
        if lease is not None:
            waited = deadline.seconds - deadline.left()
            log.warning("refresh of %s has been running elsewhere for %.1f s; taking over", request.group.what, waited)
        return lease

    def _fill(self, request: _Request[V], level: int) -> Refreshed[V]:
        """Fill the store at `level`, whose lease is held, from the next one."""
        store = self.stores[level]
        # Between the read and the lease, the process that had the lease before may have finished.
        found = self._accepted(request, store)
        if found is not None:
            return found
        failure = self._failure(request.group, store)
        if failure is not None:
            if self._clock() < failure.retry_at:
                raise failure.error
            # While this process tries again, the others need not find out that it still fails.
            self._write_failure(
                request.group, store, replace(failure, retry_at=self._clock() + request.deadline.left())
            )
        try:
            refreshed = self._get_or_refresh(request, level + 1)
        except _RefreshInProgressError:
            raise
        except Exception as error:
            self._record_failure(request.group, store, failure, error)
            raise
        entry = refreshed.entry
        rows = refreshed.rows()
        times = json.dumps([entry.stale_at, entry.expires_at, entry.wait_at]).encode()
        store.replace(request.group.name, {**rows, _TIMES: times}, entry.expires_at)
        if failure is not None:
            store.clear(_failure_group(request.group))
        return Refreshed(entry, lambda: rows)

    def _accepted(self, request: _Request[V], store: SharedStore) -> Refreshed[V] | None:
        group = request.group
        entry = self._unexpired(group, store)
        if entry is None or not request.accept(entry):
            return None
        return Refreshed(entry, lambda: store.read(group.name, group.all_names()))

    def _unexpired(self, group: Group[V], store: SharedStore) -> CacheEntry[V] | None:
        rows = store.read(group.name, (*group.names, _TIMES))
        if _TIMES not in rows:
            return None
        value = group.decode(rows)
        try:
            stale_at, expires_at, wait_at = json.loads(rows[_TIMES])
        except (TypeError, ValueError):
            return None
        if value is None or expires_at <= self._clock():
            return None
        return CacheEntry(value, stale_at, expires_at, wait_at)

    def _failure(self, group: Group[V], store: SharedStore) -> Failure | None:
        rows = store.read(_failure_group(group), (_FAILURE,))
        try:
            text, count, retry_at = json.loads(rows[_FAILURE])
            error = error_from_json(text)
            return None if error is None else Failure(error, int(count), float(retry_at))
        except (KeyError, TypeError, ValueError):
            return None

    def _record_failure(self, group: Group[V], store: SharedStore, before: Failure | None, error: Exception) -> None:
        if not (store.across_hosts and known_error(error).host_only):
            self._write_failure(group, store, Failure.after(before, error, self._clock()))

    def _write_failure(self, group: Group[V], store: SharedStore, failure: Failure) -> None:
        row = json.dumps([error_to_json(failure.error), failure.count, failure.retry_at]).encode()
        store.replace(_failure_group(group), {_FAILURE: row}, failure.retry_at + FAILURE_KEPT_SECONDS)


def _failure_group(group: Group[V]) -> str:
    return f"{group.name}!"
