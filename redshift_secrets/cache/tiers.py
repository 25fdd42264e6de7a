"""The tiers that processes share, and the refresh for all of them.

A refresh goes through the stores from near to far. In each it takes the lease and looks again: the process that had the
lease before may have stored a new entry, or a failure. With every lease it asks AWS; then it puts the answer, or the
failure, into every store, and releases the leases. A process that cannot have a lease waits for what the other one stores.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct

from redshift_secrets.cache import forks, get_logger
from redshift_secrets.cache.entry import Entry, Failure, Item
from redshift_secrets.cache.store import Lease, Rows, SharedStore
from redshift_secrets.cache.workers import Deadline
from redshift_secrets.errors import CallerChangedError

if TYPE_CHECKING:
    from redshift_secrets.cache.recall import Recall

log = get_logger(__name__)

V = TypeVar("V")

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.02, 0.4
_PAUSE_PER_READ = 20
"""Between reads of what another process is refreshing. Each pause is longer than the one before, and at least so many times
as long as the last read took, up to the longest; and it differs from process to process. Hundreds that wait together, and
slow each read down, must leave the processor to the one they wait for."""
_SHORTEST_GLANCE_SECONDS, _WAIT_PER_GLANCE = 0.02, 5
"""Where a store says at once that the lease was released, a process looks for that in its pauses: in steps of a fifth of the time
it has waited."""
_LONGEST_WHILE_TAKEN_SECONDS = 1.0
"""Then it need not read as often: only for a failure that is stored while the refresh still runs."""
_HEAD_START_SECONDS = 0.5
"""How long a process that has waited for another one leaves further leases to that one, unless it had one itself before. Of
hundreds that start together, one then has the clients of Redis and AWS loaded, and not a few."""
_STALLED_AFTER = 0.75
"""The part of its time after which a waiting process takes the refresh elsewhere for stalled. Then one of all that wait
asks AWS as well: a process that is suspended keeps its lease, and may never resume."""
CLOCK_STEP_SECONDS = 1.0
"""A smaller difference is a clock that is kept in step, not one that was set back."""
_ATTEMPTS = 2
"""How often AWS is asked in one refresh, where a store is flushed meanwhile."""
_AGES = struct.Struct(">dddd")
"""In front of each row: the ages of its entry."""
_FORMAT = 2
"""Of the rows. Another number has other places, so that two versions of this package neither misread nor overwrite each
other's entries."""
_FAILURE = "failure"


