"""The row about a whole day: the real broker and tiers, through 24 hours of a simulated clock."""

from __future__ import annotations

import multiprocessing
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from bench import machine
from bench.day_stores import MemoryStore
from bench.figures import Effort, Line, NotMeasuredError, times
from redshift_secrets.cache.refresh import Refresher
from redshift_secrets.cache.tiers import Tier
from redshift_secrets.cache.workers import MustWait
from redshift_secrets.lookup import catalog
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.lookup.host_identity import HostIdentity
from redshift_secrets.lookup.listing import build_listing
from redshift_secrets.lookup.metrics import NoMetrics
from redshift_secrets.lookup.wiring import LOCAL_IDENTITY_SECONDS
from redshift_secrets.model import Credential, MintRequest, Scope, Warehouse
from redshift_secrets.settings import Settings

_TASKS_AN_HOUR = 41_667
_REGION = "eu-west-1"
_CONNECTIONS = 5_000
_HOSTS = 500
_HOURS = 24
_BURST = 10
"""How many times the mean rate a burst has."""
_BURST_SECONDS = 120
_MIDNIGHT = 1_800_000_000.0
_MINUTE = 60.0
_FRESH_SECONDS = 1800.0
_CATALOG_TTL_SECONDS = 300
_LIMIT = 1.1
_IDENTITY = "arn:aws:iam::1:role/airflow"
_CATALOG_OR_MINT, _STS = "a listing or a mint", "STS"
_METRICS = NoMetrics()


