"""The row about a whole day: the real broker and tiers, through 24 hours of a simulated clock."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet

from bench.figures import Effort, Line, NotMeasuredError, times
from bench.loopback import memory_backed
from bench.redis_server import redis_server
from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.redis.store import RedisStore
from redshift_secrets.cache.sealing import Seal
from redshift_secrets.cache.shared import SharedTiers
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.model import Credential, MintRequest, Scope, Warehouse
from redshift_secrets.settings import Settings
from redshift_secrets.settings.redis_url import parse

_TASKS_AN_HOUR = 10_000
_CONNECTIONS = 50
_HOSTS = 20
_HOURS = 24
_LIMIT = 1.1
_MINUTE = 60.0

_FIRST_PATIENCE_SECONDS = 0.02
_PATIENCE_SECONDS = 2.0
_MAX_WAITS = 50


def whole_day(effort: Effort) -> Sequence[Line]:
    """A simulation with a simulated clock and the real code: each of the 240,000 tasks is a new `Broker` with nothing
    in memory, on the stores of its host: a `HostStore` in its own folder and a `RedisStore` on one real Redis. Tasks
    arrive at a constant rate, on random hosts; every fifty of them ask for the fifty connections in random order, so
    that each connection has been asked for within the first 18 s. AWS is an object that counts calls. It holds each
    call until the lookup that caused it has been answered; then the call was in the background. If the lookup cannot be
    answered without the call, the call was on the task's critical path. The calls that a lookup caused are finished
    before the clock moves on. Fewest mints: a credential is valid for an hour and fresh for half of it, so a connection
    in constant use needs one each half hour, 48 a day. One round: the order is random, but the same in every run.
    """
    hours = effort.rounds(_HOURS, 6)
    with (
        tempfile.TemporaryDirectory(prefix="redshift-secrets-bench-", dir=memory_backed()) as folder,
        redis_server() as url,
    ):
        day = _Day(Path(folder), url)
        for task in range(hours * _TASKS_AN_HOUR):
            day.run_task(task)
    aws = day.aws
    fewest = _CONNECTIONS * hours * 2
    waited = [call for call in aws.calls if call.waited_for and call.at >= day.started + _MINUTE]
    mints, listings = (sum(call.operation == name for call in aws.calls) for name in ("mint", "list"))
    work = f"{hours} h of {_TASKS_AN_HOUR:,} tasks an hour over {_CONNECTIONS} connections and {_HOSTS} hosts"
    return [
        Line(
            f"{work}: mints, against the fewest that the ages allow",
            own=f"{mints:,}",
            peer=f"{fewest:,}",
            ratio=times(mints / fewest),
            limit=times(_LIMIT),
            met=mints <= _LIMIT * fewest,
        ),
        Line("- AWS calls a task waited for after the first minute", f"{len(waited)}", limit="0", met=not waited),
        Line(
            "- AWS calls a task waited for in the first minute",
            f"{sum(call.waited_for for call in aws.calls) - len(waited)}",
        ),
        Line("- listings of one kind in one region", f"{listings:,}"),
    ]


@dataclass(frozen=True)
class _Call:
    """One call to AWS, when it was made (seconds since the epoch), and whether a lookup waited for it."""

    operation: str
    at: float
    waited_for: bool


class _Clock:
    """A simulated clock, in seconds since the epoch. It starts at the real time, since Redis expires its rows by the real clock."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class _CountingAws:
    """An AWS that counts its calls, and holds each call until the lookup in progress has been answered."""

    def __init__(self, clock: _Clock) -> None:
        self._clock = clock
        self._began = clock()
        self._warehouses = [_cluster(number, clock()) for number in range(_CONNECTIONS)]
        self.answered = threading.Event()
        self.calls: list[_Call] = []

    def scopes(self) -> Sequence[Scope]:
        return Scope("cluster", "eu-west-1", None), Scope("workgroup", "eu-west-1", None)

    def list(self, scope: Scope) -> Sequence[Warehouse]:
        self._count("list")
        return self._warehouses if scope.kind == "cluster" else ()

    def describe(self, warehouse: Warehouse) -> Warehouse:
        self._count("describe")
        return warehouse

    def mint(self, request: MintRequest) -> Credential:
        self._count("mint")
        now = self._clock()
        return Credential(
            f"IAM:{request.db_user}", "p" * 116, now, now + request.duration, "arn:aws:iam::1:role/airflow"
        )

    def _count(self, operation: str) -> None:
        # The first minute has no limit, and nearly all of its lookups have to wait.
        first = self._clock() < self._began + _MINUTE
        behind = self.answered.wait(_FIRST_PATIENCE_SECONDS if first else _PATIENCE_SECONDS)
        self.calls.append(_Call(operation, self._clock(), not behind))
        if not first and sum(call.waited_for for call in self.calls) > 4 * _CONNECTIONS + _MAX_WAITS:
            raise RuntimeError("so many lookups wait for AWS that the simulation is stopped")


class _Day:
    """Twenty hosts with empty stores, and one empty Redis."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        seal = Seal([Fernet.generate_key().decode()])
        self._settings = Settings.from_kwargs({"regions": ["eu-west-1"]})
        self._chance = random.Random(20)
        self._clock = _Clock()
        # The Redis store measures its backoff on the same clock; otherwise a short delay of this machine would last for hours.
        address = parse(redis_url)
        self._stores = [
            (
                HostStore(folder / f"host-{number}", seal, clock=self._clock),
                RedisStore(address, seal, clock=self._clock, monotonic=self._clock),
            )
            for number in range(_HOSTS)
        ]
        self._order: list[int] = []
        self.started = self._clock()
        self.aws = _CountingAws(self._clock)

    def run_task(self, number: int) -> None:
        """Look up one connection on a random host with empty memory, and wait for the refreshes this started."""
        self._clock.now = self.started + number * 3600 / _TASKS_AN_HOUR
        broker = self._new_broker(self._chance.randrange(_HOSTS))
        self.aws.answered.clear()
        try:
            connection = broker.connection(f"conn_{self._next_connection()}")
        finally:
            self.aws.answered.set()
        if connection is None or not connection.password:
            raise NotMeasuredError("a task did not get its connection")
        for thread in threading.enumerate():
            if thread.name.startswith("redshift-secrets"):
                thread.join()

    def _next_connection(self) -> int:
        if not self._order:
            self._order = list(range(_CONNECTIONS))
            self._chance.shuffle(self._order)
        return self._order.pop()

    def _new_broker(self, host: int) -> Broker:
        return Broker(
            self._settings,
            self.aws,
            mask=lambda _password, _expires_at: None,
            tiers=SharedTiers(self._stores[host], clock=self._clock),
            clock=self._clock,
            rand=self._chance.random,
        )


def _cluster(number: int, now: float) -> Warehouse:
    return Warehouse(
        kind="cluster",
        identifier=f"c{number}",
        arn=f"arn:aws:redshift:eu-west-1:123456789012:cluster:c{number}",
        account="123456789012",
        region="eu-west-1",
        status="available",
        created_at=now - 1000,
        tags={"airflow:conn-id": f"conn_{number}", "airflow:db-user": "etl"},
        database="dev",
        host="localhost",
        port=5439,
    )
