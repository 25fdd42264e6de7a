"""Who renews for all others, with real processes: one at half of a life, and what happens when it is killed or stopped."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from redshift_secrets.cache.bound import BoundStore
from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.redis.store import RedisStore
from redshift_secrets.cache.sealing import Seal
from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.lookup.wiring import LazyAwsClient, create_broker
from redshift_secrets.settings.settings import Settings
from tests.e2e.processes import MINT, Process, all_at_once, look_up, mint_under_way, with_log
from tests.support.helpers import BOUND, all_refreshes_done
from tests.support.redis_servers import KEY, PATIENT, RedisServer

WAREHOUSES = {"clusters": [{"identifier": "prod", "tags": {"airflow:conn-id": "analytics", "airflow:db-user": "etl"}}]}


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[StandIn, RedisServer]]:
    with StandIn(config.parse(WAREHOUSES)) as stand_in, RedisServer() as redis:
        yield stand_in, redis


@pytest.fixture
def redis(running: tuple[StandIn, RedisServer]) -> str:
    with running[1].admin() as admin:
        admin.flushall()
    return running[1].url


@pytest.fixture
def stand_in(running: tuple[StandIn, RedisServer], monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    for name, value in running[0].environment().items():
        monkeypatch.setenv(name, value)
    running[0].aws.calls.clear()
    yield running[0]
    running[0].aws.faults.clear()


def process_of(
    folder: Path, redis: str, clock: Callable[[], float] = time.time, lease_seconds: float = 10.0, **settings: Any
) -> Broker:
    """What a process has of whom the host's store is in `folder`."""
    checked = Settings.from_kwargs({"regions": "eu-west-1", **settings})
    aws, seal = LazyAwsClient(checked, clock), Seal([KEY])
    fleet = RedisStore(redis, seal, clock=clock, lease_seconds=lease_seconds, patience_seconds=PATIENT)
    stores = [
        BoundStore(HostStore(folder, seal, clock=clock), aws.asker),
        BoundStore(fleet, aws.sts_identity, aws.knows_identity),
    ]
    return create_broker(checked, stores, on_secret=lambda _: None, aws=aws, clock=clock)


def password(broker: Broker) -> str | None:
    fields = broker.connection("analytics")
    return fields.password if fields else None


def test_at_half_of_a_life_one_of_the_fleet_renews_and_nobody_waits(
    stand_in: StandIn, tmp_path: Path, redis: str
) -> None:
    hosts = [tmp_path / f"host{number}" for number in range(3)]
    slowly = {"aws_timeout_seconds": 120, "lease_seconds": 120}
    (old,) = {password(process_of(folder, redis, **slowly)) for folder in hosts}
    assert stand_in.aws.calls.by_operation()[MINT] == 1
    stand_in.aws.calls.clear()
    stand_in.aws.faults.add(operation=MINT, kind="black_hole", times=1)
    answered_reader, answered = os.pipe()
    go_on, let_go_on = os.pipe()

    def task(folder: Path) -> Any:
        os.close(let_go_on)
        passed = 1801.0
        broker = process_of(folder, redis, lambda: time.time() + passed, **slowly)
        first = password(broker)
        os.write(answered, b"!")
        os.read(go_on, 1)
        last, end = first, time.monotonic() + BOUND
        while last == first and time.monotonic() < end:
            all_refreshes_done()
            passed += 1.1  # nobody looks again in the second after another one was found renewing
            last = password(broker)
        return first, last

    processes = [Process(lambda folder=folder: task(folder)) for folder in hosts * 2]
    for process in processes:
        process.begin()
    heard = 0
    while heard < len(processes):
        heard += len(os.read(answered_reader, 100))
    mint_under_way(stand_in)  # it is held, and all have been answered
    stand_in.aws.faults.clear()
    os.close(let_go_on)
    outcomes = [process.outcome() for process in processes]
    for end in (answered_reader, answered, go_on):
        os.close(end)
    assert {first for first, _ in outcomes} == {old}
    (new,) = {last for _, last in outcomes}
    assert new != old
    calls = stand_in.aws.calls.by_operation()
    assert (calls[MINT], calls["redshift:DescribeClusters"]) == (1, 1)


def test_a_holder_killed_in_the_middle_of_a_mint_frees_other_hosts_with_its_lease(
    stand_in: StandIn, tmp_path: Path, redis: str
) -> None:
    def task(name: str) -> Any:
        return with_log(lambda: password(process_of(tmp_path / name, redis, lease_seconds=1.0, aws_timeout_seconds=60)))

    stand_in.aws.faults.add(operation=MINT, kind="black_hole", times=1)
    holder = Process(lambda: task("holder"))
    holder.begin()
    mint_under_way(stand_in)
    others = [Process(lambda name=f"host{number % 3}": task(name)) for number in range(6)]
    for process in others:
        process.begin()
    holder.kill()
    outcomes = [process.outcome() for process in others]
    assert len({found for found, _ in outcomes}) == 1, outcomes
    assert outcomes[0][0] in {token.password for token in stand_in.tokens.minted()}
    assert [messages for _, messages in outcomes if messages] == []  # nothing happened that anybody must know
    assert stand_in.aws.calls.by_operation()[MINT] == 2  # that of the one who died, and one more


def test_a_holder_that_is_stopped_holds_nobody_past_the_deadline(stand_in: StandIn) -> None:
    settings = {"regions": ["eu-west-1"], "aws_timeout_seconds": 20}
    look_up("nobody", **settings)  # the catalog is there
    stand_in.aws.faults.add(operation=MINT, kind="black_hole", times=1)
    holder = Process(lambda: look_up(**settings))
    holder.begin()
    mint_under_way(stand_in)
    os.kill(holder.pid, signal.SIGSTOP)
    try:
        outcomes = all_at_once([Process(lambda: with_log(lambda: look_up(**settings))) for _ in range(5)])
        assert len({found for found, _ in outcomes}) == 1, outcomes
        assert outcomes[0][0][0] == "IAM:etl"
        (told,) = [message for _, messages in outcomes for message in messages]
        assert "has not come to an end" in told
        assert "so this process does it" in told
        assert stand_in.aws.calls.by_operation()[MINT] == 2
    finally:
        os.kill(holder.pid, signal.SIGCONT)
    stand_in.aws.faults.clear()
    # Where it was stopped for so long that its own deadline is over, it says so.
    outcome = holder.outcome()
    assert outcome[0] == "IAM:etl" or "was not there after 20 s" in outcome
    assert look_up(**settings)[0] == "IAM:etl"
