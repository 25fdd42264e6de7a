"""Processes that refresh one thing, in time that passes only while all of them wait: minutes go by at once, the same each time.

A thread that sleeps or waits says so to the `Simulation`, which moves time on to the next moment at which one of them wakes.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from redshift_secrets.cache.entry import Entry, Item
from redshift_secrets.cache.recall import Recall
from redshift_secrets.cache.refresh import Refresher
from redshift_secrets.cache.tiers import Tier
from redshift_secrets.cache.workers import Deadline, Lookup, MustWait, Run
from redshift_secrets.errors import RedshiftSecretsError
from tests.support.fakes import EPOCH
from tests.support.helpers import BOUND
from tests.support.memory_store import MemoryStore, tier

T = TypeVar("T")

FOREVER = float("inf")
FRESH, STALE, EXPIRED = 100.0, 200.0, 400.0
"""Until when the entries of a `Source` are fresh, stale while revalidating, and stale if error: seconds after it was asked."""
ANYTIME = float("-inf")


class _Over(BaseException):
    """Ends a thread when the test has ended."""


class Simulation:
    """Time, and the threads in it. `jump` sets the clock of all processes ahead or back, as an administrator may."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self._ahead = 0.0
        self._changed = threading.Condition()
        self._awake = 0
        self._over = False
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], object], threading.Event]] = []

    def clock(self) -> float:
        return EPOCH + self.elapsed + self._ahead

    def monotonic(self) -> float:
        return self.elapsed

    def jump(self, seconds: float) -> None:
        self._ahead += seconds

    # --- called by the threads

    def submit(self, call: Callable[[], None]) -> None:
        """Make the call in a thread of its own, as `Workers` do."""
        with self._changed:
            self._awake += 1
        threading.Thread(target=self._work, args=(call,), daemon=True).start()

    def _work(self, call: Callable[[], None]) -> None:
        try:
            with suppress(_Over):
                call()
        finally:
            with self._changed:
                self._awake -= 1
                self._changed.notify()

    def sleep(self, seconds: float) -> None:
        self._wait(seconds)

    def wait(self, run: Run[Any], until: Deadline) -> None:
        """Return when the run has ended, at the deadline at the latest."""
        self._wait(until.left(), run)

    def _wait(self, seconds: float, run: Run[Any] | None = None) -> None:
        woken = threading.Event()

        def wake() -> None:
            with self._changed:
                if not woken.is_set():
                    self._awake += 1
                    woken.set()

        if run is not None:
            run.on_done(wake)
        with self._changed:
            heapq.heappush(self._events, (self.elapsed + seconds, next(self._order), wake, woken))
            self._awake -= 1
            self._changed.notify()
        assert woken.wait(2 * BOUND)
        if self._over:
            raise _Over

    # --- called by the test

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        """Have something happen so many seconds from now."""
        heapq.heappush(self._events, (self.elapsed + seconds, next(self._order), action, threading.Event()))

    def run(self, call: Callable[[], T]) -> T:
        """Return what the call returns, after as much time as it takes."""
        return self.start(call)()

    def start(self, call: Callable[[], T]) -> Callable[[], T]:
        """Have the call begin, and go on until it has to wait; return a function that returns what it returns."""
        run = Run(call)
        self.submit(run)
        self._settle()

        def result() -> T:
            while not run.done:
                assert self._step(FOREVER), "it would wait forever"
            if run.error is not None:
                raise run.error
            return run.value  # type: ignore[return-value]

        return result

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        end = self.elapsed + seconds
        while self._step(end):
            pass
        self.elapsed = end

    def finish(self) -> None:
        """Let time pass until there is nothing left to do but what would take forever."""
        while self._step(FOREVER):
            pass

    def close(self) -> None:
        """End all threads."""
        self._over = True
        while self._events:
            heapq.heappop(self._events)[2]()
            self._settle()

    def _step(self, end: float) -> bool:
        """Go on to the next moment at which something happens before `end`; return whether there is one."""
        self._settle()
        while self._events and self._events[0][3].is_set():
            heapq.heappop(self._events)  # what woke up before
        if not self._events or self._events[0][0] > end or self._events[0][0] == FOREVER:
            return False
        self.elapsed, _, action, _ = heapq.heappop(self._events)
        action()
        self._settle()
        return True

    def _settle(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: not self._awake, BOUND), "a thread waits without saying so"


class Source:
    """What AWS answers: v1, v2, ... after so many `seconds`, or an `error`. `asked` counts how many times it was asked."""

    def __init__(self, simulation: Simulation, seconds: float = 1.0) -> None:
        self._simulation = simulation
        self.seconds = seconds
        self.error: BaseException | None = None
        self.asked = 0

    def fetch(self, _recall: Recall) -> Entry[str]:
        self.asked += 1
        value, now = f"v{self.asked}", self._simulation.clock()
        if self.seconds:
            self._simulation.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return entry(value, now)

    def item(self, name: str = "k", **changes: Any) -> Item[str]:
        fields: dict[str, Any] = {
            "fetch": self.fetch,
            "encode": lambda value: {"value": value.encode()},
            "decode": lambda rows: rows["value"].decode() or None if "value" in rows else None,
            "rows": ("value",),
            "all_rows": ("value",),
            **changes,
        }
        return Item(name, lambda: f"the thing {name}", **fields)


class Process:
    """One process that looks things up in these tiers. Of its last lookup, `waited` is how long that took."""

    def __init__(self, simulation: Simulation, source: Source, *tiers: MemoryStore | Tier) -> None:
        self.simulation = simulation
        self.source = source
        self.refresher = Refresher(
            [each if isinstance(each, Tier) else tier(each) for each in tiers],
            clock=simulation.clock,
            monotonic=simulation.monotonic,
            sleep=simulation.sleep,
            rand=lambda: 0.5,
        )
        self.refresher._workers = simulation  # type: ignore[assignment]
        self.waited = 0.0
        self.attempts = 0
        self.tier = ""

    def start(
        self,
        *items: Item[str],
        since: float = ANYTIME,
        seconds: float = 10.0,
        hurry: RedshiftSecretsError | None = None,
    ) -> Callable[[], Any]:
        """Begin a lookup, by default of `k`; return a function that returns what it returns."""
        wanted: Sequence[Item[str]] = items or [self.source.item()]
        began = self.simulation.elapsed
        lookup = Lookup(Deadline(seconds, self.simulation.monotonic))
        lookup.hurry = hurry
        return self.simulation.start(lambda: self._look_up(wanted, lookup, since, began))

    def _look_up(self, items: Sequence[Item[str]], lookup: Lookup, since: float, began: float) -> Any:
        self.attempts = 0
        while True:
            self.attempts += 1
            assert self.attempts < 100, "it looks again and again without waiting"
            try:
                answers = self.refresher.get(items, lookup, since)
            except MustWait as must:
                for run, until in must.waits:
                    self.simulation.wait(run, until)
                continue
            self.waited, self.tier = self.simulation.elapsed - began, lookup.tier
            found = [answer.value if isinstance(answer, Entry) else answer for answer in answers]
            return found[0] if len(found) == 1 else found

    def get(self, *items: Item[str], **options: Any) -> Any:
        """Return the value of `k`, or the error why there is none; a list for several items."""
        return self.start(*items, **options)()


def entry(value: str, made_at: float) -> Entry[str]:
    return Entry(value, made_at, made_at + FRESH, made_at + STALE, made_at + EXPIRED)


def put(process: Process, value: str, made_ago: float = 0.0) -> None:
    """Put an entry made so long ago where every process finds it."""
    process.refresher.put(process.source.item(), entry(value, process.simulation.clock() - made_ago))