def whole_day(effort: Effort) -> Sequence[Line]:
    """A simulation with a simulated clock and the real `Broker`, `Refresher` and `Tiers`. Each of the million tasks is a new
    process with nothing in memory, on a random one of 500 hosts. Each hour begins with two minutes at ten times the mean
    rate. Every five thousand tasks ask for the 5,000 connections in random order, so that each connection has been asked
    for within the first minute, and from then on at least once in 21 minutes. The stores of the hosts and of the fleet are
    dictionaries that seal nothing, and the one of the fleet counts the Redis commands that a `RedisStore` would send for
    the same calls. AWS is an object that counts calls and answers at once. What a lookup refreshes behind it is done when
    it has been answered, and before the clock moves on. A task that cannot be answered before a call to AWS waits for it.

    The peer is one process that remembers everything and is asked for the same: it mints when a credential has used up
    half of its hour. A process that does not find a credential on its host has to know who it is, before it may look in
    the fleet store; the hosts keep what STS says, for processes whose variables and files name their caller, and whoever waits
    for STS has a line of its own. The day is cut in as many parts as there are cores, which
    are simulated at once; each part but the first begins an hour early with empty stores, and that hour is not counted. One
    round: the order is random, but the same in every run with as many parts.
    """
    hours = effort.rounds(_HOURS, 2)
    number = min(machine.cores(), hours)
    cuts = [hours * part // number for part in range(number + 1)]
    with ProcessPoolExecutor(number, multiprocessing.get_context("spawn")) as pool:
        counts = sum(pool.map(_simulate, cuts[:-1], cuts[1:]), Counter[str]())
    tasks, mints, fewest = (counts[name] for name in ("tasks", "mints", "mints of one process"))
    listings = max(count for name, count in counts.items() if name.startswith("listings"))
    most_listings = hours * 3600 // _CATALOG_TTL_SECONDS + 1
    work = f"{hours} h with {tasks:,} tasks, {_CONNECTIONS:,} connections and {_HOSTS} hosts"
    return [
        Line(
            f"{work}: mints, against one process that remembers everything",
            own=f"{mints:,}",
            peer=f"{fewest:,}",
            ratio=times(mints / fewest),
            limit=times(_LIMIT),
            met=mints <= _LIMIT * fewest,
        ),
        Line(
            "- listings of one kind in one region, against one in each `catalog_ttl_seconds`",
            own=f"{listings:,}",
            peer=f"{most_listings:,}",
            ratio=times(listings / most_listings),
            limit=f"{most_listings:,}",
            met=listings <= most_listings,
        ),
        *(
            Line(f"- tasks that waited for {what} after the first minute", f"{count:,}", limit="0", met=count == 0)
            for what, count in ((what, counts[f"waited for {what}"]) for what in (_CATALOG_OR_MINT, _STS))
        ),
        Line(
            f"- tasks that waited for {_CATALOG_OR_MINT} in the first minute",
            f"{counts['waited in the first minute']:,}",
        ),
        Line("- calls of STS", f"{counts['calls of STS']:,}"),
        Line("- Redis commands for each task", f"{counts['commands'] / tasks:.3g}"),
    ]


def _simulate(first_hour: int, end_hour: int) -> Counter[str]:
    """Return what is counted in these hours of the day."""
    begin_hour = max(0, first_hour - 1)
    day = _Day(_MIDNIGHT + begin_hour * 3600)
    for hour in range(begin_hour, end_hour):
        if hour == first_hour:
            day.counts.clear()
        for at, number in _tasks(_MIDNIGHT + hour * 3600, day.chance):
            day.run_task(at, number)
    return day.counts


def _tasks(begin: float, chance: random.Random) -> Iterator[tuple[float, int]]:
    """The tasks of one hour that begins then: the moment of each, and the number of the connection it asks for."""
    in_burst = _TASKS_AN_HOUR * _BURST * _BURST_SECONDS // 3600
    calm, calm_seconds = _TASKS_AN_HOUR - in_burst, 3600 - _BURST_SECONDS
    moments = (
        *(begin + task * _BURST_SECONDS / in_burst for task in range(in_burst)),
        *(begin + _BURST_SECONDS + task * calm_seconds / calm for task in range(calm)),
    )
    order: list[int] = []
    for at in moments:
        if not order:
            order = list(range(_CONNECTIONS))
            chance.shuffle(order)
        yield at, order.pop()


class _Clock:
    """A simulated clock, in seconds since the epoch."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class _Workers:
    """Makes the calls of a refresher in the thread of the simulation, when it says so."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], None]] = []

    def submit(self, call: Callable[[], None]) -> None:
        """See `Workers.submit`."""
        self._calls.append(call)

    def make(self, call: Callable[[], None]) -> None:
        """Make one of the calls now."""
        if call in self._calls:
            self._calls.remove(call)
            call()

    def make_all(self) -> None:
        """Make all calls that are left, and those that these submit."""
        while self._calls:
            self._calls.pop(0)()


class _CountingAws:
    """An AWS that answers at once and counts its calls in `counts`."""

    def __init__(self, clock: Callable[[], float], counts: Counter[str]) -> None:
        self._clock = clock
        self._counts = counts
        self.warehouses = [_cluster(number) for number in range(_CONNECTIONS)]
        self.calls = 0

    def default_region(self) -> str:
        return _REGION

    def unanswered(self, kind: str, region: str) -> Sequence[str]:
        return ()

    def describe(self, warehouse: Warehouse) -> Warehouse:
        return warehouse

    def list(self, scope: Scope, _recall: object) -> Sequence[Warehouse]:
        self._count(f"listings of {scope}")
        return self.warehouses if scope.kind == "cluster" else ()

    def mint(self, request: MintRequest) -> Credential:
        self._count("mints")
        now = self._clock()
        return Credential(f"IAM:{request.db_user}", "p" * 116, now, now + request.duration, _IDENTITY)

    def sts_identity(self) -> str:
        self._counts["calls of STS"] += 1
        return _IDENTITY

    def _count(self, call: str) -> None:
        self.calls += 1
        self._counts[call] += 1


class _Day:
    """Five hundred hosts with empty stores and one empty fleet store, from this moment on. `counts` has what happened."""

    def __init__(self, begin: float) -> None:
        self.chance = random.Random(begin)
        self.counts: Counter[str] = Counter()
        self._first_minute_ends = begin + _MINUTE
        self._clock = _Clock(begin)
        self._settings = Settings.from_kwargs({"regions": [_REGION], "catalog_ttl_seconds": _CATALOG_TTL_SECONDS})
        self._aws = _CountingAws(self._clock, self.counts)
        # AWS lists the same warehouses each time, so what they claim is worked out once.
        listings = {len(listed): build_listing(listed, self._settings) for listed in (self._aws.warehouses, ())}
        catalog.build_listing = lambda listed, _settings: listings[len(listed)]  # type: ignore[assignment, attr-defined]
        self._hosts = [MemoryStore("host", self._clock, Counter(), across_hosts=False) for _ in range(_HOSTS)]
        self._fleet = MemoryStore("fleet", self._clock, self.counts, across_hosts=True)
        self._stale_at = [begin] * _CONNECTIONS
        """When the credentials of the process that remembers everything have used up half of their hour."""

    def run_task(self, at: float, number: int) -> None:
        """Look up one connection in a new process on a random host, and then do what this has left to do."""
        self._clock.now = at
        workers, calls, calls_of_sts = _Workers(), self._aws.calls, self.counts["calls of STS"]
        broker = self._new_broker(workers)
        lookup = broker.lookup()
        connection = None
        while connection is None:
            try:
                connection = broker.attempt(f"conn_{number}", None, None, lookup)
                if connection is None:
                    raise NotMeasuredError("a task did not get its connection")
            except MustWait as must:
                for run, _until in must.waits:
                    workers.make(run)
        if at < self._first_minute_ends:
            self.counts["waited in the first minute"] += self._aws.calls > calls
        else:
            self.counts[f"waited for {_CATALOG_OR_MINT}"] += self._aws.calls > calls
            self.counts[f"waited for {_STS}"] += self.counts["calls of STS"] > calls_of_sts
        workers.make_all()
        self.counts["tasks"] += 1
        if at >= self._stale_at[number]:
            self._stale_at[number] = at + _FRESH_SECONDS
            self.counts["mints of one process"] += 1

    def _new_broker(self, workers: _Workers) -> Broker:
        host = Tier(self._hosts[self.chance.randrange(_HOSTS)], "this caller")
        simulated: dict[str, Any] = {
            "clock": self._clock, "monotonic": self._clock, "sleep": _never_sleep, "rand": self.chance.random
        }  # fmt: skip
        identity = HostIdentity(host, self._aws.sts_identity, _expect_any, 10.0, LOCAL_IDENTITY_SECONDS, **simulated)
        refresher = Refresher((host, Tier(self._fleet, identity.sts_identity, identity.knows_identity)), **simulated)
        # Threads would make it slow, and each run different.
        identity._workers = refresher._workers = workers  # type: ignore[assignment]
        return Broker(self._settings, self._aws, refresher, mask=_mask_nothing, metrics=_METRICS)


def _never_sleep(_seconds: float) -> None:
    raise AssertionError("only one process runs at a time, so none waits for another")


def _expect_any(_identity: str) -> None:
    pass


def _mask_nothing(_password: str, _expires_at: float) -> None:
    pass


def _cluster(number: int) -> Warehouse:
    return Warehouse(
        kind="cluster",
        identifier=f"c{number}",
        arn=f"arn:aws:redshift:{_REGION}:123456789012:cluster:c{number}",
        account="123456789012",
        region=_REGION,
        status="available",
        created_at=_MIDNIGHT - 1000,
        tags={"airflow:conn-id": f"conn_{number}", "airflow:db-user": "etl"},
        database="dev",
        host="localhost",
        port=5439,
    )
