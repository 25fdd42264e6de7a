"""The refresh: who looks where, who asks AWS, and what everybody else gets meanwhile.

A lookup (`Refresher.get`) takes what this process remembers, else what the nearest store has, and goes by its age:

- fresh: returned;
- stale while revalidating: returned, and refreshed behind the lookup;
- stale if error: the lookup waits for the refresh, for half of its time; where that fails, returned;
- expired or absent: the lookup waits for the refresh; where that fails, its error is the answer.

A refresh (`Refresher._refresh`) runs in a thread, one for each name and process. In each store, from near to far, it takes
the lease and looks again: whoever had the lease before may have stored a new entry, or the failure. With all leases it
asks AWS, stores the answer or the failure in every store, and releases the leases.

Nothing in a lookup blocks: it is tried, and where it would have to wait, `MustWait` says for what; then it is tried again.
"""

from __future__ import annotations

import hashlib
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from msgspec import Struct

from redshift_secrets.cache import forks
from redshift_secrets.cache.entry import Entry, Failure, Memory
from redshift_secrets.cache.flushes import Flushes
from redshift_secrets.cache.recall import Recall
from redshift_secrets.cache.store import Lease, Rows, SharedStore
from redshift_secrets.cache.workers import Deadline, Run, Workers
from redshift_secrets.errors import DeadlineError, RedshiftSecretsError, RefreshNotStartedError, copy_for_reraise

log = logging.getLogger(__name__)

V = TypeVar("V")

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.02, 0.4
_PAUSE_PER_READ = 20
"""Between reads of what another process is refreshing. Each pause is longer than the one before, and at least so many times
as long as the last read took, up to the longest; and it differs from process to process. Hundreds that wait together, and
slow each read down, must leave the processor to the one they wait for."""
_STALLED_AFTER = 0.75
"""The part of its time after which a waiting process takes the refresh elsewhere for stalled. Then one of all that wait
asks AWS as well: a process that is suspended keeps its lease, and may never resume."""
_ELSEWHERE_SECONDS = 1.0
"""How long a process that found a refresh in progress elsewhere does not look again behind its lookups."""
_MAX_THREADS = 32
_FAILURE = "failure"


class Item(Struct, Generic[V], frozen=True):
    """Something that can be cached.

    `name` is its name for one caller and configuration, `what` that for people. `fetch` returns a new entry, and may put
    what it is answered on the way through the `Recall`. `encode` makes rows of a value, `decode` a value of the rows named
    in `rows`, or of as many of them as there are; `all_rows` names all that `encode` makes. `here` returns an entry with
    the ages that hold in this process. What a store returned is `kept` in memory unless it is a part.
    """

    name: str
    what: str
    fetch: Callable[[Recall], Entry[V]]
    encode: Callable[[V], Rows]
    decode: Callable[[Rows], V | None]
    rows: Sequence[str]
    all_rows: Sequence[str]
    here: Callable[[Entry[V]], Entry[V]] = lambda entry: entry
    kept: bool = True


class Tier(Struct, frozen=True):
    """A store as one caller sees it. `namespace` returns a text that only this caller has, or `None` where the caller cannot
    be determined: then the store is not used. It may take its time unless `is_known`."""

    store: SharedStore
    namespace: Callable[[], str | None]
    is_known: Callable[[], bool] = lambda: True

    def place(self, name: str) -> str | None:
        """Return the group of an item."""
        namespace = self.namespace()
        return None if namespace is None else hashlib.sha256(f"{namespace}\0{name}".encode()).hexdigest()


class Lookup:
    """One lookup: when it has to end, what it has waited for, and the farthest tier that it has asked.

    With `hurry`, it waits for nothing more and is given that error instead.
    """

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.tier = "process"
        self.hurry: RedshiftSecretsError | None = None
        self.waited: dict[str, tuple[Run[Any], Deadline]] = {}


