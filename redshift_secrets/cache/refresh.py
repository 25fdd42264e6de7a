"""A lookup in the caches, and when it has to wait for a refresh.

A lookup takes what this process remembers, else what the nearest store has, and goes by its age:

- fresh: returned;
- stale while revalidating: returned, and refreshed behind the lookup;
- stale if error: the lookup waits for the refresh, for half of its time; where that fails, returned;
- expired or absent: the lookup waits for the refresh; where that fails, its error is the answer.

One thread of a process refreshes an item, for all of its lookups; `tiers` says how, for all processes. Nothing in a lookup
blocks: where it has to wait, `MustWait` says for what, and then it is tried again. So threads and event loops wait alike.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from cachetools import LRUCache
from msgspec import msgpack

from redshift_secrets.cache import forks, get_logger
from redshift_secrets.cache.entry import Entry, Failure, Item
from redshift_secrets.cache.flushes import Flushes
from redshift_secrets.cache.tiers import CLOCK_STEP_SECONDS, Tier, Tiers
from redshift_secrets.cache.workers import Deadline, Lookup, MustWait, Run, Turn, Workers
from redshift_secrets.errors import (
    DeadlineError,
    RedshiftSecretsError,
    RefreshNotStartedError,
    copy_for_reraise,
    known_error,
)

log = get_logger(__name__)

V = TypeVar("V")

_ELSEWHERE_SECONDS = 1.0
"""How long a process that found a refresh in progress elsewhere does not look again behind its lookups."""
_MAX_THREADS = 32
_MAX_ENTRIES, _MAX_BYTES = 4096, 32 * 2**20
_NEVER = float("-inf"), 0


class Refresher:
    """Entries in memory and in the `tiers`, from near to far, and their refresh. Safe among threads, and after a fork.

    `timeout_seconds` is how long a lookup may take. `clock` returns seconds since the epoch, `monotonic`
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
        self.clock = clock
        self.monotonic = monotonic
        self.rand = rand
        self.report: Callable[[str, str, RedshiftSecretsError], None] = _log_warning
        """Called with what failed behind the lookups, how, and why."""
        self._nearest = tiers[0] if tiers else None
        self._flushes = Flushes(tiers, clock, monotonic)
        self._tiers = Tiers(tiers, timeout_seconds, clock, monotonic, sleep, rand, self._flushes.note)
        self._workers = Workers(_MAX_THREADS)
        self._lock = threading.Lock()
        self._forget_all()
        self._running: dict[str, Run[Any]] = {}
        forks.reset_in_child(self)

    def reset_after_fork(self) -> None:
        """Called in the child, where no refresh is running."""
        if self._lock.locked():
            self._forget_all()  # a thread was in the middle of a change, so nothing here can be trusted
        self._lock = threading.Lock()
        self._running = {}

    # --- lookups

    def get(self, items: Sequence[Item[V]], lookup: Lookup, since: float = float("-inf")) -> list[Entry[V] | Exception]:
        """Return for each item its entry, or the error why there is none; raises `MustWait` where the lookup has to wait.

        An entry that was made before `since` (seconds since the epoch) is only returned where a refresh fails.
        """
        with self._lock:
            entries = {item.name: self._entry(item.name) for item in items}
        now = self.clock()
        wanted = [item for item in items if not _is_fresh(entries[item.name], now, since)]
        if wanted and self._nearest is not None and self._is_ready(self._nearest, lookup):
            for name, entry in self._read(wanted, self._nearest).items():
                entries[name] = _newer(entries[name], entry)
                if lookup.tier == "process":
                    lookup.tier = self._nearest.store.name
            self._learn_of_failures([x for x in wanted if _must_wait(entries[x.name], now)], self._nearest)
        if all(_is_fresh(entries[item.name], now, since) for item in items):
            return [entries[item.name] for item in items]  # type: ignore[misc]  # what is fresh is not None
        turn = Turn(self._workers.submit)
        answers = [self._answer(item, entries[item.name], lookup, since, turn) for item in items]
        waits = [answer for answer in answers if isinstance(answer, tuple)]
        if waits:
            lookup.tier = "aws"
            raise MustWait(waits)
        return answers  # type: ignore[return-value]  # there is no tuple left

    def get_one(self, item: Item[V], lookup: Lookup) -> Entry[V]:
        """Return the entry of one item, or raise the error why there is none; raises `MustWait` as `get`."""
        (answer,) = self.get([item], lookup)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def peek(self, item: Item[V], lookup: Lookup) -> Entry[V] | None:
        """Return what any tier has, however old; raises `MustWait` until it is known where to look."""
        entry = self.cached(item)
        for tier in self._tiers:
            if not _is_fresh(entry, self.clock()) and self._is_ready(tier, lookup):
                entry = _newer(entry, self._read([item], tier).get(item.name))
        return entry

    def cached(self, item: Item[V]) -> Entry[V] | None:
        """Return what this process remembers, else what the nearest store has, however old, without asking AWS."""
        with self._lock:
            entry = self._entry(item.name)
        if entry is None and self._nearest is not None and self._nearest.ready:
            entry = self._read([item], self._nearest).get(item.name)
        return entry

    def locate(self, items: Sequence[Item[V]]) -> dict[str, tuple[str, Entry[V]]]:
        """Return by name the nearest tier that has an item and what it has, however old, without asking AWS."""
        with self._lock:
            memory = {item.name: self._entry(item.name) for item in items}
        found = {name: ("process", entry) for name, entry in memory.items() if entry is not None}
        for tier in self._tiers:
            others = [item for item in items if item.name not in found]
            if others and tier.ready:
                found |= {name: (tier.store.name, entry) for name, entry in self._tiers.read(others, tier).items()}
        return found

    @property
    def farthest_tier(self) -> str:
        """The name of the last store, of this process where there is none."""
        return [tier.store.name for tier in self._tiers][-1] if self._nearest is not None else "process"

    def newest(self, item: Item[V]) -> Entry[V] | None:
        """Return the newest entry that this process or any store has, however old, without asking AWS or who the caller is."""
        with self._lock:
            entry = self._entry(item.name)
        for tier in self._tiers:
            if tier.ready:
                entry = _newer(entry, self._tiers.read([item], tier).get(item.name))
        return entry

    def put(self, item: Item[V], entry: Entry[V]) -> None:
        """Have every process find an entry that AWS need not be asked for."""
        size = _size(item, entry)
        with self._lock:
            self._keep(item.name, entry, size)
        self._tiers.put(item, entry)

    def failing_since(self, name: str) -> float:
        """Return since when the refresh of an item has failed each time, in seconds since the epoch; now where it has not."""
        with self._lock:
            failure = self._failure(name)
        return self.clock() if failure is None else failure.began_at

    def refresh_behind(self, item: Item[Any], since: float) -> None:
        """Refresh an entry that was made before `since`, unless that failed a moment ago; nobody waits for it."""
        with self._lock:
            self._refresh_behind(item, since, Turn(self._workers.submit))

    def forget_if_flushed(self) -> bool:
        """Forget what this process remembers if a store was flushed, and return whether it was; see `Flushes`."""
        flushed = self._flushes.happened()
        if flushed:
            with self._lock:
                self._forget()  # but not how new it was: what somebody puts back after a flush is older all the same
        return flushed

    @property
    def asks_fleet(self) -> bool:
        """Whether `forget_if_flushed` would ask the fleet store now."""
        return self._flushes.asks_fleet

    def _read(self, items: Sequence[Item[V]], tier: Tier) -> Mapping[str, Entry[V]]:
        """Return by name what a tier has of these items, but nothing that is older than what it had before."""
        found = self._tiers.read(items, tier)
        with self._lock:
            newest = {name: entry for name, entry in found.items() if entry.made_at >= self._newest(name)}
            for name, entry in newest.items():
                self._made_at[name] = entry.made_at, len(name)
        return newest

    def _is_ready(self, tier: Tier, lookup: Lookup) -> bool:
        """Whether the caller is known in a tier; raises `MustWait` once in a lookup where it is to be found out."""
        if tier.is_known is None:
            return True
        name = f"the caller in {tier.store.name}"
        if not tier.ready and lookup.hurry is None and name not in lookup.waited:
            run = Run(lambda: tier.place(name))
            try:
                self._workers.submit(run)
            except RuntimeError:
                return False  # there is no thread for a refresh either, and that says so
            lookup.waited[name] = run, lookup.deadline
            raise MustWait([(run, lookup.deadline)])
        return tier.ready

    def _answer(
        self, item: Item[V], entry: Entry[V] | None, lookup: Lookup, since: float, turn: Turn
    ) -> Entry[V] | Exception | tuple[Run[Any], Deadline]:
        """Return the entry, or the error, or what has to be waited for and until when."""
        now = self.clock()
        run, until = lookup.waited.get(item.name, (None, None))
        if run is not None and run.value is not None:
            new: Entry[V] = run.value  # made for this lookup, whatever its age
            return new
        with self._lock:
            entry = _newer(entry, self._entry(item.name))  # a refresh may have ended since
            if entry is not None and _is_fresh(entry, now, since):
                return entry
            failure, running = self._failure(item.name), self._running.get(item.name)
            if entry is not None and (failure is not None or (now < entry.wait_at and entry.made_at > since)):
                self._refresh_behind(item, since, turn)
                if failure is not None and run is not None:
                    self._log_stale(item, entry, failure.known_error)
                return entry
            tried = run is not None and run.done and not run.withdrawn
            if failure is not None and (
                now < failure.retry_at or tried or (running is not None and running is not run)
            ):
                return copy_for_reraise(failure.error)
            if lookup.hurry is not None:
                if entry is not None:
                    self._refresh_behind(item, since, turn)
                return entry or lookup.hurry
            if until is None:
                until = lookup.deadline if entry is None else lookup.deadline.half()
            if run is None or until.left() > 0:
                try:
                    run = running or self._start(item, since, lookup.deadline, turn)
                except RuntimeError as error:
                    return entry or RefreshNotStartedError(item.describe(), str(error))
                lookup.waited[item.name] = run, until
                return run, until
        late = DeadlineError(item.describe(), until.seconds, item.unanswered() if item.unanswered is not None else "")
        if not self._tiers.is_being_answered(item):
            self._time_out(item, late)
        if entry is not None:
            self._log_stale(item, entry, late)
        return entry or late

    def _learn_of_failures(self, items: Sequence[Item[Any]], tier: Tier) -> None:
        """Know what has failed in other processes, so that no lookup waits for the same where there is a stale entry."""
        for item in items:
            failure = self._tiers.failure(item, tier)
            if failure is None:
                continue
            size = _size(item, failure)
            with self._lock:
                if self._failure(item.name) is None:
                    self._keep(item.name, failure, size)

    def _time_out(self, item: Item[Any], late: DeadlineError) -> None:
        """Have all lookups on this host know of it while the refresh still runs."""
        with self._lock:
            failure = self._failure(item.name)
            if failure is not None and self.clock() < failure.retry_at:
                return  # of many that have waited, the first has seen to it
            failure = Failure.after(failure, late, self.clock())
            self._keep(item.name, failure, _size(item, failure))
        self._tiers.put_failure(item, failure)

    def _log_stale(self, item: Item[Any], entry: Entry[Any], error: RedshiftSecretsError) -> None:
        self.report(item.describe(), f", stale for {self.clock() - entry.stale_at:.0f} s, is still used", error)

    # --- the refresh, in a thread

    def _refresh_behind(self, item: Item[Any], since: float, turn: Turn) -> None:
        """Start a refresh unless one runs here, or one failed or was found elsewhere a moment ago. The caller has the lock."""
        failure = self._failure(item.name)
        if item.name in self._running or (failure is not None and self.clock() < failure.retry_at):
            return
        if self.monotonic() < self._elsewhere.get(item.name, _NEVER)[0]:
            return
        try:
            self._start(item, since, None, turn)
        except RuntimeError as error:
            log.warning("%s", RefreshNotStartedError(item.describe(), str(error)))

    def _start(self, item: Item[V], since: float, deadline: Deadline | None, turn: Turn) -> Run[Entry[V] | None]:
        """Start the refresh of an item, for a lookup that waits until the deadline or for none. The caller has the lock."""
        run = Run(lambda: self._refresh(item, since, deadline, turn))
        turn.start(run)
        self._running[item.name] = run
        return run

    def _refresh(self, item: Item[V], since: float, deadline: Deadline | None, turn: Turn) -> Entry[V] | None:
        """Refresh an item, and remember the outcome."""
        result: Entry[V] | Failure | None = None
        asked, leads, size = True, True, 0
        with self._lock:
            before, newest, memory = self._failure(item.name), self._newest(item.name), self._entries
        try:
            result, asked, leads = self._tiers.refresh(item, before, since, deadline, newest, turn.let_follow)
            size = _size(item, result)
        except BaseException as error:  # whatever ends the refresh, lookups wait for it
            result = Failure.after(before, known_error(error), self.clock())
        finally:
            with self._lock:  # in one step: a lookup finds the refresh running, or its outcome
                self._running.pop(item.name, None)
                if result is None:
                    self._elsewhere[item.name] = self.monotonic() + _ELSEWHERE_SECONDS, len(item.name)
                elif self._entries is memory and (asked or item.kept or isinstance(result, Failure)):
                    # Where a store was flushed since, memory is another one, and this may be of before.
                    self._keep(item.name, result, size)
                if isinstance(result, Entry):
                    self._made_at[item.name] = result.made_at, len(item.name)
                if isinstance(result, Entry) and not asked and not _is_fresh(result, self.clock()):
                    # It was in a farther store, and nobody else may come across it.
                    self._refresh_behind(item, since, Turn(self._workers.submit))
                # Which of this host's processes has found this one finds the others, too: the lookup is to read them all at once.
                withdrawn = [] if leads else turn.take_following()
                self._running = {name: run for name, run in self._running.items() if run not in withdrawn}
            for run in withdrawn:
                run.withdraw()
            turn.let_follow()
        if isinstance(result, Failure):
            # A lookup that waits for it tells its user.
            if deadline is None or deadline.left() <= 0:
                self.report(item.describe(), " could not be refreshed", result.known_error)
            return None
        return result

    # --- memory

    def _forget_all(self) -> None:
        self._forget()
        self._made_at: LRUCache[str, tuple[float, int]] = LRUCache(_MAX_BYTES, _share)

    def _forget(self) -> None:
        # Each value ends with its size. By count alone, a few thousand long names or values would fill the memory.
        self._entries: LRUCache[str, tuple[Entry[Any], float, int]] = LRUCache(_MAX_BYTES, _share)
        self._failures: LRUCache[str, tuple[Failure, float, int]] = LRUCache(_MAX_BYTES, _share)
        self._elsewhere: LRUCache[str, tuple[float, int]] = LRUCache(_MAX_BYTES, _share)

    def _newest(self, name: str) -> float:
        """When the newest entry was made that this process has seen. The caller has the lock."""
        made_at: float = self._made_at.get(name, _NEVER)[0]
        return made_at if made_at <= self.clock() else float("-inf")  # a clock was set back since

    def _offset(self) -> float:
        return self.clock() - self.monotonic()

    def _keep(self, name: str, kept: Entry[Any] | Failure, size: int) -> None:
        """Remember a failure, or an entry, which ends all failures. The caller has the lock."""
        if isinstance(kept, Failure):
            self._failures[name] = kept, self._offset(), size
        else:
            self._entries[name] = kept, self._offset(), size
            self._failures.pop(name, None)

    def _entry(self, name: str) -> Entry[Any] | None:
        """The entry in memory unless it has expired. The caller has the lock."""
        entry: Entry[Any] | None = self._unexpired(self._entries.get(name))
        return entry

    def _failure(self, name: str) -> Failure | None:
        """The last failure since there was an entry. The caller has the lock."""
        failure: Failure | None = self._unexpired(self._failures.get(name))
        return failure

    def _unexpired(self, kept: tuple[Any, float, int] | None) -> Any:
        if kept is None:
            return None
        value, offset, _ = kept
        # A clock that is set ahead ends entries early, one that is set back must not prolong them.
        set_back = offset - self._offset()
        if set_back >= CLOCK_STEP_SECONDS:
            value = value.shifted(-set_back)
        return value if self.clock() < value.expires_at else None


