"""One process refreshes for all, and what happens when it is killed or suspended: with real processes and real leases."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redshift_secrets.cache.refresh import Refresher
from redshift_secrets.local.stand_in import StandIn
from redshift_secrets.lookup import wiring
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.lookup.caller import caller_fingerprint
from redshift_secrets.lookup.metrics import NoMetrics
from redshift_secrets.lookup.wiring import LazyAwsClient
from redshift_secrets.settings import Settings
from tests.e2e.conftest import LIST, MINT
from tests.e2e.patience import PATIENCE_SECONDS
from tests.e2e.processes import BOUND, Process, all_at_once, fleet, wait_for_mint, with_log
from tests.support.helpers import all_refreshes_done
from tests.support.redis_servers import KEY

WAREHOUSES = {"clusters": [{"identifier": "prod", "tags": {"airflow:conn-id": "analytics", "airflow:db-user": "etl"}}]}


def new_broker(
    cache: dict[str, Any],
    *,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    lease_seconds: float = PATIENCE_SECONDS,
) -> Broker:
    """Return the broker of a new process; `cache` is the setting."""
    settings = Settings.from_kwargs(
        {"regions": "eu-west-1", "aws_timeout_seconds": PATIENCE_SECONDS, "cache": {"key": KEY, **cache}}
    )
    caller = caller_fingerprint(os.environ)
    aws = LazyAwsClient(settings, caller, clock)
    tiers = wiring.create_tiers(
        settings, caller, aws, airflow_keys=None, clock=clock, redis_lease_seconds=lease_seconds
    )
    refresher = Refresher(tiers, timeout_seconds=PATIENCE_SECONDS, clock=clock, monotonic=monotonic, sleep=sleep)
    return Broker(settings, aws, refresher, mask=lambda _password, _expires_at: None, metrics=NoMetrics())


def password(broker: Broker) -> str | None:
    fields = broker.connection("analytics")
    return fields.password if fields else None


def test_halfway_through_its_validity_one_process_of_the_fleet_refreshes_and_none_waits(
    stand_in: StandIn, tmp_path: Path, redis: str
) -> None:
    hosts = [{"path": str(tmp_path / f"host{number}"), **fleet(redis)} for number in range(3)]
    (old,) = {password(new_broker(cache)) for cache in hosts}
    stand_in.aws.calls.clear()
    stand_in.aws.faults.add(operation=MINT, kind="black_hole", times=1)
    all_processes = multiprocessing.Barrier(2 * len(hosts), timeout=BOUND)
    processes_and_test = multiprocessing.Barrier(2 * len(hosts) + 1, timeout=BOUND)

    def task(cache: dict[str, Any]) -> Any:
        passed = 0.0
        broker = new_broker(
            cache, clock=lambda: time.time() + 1801 + passed, monotonic=lambda: time.monotonic() + passed
        )
        first = password(broker)
        processes_and_test.wait()
        for _ in range(3):  # from AWS to the fleet, from there to the other hosts, and into the memory of each process
            all_refreshes_done()
            all_processes.wait()
            passed += 1.1  # a process that found a refresh in progress does not look again for a second
            last = password(broker)
        return first, last

    processes = [Process(lambda cache=cache: task(cache)) for cache in hosts * 2]
    for process in processes:
        process.begin()
    processes_and_test.wait()  # all have an answer
    wait_for_mint(stand_in)
    stand_in.aws.faults.clear()  # only now AWS mints
    outcomes = [process.outcome() for process in processes]
    assert {first for first, _ in outcomes} == {old}
    (new,) = {last for _, last in outcomes}
    assert new != old
    calls = stand_in.aws.calls.by_operation()
    assert (calls[MINT], calls[LIST]) == (1, 1)


def test_killing_the_process_that_mints_frees_other_hosts_when_its_lease_expires(
    stand_in: StandIn, tmp_path: Path, redis: str
) -> None:
    def task(name: str, lease_seconds: float = PATIENCE_SECONDS) -> Any:
        cache = {"path": str(tmp_path / name), **fleet(redis)}
        return with_log(lambda: password(new_broker(cache, lease_seconds=lease_seconds)))

    stand_in.aws.faults.add(operation=MINT, kind="black_hole", times=1)
    minting = Process(lambda: task("minting", lease_seconds=1))
    minting.begin()
    wait_for_mint(stand_in)
    others = [Process(lambda name=f"host{number % 3}": task(name)) for number in range(6)]
    for process in others:
        process.begin()
    minting.kill()
    outcomes = [process.outcome() for process in others]
    assert len({found for found, _ in outcomes}) == 1, outcomes
    assert outcomes[0][0] in {token.password for token in stand_in.tokens.minted()}
    assert [messages for _, messages in outcomes if messages] == []  # nothing that a user has to know
    assert stand_in.aws.calls.by_operation()[MINT] == 2  # that of the killed process, and one more


def test_one_waiting_process_takes_over_from_one_that_is_suspended(stand_in: StandIn, tmp_path: Path) -> None:
    cache = {"path": str(tmp_path / "host")}
    new_broker(cache).connection("nobody")  # the catalog is there

    def task() -> Any:
        skipped = 0.0

        def sleep(seconds: float) -> None:
            """Skip the time for which the process waits before it takes over, once."""
            nonlocal skipped
            if skipped:
                time.sleep(seconds)
            skipped = 0.8 * PATIENCE_SECONDS

        broker = new_broker(cache, monotonic=lambda: time.monotonic() + skipped, sleep=sleep)
        return with_log(lambda: password(broker))

    stand_in.aws.faults.add(operation=MINT, kind="black_hole", times=1)
    minting = Process(lambda: password(new_broker(cache)))
    minting.begin()
    wait_for_mint(stand_in)
    os.kill(minting.pid, signal.SIGSTOP)
    try:
        outcomes = all_at_once([Process(task) for _ in range(5)])
        (found,) = {found for found, _ in outcomes}
        assert found in {token.password for token in stand_in.tokens.minted()}
        (message,) = [message for _, messages in outcomes for message in messages]
        assert "seems to be stuck in another process; taking over" in message
        assert stand_in.aws.calls.by_operation()[MINT] == 2
    finally:
        os.kill(minting.pid, signal.SIGCONT)
    stand_in.aws.faults.clear()
    minted = {minting.outcome(), password(new_broker(cache))}
    assert minted <= {token.password for token in stand_in.tokens.minted()}