class Tier(Struct, frozen=True):
    """A store as one caller sees it. `namespace` is a text that only this caller has, or a function that finds it out and
    returns `None` where it cannot: then the store is not used. It may take its time unless `is_known`."""

    store: SharedStore
    namespace: str | Callable[[], str | None]
    is_known: Callable[[], bool] | None = None

    @property
    def ready(self) -> bool:
        """Whether the caller is known, so that the store answers at once."""
        return self.is_known is None or self.is_known()

    def place(self, name: str) -> str | None:
        """Return the group of an item, `None` where the caller cannot be determined."""
        namespace = self.namespace if isinstance(self.namespace, str) else self.namespace()
        if namespace is None:
            return None
        return hashlib.sha256(f"{_FORMAT}\0{namespace}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()

    def groups(self, name: str) -> list[str]:
        """Return the groups that have an item, and why it could not be refreshed; none where the caller cannot be determined."""
        place = self.place(name)
        return [] if place is None else [place, _failure_place(place)]


class _Held(Struct, frozen=True):
    """A store whose lease this process has, and what is known there: the last failure, and an entry to be refreshed."""

    store: SharedStore
    place: str
    lease: Lease
    failure: Failure | None
    entry: Entry[Any] | None


class Tiers:
    """Stores from near to far; none at all is fine. `timeout_seconds` is how long a lookup may take.

    `clock` returns seconds since the epoch, `monotonic` seconds on a clock that never jumps; `sleep` takes seconds, `rand`
    returns numbers from 0 to 1. `before_fleet` is called before a refresh goes on to the store of all hosts.
    """

    def __init__(
        self,
        tiers: Sequence[Tier],
        timeout_seconds: float,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        rand: Callable[[], float],
        before_fleet: Callable[[], None] = lambda: None,
    ) -> None:
        self._tiers = tuple(tiers)
        self._before_fleet = before_fleet
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._rand = rand
        self._leads: bool | None = None
        """Whether this process has refreshed anything, `False` where it has only waited for others."""

    def __iter__(self) -> Any:
        return iter(self._tiers)

    # --- looking

    def read(self, items: Sequence[Item[V]], tier: Tier) -> Mapping[str, Entry[V]]:
        """Return by name what one tier has unexpired of these items, in one read."""
        places = [(item, place) for item in items if (place := tier.place(item.name)) is not None]
        rows = tier.store.read({place: item.rows for item, place in places})
        entries = ((item.name, self._unexpired(item, rows.get(place, {}))) for item, place in places)
        return {name: entry for name, entry in entries if entry is not None}

    def failure(self, item: Item[Any], tier: Tier) -> Failure | None:
        """Return the last failure that one tier knows of."""
        place = tier.place(item.name)
        return self._look(item, tier.store, place)[1] if place is not None else None

    def put(self, item: Item[V], entry: Entry[V]) -> None:
        """Have every process find an entry that AWS need not be asked for."""
        for tier in self._tiers:
            place = tier.place(item.name) if tier.ready else None
            if place is not None:
                tier.store.replace(place, _to_rows(item, entry), entry.expires_at)

    def put_failure(self, item: Item[Any], failure: Failure) -> None:
        """Have the processes of this host find a failure while the refresh may still run."""
        for tier in self._tiers:
            place = tier.place(item.name) if tier.ready and not tier.store.across_hosts else None
            if place is not None:
                _store_failure(tier.store, place, failure)

    def is_being_answered(self, item: Item[Any]) -> bool:
        """Whether a refresh, wherever it runs, is being answered and only has more to ask."""
        places = [(tier.store, tier.place(item.name)) for tier in self._tiers if tier.ready]
        return any(place is not None and self._has_recent_answers(store, place) for store, place in places)

    def _look(self, item: Item[V], store: SharedStore, place: str) -> tuple[Entry[V] | None, Failure | None]:
        """Return what a store has of an item: the unexpired entry, and the last failure."""
        failed = _failure_place(place)
        rows = store.read({place: item.rows, failed: (_FAILURE,)})
        failure = Failure.from_bytes(rows.get(failed, {}).get(_FAILURE))
        if failure is not None and _is_of_another_clock(failure.made_at, failure.retry_at, self._clock()):
            failure = None
        return self._unexpired(item, rows.get(place, {})), failure

    def _unexpired(self, item: Item[V], rows: Rows) -> Entry[V] | None:
        ages = {row[: _AGES.size] for row in rows.values()}
        if len(ages) != 1:  # none, or somebody has put rows of another entry among them
            return None
        value = item.decode({name: row[_AGES.size :] for name, row in rows.items()})
        if value is None:
            return None
        entry = Entry(value, *_AGES.unpack(ages.pop()))
        if item.here is not None:
            entry = item.here(entry)
        now = self._clock()
        if _is_of_another_clock(entry.made_at, entry.stale_at, now):
            return None
        return entry if now < entry.expires_at else None

    def _has_recent_answers(self, store: SharedStore, place: str) -> bool:
        with forks.no_fork_here:
            from redshift_secrets.cache.recall import answered_at

        return answered_at(store, place) > self._clock() - self._timeout_seconds

    def _offset(self) -> float:
        return self._clock() - self._monotonic()

    # --- the refresh

    def refresh(
        self,
        item: Item[V],
        before: Failure | None,
        since: float,
        deadline: Deadline | None,
        newest: float = float("-inf"),
        on_leases: Callable[[], None] = lambda: None,
    ) -> tuple[Entry[V] | Failure | None, bool, bool]:
        """Take what another process has put into a store after `since` (seconds since the epoch), or ask AWS for all of them.

        Returns the entry or the failure, whether AWS was asked, and whether the processes that share the nearest store have it from
        this one. Neither entry nor failure where another process is asking, and the lookup that waits does not wait any longer:
        until its `deadline`, `None` where none does. `before` is the last failure that this process knows of, `newest` when the
        newest entry was made that it has seen: whoever can write to a farther store may put an older one back. `on_leases` is
        called before AWS is asked.
        """
        held: list[_Held] = []
        try:
            for tier in self._tiers:
                place = tier.place(item.name)
                if place is None:
                    continue
                if tier.store.across_hosts and held:
                    self._before_fleet()
                found = self._lease(item, tier.store, place, since, deadline, newest)
                if isinstance(found, _Held):
                    if found.entry is not None and found.entry.made_at > newest:
                        newest = found.entry.made_at
                        _copy(item, found.entry, tier.store, place, held)  # it is all there is, should AWS not answer
                    held.append(found)
                    continue
                if isinstance(found, Failure):
                    _spread(found, held)
                elif found is not None:
                    _copy(item, found, tier.store, place, held)
                return found, False, bool(held)
            on_leases()
            return self._fetch(item, held, before), True, True
        finally:
            for each in reversed(held):
                each.lease.release()

    def _lease(
        self, item: Item[V], store: SharedStore, place: str, since: float, deadline: Deadline | None, newest: float
    ) -> _Held | Entry[V] | Failure | None:
        """Take the lease of a store and look again, for as long as that takes. Without the lease, return what is found."""
        pause = _FIRST_PAUSE_SECONDS
        came = begin = self._monotonic()
        if self._leads is False and deadline is not None:
            begin += min(_HEAD_START_SECONDS * (0.5 + self._rand()), deadline.left() / 4)
        while True:
            left_before = 0.0 if deadline is None else deadline.left()
            lease = store.try_lock(place) if self._monotonic() >= begin else None
            # Before the look, which finds what was stored until a lease that is gone was released.
            is_taken = lease is None and store.is_taken(place)
            try:
                entry, failure = self._look(item, store, place)
                if entry is not None and entry.made_at < newest:
                    entry = None
                now = self._clock()
                if (
                    entry is not None
                    and entry.made_at > since
                    and now < (entry.stale_at if deadline is None else entry.wait_at)
                ):
                    return entry
                if failure is not None and now < failure.retry_at:
                    return failure
                if lease is None and self._has_stalled(store, place, failure, deadline):
                    lease = store.try_lock(f"{place}?")
                    if lease is not None:
                        log.warning(
                            "the refresh of %s seems to be stuck in another process; taking over", item.describe()
                        )
                if lease is not None:
                    held, lease = _Held(store, place, lease, failure, entry), None
                    self._leads = True
                    return held
            finally:
                if lease is not None:
                    lease.release()
            if failure is not None and self._monotonic() >= begin:
                return None if deadline is None else failure  # another process finds out whether it still fails
            left = 0.0 if deadline is None else deadline.left()
            if left <= 0:
                return None
            self._leads = bool(self._leads)
            for_read = (left_before - left) * _PAUSE_PER_READ
            longest = _LONGEST_WHILE_TAKEN_SECONDS if is_taken else min(max(pause, for_read), _LONGEST_PAUSE_SECONDS)
            sleep = min(longest * (0.5 + self._rand()), left)
            # Not past what is due in between: to take the lease, or to see whether whoever has it is stuck.
            for due in (begin - self._monotonic(), left - _left_when_stalled(deadline)):
                if due > 0:
                    sleep = min(sleep, due)
            if is_taken:
                self._sleep_while_taken(store, place, sleep, came)
            else:
                self._sleep(sleep)
            pause *= 2

    def _sleep_while_taken(self, store: SharedStore, place: str, seconds: float, waits_since: float) -> None:
        """Sleep no longer than another process has the lease, for which this one waits since then on the monotonic clock."""
        end = self._monotonic() + seconds
        while (now := self._monotonic()) < end and store.is_taken(place):
            glance = max(_SHORTEST_GLANCE_SECONDS, (now - waits_since) / _WAIT_PER_GLANCE)
            self._sleep(min(glance * (0.5 + self._rand()), end - now))

    def _has_stalled(self, store: SharedStore, place: str, failure: Failure | None, deadline: Deadline | None) -> bool:
        """Whether the process that has the lease seems to be suspended, so that one more asks AWS beside it."""
        if failure is not None:
            stalled = self._clock() >= failure.retry_at + self._timeout_seconds
        else:
            stalled = deadline is not None and 0 < deadline.left() <= _left_when_stalled(deadline)
        return stalled and not self._has_recent_answers(store, place)

    def _fetch(self, item: Item[V], held: Sequence[_Held], before: Failure | None) -> Entry[V] | Failure:
        """Ask AWS, and put the answer or the failure into every store whose lease is held, unless one was flushed since: what was
        answered before a flush must not be found after it. Then AWS is asked again."""
        with forks.no_fork_here:
            from redshift_secrets.cache.recall import Recall  # few processes refresh anything; forks wait for imports

        known = next((each.failure for each in held if each.failure is not None), before)
        answer: Entry[V] | Failure
        for _ in range(_ATTEMPTS):
            recall = Recall([(each.store, each.place, each.lease) for each in held], self._clock, self._monotonic)
            try:
                answer, is_shared = self._ask(item, held, recall)
            except CallerChangedError:
                raise  # this process is another caller now; to the others it has nothing to say
            except Exception as error:
                answer, is_shared = Failure.after(known, error, self._clock()), not recall.flushed
                _spread(answer, held if is_shared else ())
            if is_shared:
                break
            known = None
        return answer if isinstance(answer, Failure) or item.here is None else item.here(answer)

    def _ask(self, item: Item[V], held: Sequence[_Held], recall: Recall) -> tuple[Entry[V], bool]:
        """Ask AWS. Return the answer, and whether the stores have it, which none has where one was flushed meanwhile."""
        fetch: Any = item.fetch  # what is only put is never refreshed
        offset = self._offset()
        entry = fetch(recall)
        set_back = offset - self._offset()
        if set_back >= CLOCK_STEP_SECONDS:
            entry = entry.shifted(-set_back)  # it was made by the clock of before
        is_shared = not recall.flushed
        rows = _to_rows(item, entry) if held and is_shared else {}
        for each in held if is_shared else ():
            each.store.replace(each.place, rows, entry.expires_at)
            if each.failure is not None or not each.store.across_hosts:  # there a lookup may have timed out meanwhile
                each.store.clear(_failure_place(each.place))
        recall.forget()
        if is_shared and recall.flushed:
            is_shared = False
            for each in held:
                each.store.clear(each.place)
        return entry, is_shared


def _left_when_stalled(deadline: Deadline | None) -> float:
    return 0.0 if deadline is None else deadline.seconds * (1 - _STALLED_AFTER)


def _is_of_another_clock(made_at: float, fresh_until: float, now: float) -> bool:
    """Whether something was made so far in the future that it would be taken for fresh for more than twice as long as it is: by a
    host whose clock is ahead, which the store of all hosts allows within bounds that are long for what is fresh for seconds."""
    return made_at - now > max(0.0, fresh_until - made_at)


def _to_rows(item: Item[V], entry: Entry[V]) -> Rows:
    ages = _AGES.pack(entry.made_at, entry.stale_at, entry.wait_at, entry.expires_at)
    return {name: ages + row for name, row in item.encode(entry.value).items()}


def _copy(item: Item[V], entry: Entry[V], store: SharedStore, place: str, held: Sequence[_Held]) -> None:
    """Put what a farther store has into the nearer ones, unless those are flushed meanwhile."""
    marks = [each.store.flush_mark() for each in held]
    rows = store.read({place: item.all_rows}).get(place, {}) if held else {}
    if any(_AGES.unpack_from(row)[0] != entry.made_at for row in rows.values()):
        return  # another one was put there meanwhile
    for each, mark in zip(held, marks, strict=True):
        each.store.replace(each.place, rows, entry.expires_at)
        if each.store.flush_mark() != mark:
            each.store.clear(each.place)


def _spread(failure: Failure, held: Sequence[_Held]) -> None:
    """Put a failure into the stores of those that it holds for."""
    for each in held:
        if not (each.store.across_hosts and failure.known_error.host_only):
            _store_failure(each.store, each.place, failure)


def _store_failure(store: SharedStore, place: str, failure: Failure) -> None:
    store.replace(_failure_place(place), {_FAILURE: failure.to_bytes()}, failure.expires_at)


def _failure_place(place: str) -> str:
    return f"{place}!"
