"""Threads and forks for tests, bounded and without sleeping; catalogs and brokers to use them on."""

from __future__ import annotations

import os
import pickle
import select
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from redshift_secrets.cache.refresh import Refresher
from redshift_secrets.cache.workers import Deadline, Lookup, MustWait
from redshift_secrets.errors import CannotServeError
from redshift_secrets.lookup import wiring
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.lookup.catalog import Catalog
from redshift_secrets.lookup.inventory import Snapshot
from redshift_secrets.lookup.metrics import NoMetrics
from redshift_secrets.settings import Settings
from tests.support.fakes import FakeAws, cluster

BOUND = 30.0
"""Seconds after which a test that hangs fails. Nothing waits that long in a test that passes."""


class WatchedDeadline(Deadline):
    """A generous deadline that counts how many threads have begun to wait until it."""

    def __init__(self) -> None:
        super().__init__(BOUND)
        self._waiting = threading.Semaphore(0)
        self.waits = 0

    def left(self) -> float:
        self.waits += 1
        self._waiting.release()
        return super().left()

    def await_waiting(self, number: int) -> None:
        """Return when `number` threads wait."""
        for _ in range(number):
            assert self._waiting.acquire(timeout=BOUND)


def past_deadline(seconds: float = 10) -> Deadline:
    """Return a deadline of `seconds` that has passed."""
    moments = iter([0.0])
    return Deadline(seconds, lambda: next(moments, seconds))


def lookup(deadline: Deadline | None = None) -> Lookup:
    return Lookup(deadline or WatchedDeadline())


class Crowd:
    """Threads that all make the same call at once; `outcomes` returns what each returned or raised."""

    def __init__(self, number: int, call: Callable[[], Any]) -> None:
        self._outcomes: list[Any] = []
        together = threading.Barrier(number)

        def run() -> None:
            together.wait(BOUND)
            try:
                self._outcomes.append(call())
            except Exception as error:
                self._outcomes.append(error)

        self._threads = [threading.Thread(target=run, daemon=True) for _ in range(number)]
        for thread in self._threads:
            thread.start()

    def outcomes(self) -> list[Any]:
        for thread in self._threads:
            thread.join(BOUND)
            assert not thread.is_alive(), "a thread hangs"
        return self._outcomes


def package_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("redshift-secrets")]


def all_refreshes_done() -> None:
    """Return when no refresh is running any more, nor any that one of them has started."""
    while threads := package_threads():
        for thread in threads:
            thread.join(BOUND)
            assert not thread.is_alive(), f"{thread.name} hangs"


def forget_memory() -> None:
    """Empty this process's memory, as if a new process had started."""
    wiring._brokers.clear()


def in_child(call: Callable[[], Any]) -> Any:
    """Return what the call returns in a forked child; fails when the child hangs or raises."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            outcome = call()
        except BaseException as error:
            outcome = error
        os.write(writer, pickle.dumps(outcome))
        os._exit(0)
    os.close(writer)
    try:
        answered, _, _ = select.select([reader], [], [], BOUND)
        if not answered:
            os.kill(child, signal.SIGKILL)
        assert answered, "the child hangs"
        outcome = pickle.loads(os.read(reader, 65536))
    finally:
        os.close(reader)
        os.waitpid(child, 0)
    if isinstance(outcome, BaseException):
        raise AssertionError(f"the child failed: {outcome!r}")
    return outcome


def waiting(attempt: Callable[[Lookup], Any], lookup: Lookup | None = None) -> Any:
    """Return what `attempt` returns for a lookup that waits for whatever it has to."""
    lookup = lookup or Lookup(WatchedDeadline())
    while True:
        try:
            return attempt(lookup)
        except MustWait as must:
            for run, until in must.waits:
                run.wait(until)


def make_catalog(aws, rand=0.0, monotonic=time.monotonic, tiers=(), **settings):
    refresher = Refresher(tiers, clock=aws.clock, monotonic=monotonic, rand=lambda: rand)
    return Catalog(Settings.from_kwargs({"regions": ["eu-west-1"], **settings}), aws, refresher, NoMetrics())


def get_snapshot(catalog):
    """Return the catalog's snapshot, after any refresh that this started has ended."""
    snapshot = Snapshot.of(waiting(catalog.listings))
    all_refreshes_done()
    return snapshot


def tagged(identifier="prod", **tags):
    """Return a cluster that claims `analytics`, with `airflow:db-user` for `db_user=` and so on."""
    changes = {name: tags.pop(name) for name in ("status", "created_at", "host") if name in tags}
    own = {f"airflow:{name.replace('_', '-')}": value for name, value in tags.items()}
    return cluster(identifier, {"airflow:conn-id": "analytics", **own}, **changes)


class Site:
    """A broker and its `FakeAws`, which may be shared with another. `secrets` are the passwords that were masked."""

    def __init__(
        self,
        clock,
        *warehouses,
        aws=None,
        airflow_cache_ttl_seconds=0,
        monotonic=time.monotonic,
        tiers=(),
        metrics=None,
        audit=None,
        **settings,
    ):
        warehouses = warehouses or (cluster(),)
        roles = dict.fromkeys(warehouse.role_arn for warehouse in warehouses if warehouse.role_arn is not None)
        settings = {"regions": ["eu-west-1"], "accounts": [{"role_arn": role} for role in roles], **settings}
        self.settings = Settings.from_kwargs(settings)
        self.aws = aws or FakeAws(clock, warehouses)
        self.secrets: list[str] = []
        seconds = self.settings.aws_timeout_seconds
        self.refresher = Refresher(tiers, timeout_seconds=seconds, clock=clock, monotonic=monotonic, rand=lambda: 0.0)
        self.broker = Broker(
            self.settings,
            self.aws,
            self.refresher,
            mask=lambda password, _expires_at: self.secrets.append(password),
            metrics=metrics or NoMetrics(),
            audit=audit,
            airflow_cache_ttl_seconds=airflow_cache_ttl_seconds,
        )

    def ask(self, conn_id="analytics", team=None):
        """Return what a lookup returns, after any refresh that it started has ended."""
        answer = self.broker.connection(conn_id, team)
        all_refreshes_done()
        return answer

    def refusal(self, conn_id="analytics", team=None):
        with pytest.raises(CannotServeError) as caught:
            self.ask(conn_id, team)
        return str(caught.value)