class MustWait(Exception):  # noqa: N818  # it is no error: the lookup is tried again
    """The lookup has to wait until these have ended, each of them at most until its deadline."""

    def __init__(self, waits: Sequence[tuple[Run[Any], Deadline]]) -> None:
        super().__init__(waits)
        self.waits = waits


class _Held(Struct, frozen=True):
    """A store whose lease this process has, and the failure that is known there."""

    store: SharedStore
    place: str
    lease: Lease
    failure: Failure | None


class Refresher:
    """Entries in memory and in the `tiers`, from near to far, and their refresh. Safe among threads, and after a fork.

    `timeout_seconds` is how long a refresh waits for one elsewhere. `clock` returns seconds since the epoch, `monotonic`
    seconds on a clock that never jumps; `sleep` takes seconds, `rand` returns numbers from 0 to 1.
    """

    def __init__(
        self,
        tiers: Sequence[Tier] = (),
        *,
        timeout_seconds: float = 10.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self.tiers = tuple(tiers)
        self.clock = clock
        self.monotonic = monotonic
        self.rand = rand
        self._timeout_seconds = timeout_seconds
        self._sleep = sleep
        self._memory = Memory(clock, monotonic)
        self._flushes = Flushes(self.tiers, clock, monotonic)
        self._workers = Workers(_MAX_THREADS)
        self.reset_after_fork()
        forks.reset_in_child(self)

    def reset_after_fork(self) -> None:
        """Called in the child, where no refresh is running and another thread may have held the lock."""
        self._lock = threading.Lock()
        self._running: dict[str, Run[Any]] = {}
        self._elsewhere: dict[str, float] = {}

    def forget_if_flushed(self) -> bool:
        """Forget what this process remembers if a store was flushed, and return whether it was; see `Flushes`."""
        flushed = self._flushes.happened()
        if flushed:
            self._memory.clear()
        return flushed

    # --- a lookup

    def get(self, items: Sequence[Item[V]], lookup: Lookup, since: float = float("-inf")) -> list[Entry[V] | Exception]:
        """Return for each item its entry, or the error why there is none; raises `MustWait` where the lookup has to wait.

        An entry that was made before `since` (seconds since the epoch) is only returned where a refresh fails.
        """
        entries = [self._memory.entry(item.name) for item in items]
        now = self.clock()
        wanted = [x for x, entry in zip(items, entries, strict=True) if entry is None or not entry.is_fresh(now, since)]
        if wanted and self.tiers:
            found = self._read_nearest(wanted, lookup)
            entries = [_newer(entry, found.get(item.name)) for item, entry in zip(items, entries, strict=True)]
        waits: list[tuple[Run[Any], Deadline]] = []
        answers = []
        for item, entry in zip(items, entries, strict=True):
            answer = self._answer(item, entry, lookup, since)
            if isinstance(answer, tuple):
                waits.append(answer)
            else:
                answers.append(answer)
        if waits:
            lookup.tier = "aws"
            raise MustWait(waits)
        return answers

    def get_one(self, item: Item[V], lookup: Lookup) -> Entry[V]:
        """Return the entry of one item, or raise the error why there is none; raises `MustWait` as `get`."""
        (answer,) = self.get([item], lookup)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def peek(self, item: Item[V], lookup: Lookup) -> Entry[V] | None:
        """Return what any tier has, the nearest first, however old; raises `MustWait` where a caller is not known yet."""
        entry = self._memory.entry(item.name)
        for tier in self.tiers:
            if entry is not None and entry.is_fresh(self.clock()):
                break
            place = tier.place(item.name) if self._is_ready(tier, lookup) else None
            if place is not None:
                entry = _newer(entry, self._look(item, tier.store, place)[0])
        return entry

    def refresh_behind(self, item: Item[Any], since: float) -> None:
        """Refresh an entry that was made before `since`, unless that failed a moment ago; nobody waits for it."""
        with self._lock:
            self._refresh_behind(item, since)

    def cached(self, item: Item[V]) -> Entry[V] | None:
        """Return what the nearest store has, without asking AWS for more than the caller."""
        place = self.tiers[0].place(item.name) if self.tiers else None
        return self._look(item, self.tiers[0].store, place)[0] if place is not None else None

    def put(self, item: Item[V], entry: Entry[V]) -> None:
        """Have every process find this entry, which nobody had to ask AWS for."""
        self._memory.keep(item.name, entry)
        for tier in self.tiers:
            place = tier.place(item.name) if tier.is_known() else None
            if place is not None:
                tier.store.replace(place, entry.to_rows(item.encode), entry.expires_at)

    def _is_ready(self, tier: Tier, lookup: Lookup) -> bool:
        """Whether the caller is known in a tier; raises `MustWait` once for each lookup where it is to be found out."""
        name = f"the caller in {tier.store.name}"
        if not tier.is_known() and lookup.hurry is None and name not in lookup.waited:
            run = Run(tier.namespace)
            self._workers.submit(run)
            lookup.waited[name] = run, lookup.deadline
            raise MustWait([(run, lookup.deadline)])
        return tier.is_known()

    def _read_nearest(self, items: Sequence[Item[V]], lookup: Lookup) -> Mapping[str, Entry[V]]:
        """Return what the nearest store has unexpired of each item, in one read."""
        tier = self.tiers[0]
        if not self._is_ready(tier, lookup):
            return {}
        places = [(item, place) for item in items if (place := tier.place(item.name)) is not None]
        rows = tier.store.read({place: item.rows for item, place in places})
        found = {}
        for item, place in places:
            entry = self._unexpired(item, rows.get(place, {}))
            if entry is not None:
                found[item.name] = entry
                if item.kept:
                    self._memory.keep(item.name, entry)
        if found and lookup.tier == "process":
            lookup.tier = tier.store.name
        return found

    def _answer(
        self, item: Item[V], entry: Entry[V] | None, lookup: Lookup, since: float
    ) -> Entry[V] | Exception | tuple[Run[Any], Deadline]:
        """Return the entry, or the error, or what has to be waited for and until when."""
        now = self.clock()
        if entry is not None and entry.is_fresh(now, since):
            return entry
        run, until = lookup.waited.get(item.name, (None, None))
        if run is not None and run.value is not None:
            new: Entry[V] = run.value  # made for this lookup, whatever its age
            return new
        with self._lock:
            failure, running = self._memory.failure(item.name), self._running.get(item.name)
            if entry is not None and (failure is not None or (now < entry.wait_at and entry.made_at > since)):
                self._refresh_behind(item, since)
                if failure is not None and run is not None:
                    self._log_stale(item, entry, failure.known_error)
                return entry
            if failure is not None and (now < failure.retry_at or (running is not None and running is not run)):
                return copy_for_reraise(failure.error)
            if lookup.hurry is not None:
                self._refresh_behind(item, since)
                return entry or lookup.hurry
            if until is None:
                until = lookup.deadline if entry is None else lookup.deadline.half()
            if run is None or until.left() > 0:
                try:
                    run = running or self._start(item, since, waits=True)
                except RuntimeError as error:
                    return entry or RefreshNotStartedError(item.what, str(error))
                lookup.waited[item.name] = run, until
                return run, until
        late = DeadlineError(item.what, until.seconds)
        if not self._makes_progress(item):
            self._record_time_out(item, late)
        if entry is not None:
            self._log_stale(item, entry, late)
        return entry or late

    def _record_time_out(self, item: Item[Any], error: DeadlineError) -> None:
        """Let all lookups on this host know of it while the refresh still runs."""
        failure = self._memory.failure(item.name)
        if failure is not None and self.clock() < failure.retry_at:
            return  # of many that have waited, the first has recorded it
        failure = Failure.after(failure, error, self.clock())
        self._memory.keep(item.name, failure)
        for tier in self.tiers[:1]:
            place = tier.place(item.name) if tier.is_known() else None
            if place is not None:
                _store_failure(tier.store, place, failure)

    def _log_stale(self, item: Item[Any], entry: Entry[Any], error: RedshiftSecretsError) -> None:
        log.warning("%s, stale for %.0f s, is still used: %s", item.what, self.clock() - entry.stale_at, error)

    # --- the refresh

    def _refresh_behind(self, item: Item[Any], since: float) -> None:
        """Start a refresh unless one runs here, or one failed or was found elsewhere a moment ago. The caller has the lock."""
        failure = self._memory.failure(item.name)
        if item.name in self._running or (failure is not None and self.clock() < failure.retry_at):
            return
        if self.monotonic() < self._elsewhere.get(item.name, float("-inf")):
            return
        try:
            self._start(item, since, waits=False)
        except RuntimeError as error:
            log.warning("%s", RefreshNotStartedError(item.what, str(error)))

    def _start(self, item: Item[V], since: float, *, waits: bool) -> Run[Entry[V] | None]:
        """Start the refresh of an item in a thread. The caller has the lock."""

        def work() -> Entry[V] | None:
            result: Entry[V] | Failure | None
            try:
                result = self._refresh(item, since, waits=waits)
            except Exception as error:
                result = Failure.after(self._memory.failure(item.name), error, self.clock())
            finally:
                with self._lock:
                    if self._running.get(item.name) is run:
                        del self._running[item.name]
            if isinstance(result, Failure):
                self._memory.keep(item.name, result)
                log.warning("%s could not be refreshed: %s", item.what, result.known_error)
                return None
            if result is None:
                self._elsewhere[item.name] = self.monotonic() + _ELSEWHERE_SECONDS
            return result

        run = Run(work)
        self._workers.submit(run)
        self._running[item.name] = run
        return run

    def _refresh(self, item: Item[V], since: float, *, waits: bool) -> Entry[V] | Failure | None:
        """Take what another process has put into a store, or ask AWS for all of them.

        `None` where another process is asking and nobody waits for it any longer.
        """
        deadline = Deadline(self._timeout_seconds, self.monotonic)
        held: list[_Held] = []
        try:
            for tier in self.tiers:
                place = tier.place(item.name)
                if place is None:
                    continue
                found = self._lease(item, tier.store, place, since, deadline, waits=waits)
                if isinstance(found, _Held):
                    held.append(found)
                    continue
                if isinstance(found, Failure):
                    _spread(found, held)
                elif found is not None:
                    _copy(item, found, tier.store, place, held)
                    if item.kept:
                        self._memory.keep(item.name, found)
                return found
            return self._fetch(item, held)
        finally:
            for each in reversed(held):
                each.lease.release()

    def _fetch(self, item: Item[V], held: Sequence[_Held]) -> Entry[V] | Failure:
        """Ask AWS, and put the answer or the failure into every store whose lease is held."""
        recall = Recall([(each.store, each.place, each.lease) for each in held], self.clock, self.monotonic)
        try:
            entry = item.fetch(recall)
        except Exception as error:
            known = [each.failure for each in held if each.failure is not None]
            before = known[0] if known else self._memory.failure(item.name)
            failure = Failure.after(before, error, self.clock())
            _spread(failure, held)
            return failure
        rows = entry.to_rows(item.encode) if held else {}
        for each in held:
            each.store.replace(each.place, rows, entry.expires_at)
            if each.failure is not None:
                each.store.clear(_failure_place(each.place))
        recall.forget()
        entry = item.here(entry)
        self._memory.keep(item.name, entry)
        return entry

    def _lease(
        self, item: Item[V], store: SharedStore, place: str, since: float, deadline: Deadline, *, waits: bool
    ) -> _Held | Entry[V] | Failure | None:
        """Take the lease of a store and look again, for as long as that takes. Without the lease, return what is found."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            left_before = deadline.left()
            lease = store.try_lock(place)
            try:
                entry, failure = self._look(item, store, place)
                now = self.clock()
                if entry is not None and entry.made_at > since and now < (entry.wait_at if waits else entry.stale_at):
                    return entry
                if failure is not None and now < failure.retry_at:
                    return failure
                if lease is None and self._has_stalled(item, store, place, failure, deadline, waits=waits):
                    lease = store.try_lock(f"{place}?")
                if lease is not None:
                    held = _Held(store, place, lease, failure)
                    lease = None
                    return held
                if failure is not None:
                    return failure  # another process finds out whether it still fails
            finally:
                if lease is not None:
                    lease.release()
            left = deadline.left()
            if not waits or left <= 0:
                return None
            for_read = (left_before - left) * _PAUSE_PER_READ
            self._sleep(min(min(max(pause, for_read), _LONGEST_PAUSE_SECONDS) * (0.5 + self.rand()), left))
            pause *= 2

    def _look(self, item: Item[V], store: SharedStore, place: str) -> tuple[Entry[V] | None, Failure | None]:
        """Return what a store has of an item: the unexpired entry, and the last failure."""
        rows = store.read({place: item.rows, _failure_place(place): (_FAILURE,)})
        failed = rows.get(_failure_place(place), {}).get(_FAILURE)
        return self._unexpired(item, rows.get(place, {})), Failure.from_bytes(failed) if failed is not None else None

    def _unexpired(self, item: Item[V], rows: Rows) -> Entry[V] | None:
        entry = Entry.from_rows(rows, item.decode)
        entry = item.here(entry) if entry is not None else None
        return entry if entry is not None and self.clock() < entry.expires_at else None

    def _has_stalled(
        self,
        item: Item[Any],
        store: SharedStore,
        place: str,
        failure: Failure | None,
        deadline: Deadline,
        *,
        waits: bool,
    ) -> bool:
        """Whether the process that has the lease seems to be suspended, so that one more asks AWS beside it."""
        waited = deadline.seconds - deadline.left()
        if failure is not None:
            stalled = self.clock() >= failure.retry_at + self._timeout_seconds
        else:
            stalled = waits and deadline.seconds * _STALLED_AFTER <= waited < deadline.seconds
        if not stalled or self._has_recent_answers(store, place):
            return False
        log.warning("the refresh of %s seems to be stuck in another process; taking over", item.what)
        return True

    def _makes_progress(self, item: Item[Any]) -> bool:
        """Whether the refresh that a lookup has waited for is being answered, and only has more to ask."""
        places = [(tier.store, tier.place(item.name)) for tier in self.tiers if tier.is_known()]
        return any(place is not None and self._has_recent_answers(store, place) for store, place in places)

    def _has_recent_answers(self, store: SharedStore, place: str) -> bool:
        return Recall.saved_at(store, place) > self.clock() - self._timeout_seconds


def _newer(one: Entry[V] | None, other: Entry[V] | None) -> Entry[V] | None:
    return one if other is None or (one is not None and one.stale_at >= other.stale_at) else other


def _copy(item: Item[V], entry: Entry[V], store: SharedStore, place: str, held: Sequence[_Held]) -> None:
    """Put what a farther store has into the nearer ones."""
    rows = store.read({place: item.all_rows}).get(place, {}) if held else {}
    for each in held:
        each.store.replace(each.place, rows, entry.expires_at)


def _spread(failure: Failure, held: Sequence[_Held]) -> None:
    """Put a failure into the stores of those that it holds for."""
    for each in held:
        if not (each.store.across_hosts and failure.known_error.host_only):
            _store_failure(each.store, each.place, failure)


def _store_failure(store: SharedStore, place: str, failure: Failure) -> None:
    store.replace(_failure_place(place), {_FAILURE: failure.to_bytes()}, failure.expires_at)


def _failure_place(place: str) -> str:
    return f"{place}!"