def _log_warning(what: str, how: str, error: RedshiftSecretsError) -> None:
    log.warning("%s%s: %s", what, how, error)


def _share(kept: tuple[Any, ...]) -> int:
    """How much of the memory something takes, so that neither bound is exceeded."""
    return min(_MAX_BYTES, max(_MAX_BYTES // _MAX_ENTRIES, int(kept[-1])))


def _size(item: Item[V], kept: Entry[V] | Failure | None) -> int:
    """How many bytes the name and the encoded value have, roughly: what is hidden is short.

    What is kept in parts elsewhere (listings) counts nothing: there are as many as scopes, and every lookup needs them all.
    """
    if isinstance(kept, Failure):
        return len(item.name) + len(kept.to_bytes())
    if kept is None or not item.kept:
        return len(item.name)
    return len(item.name) + len(msgpack.encode(kept.value, enc_hook=repr))


def _is_fresh(entry: Entry[Any] | None, now: float, since: float = float("-inf")) -> bool:
    return entry is not None and now < entry.stale_at and entry.made_at > since


def _must_wait(entry: Entry[Any] | None, now: float) -> bool:
    return entry is not None and now >= entry.wait_at


def _newer(one: Entry[V] | None, other: Entry[V] | None) -> Entry[V] | None:
    return one if other is None or (one is not None and one.stale_at >= other.stale_at) else other
