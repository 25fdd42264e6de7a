"""Counted on the simulated AWS, not assumed: what lookups cost."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from redshift_secrets.aws.client import AwsClient
from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.settings.settings import Settings
from tests.e2e.conftest import MakeBroker
from tests.support.fakes import Clock

MINT = "redshift:GetClusterCredentials"


def test_a_miss_with_a_fresh_catalog_makes_no_call(make_broker: MakeBroker, stand_in: StandIn) -> None:
    broker = make_broker()
    broker.connection("analytics")
    stand_in.aws.calls.clear()
    for number in range(1000):
        assert broker.connection(f"not_ours_{number}") is None
    assert stand_in.aws.calls.total() == 0


def test_a_thousand_lookups_make_one_mint(make_broker: MakeBroker, stand_in: StandIn) -> None:
    broker = make_broker()
    passwords = {fields.password for _ in range(1000) if (fields := broker.connection("analytics"))}
    assert len(passwords) == 1
    assert stand_in.aws.calls.by_operation()[MINT] == 1


def test_sixty_four_threads_on_a_cold_process_make_one_mint_and_one_listing(
    make_broker: MakeBroker, stand_in: StandIn
) -> None:
    broker = make_broker()
    together = threading.Barrier(64)
    found: list[Any] = []

    def look_up() -> None:
        together.wait(30)
        found.append(broker.connection("analytics"))

    threads = [threading.Thread(target=look_up) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len({fields.password for fields in found}) == 1
    assert len(found) == 64
    calls = stand_in.aws.calls.by_operation()
    assert calls[MINT] == 1
    assert calls["redshift:DescribeClusters"] == 3  # one for each region of each account


def test_an_id_that_the_pattern_rejects_makes_no_call_on_a_cold_start(
    make_broker: MakeBroker, stand_in: StandIn
) -> None:
    broker = make_broker(connections_lookup_pattern="^redshift_")
    assert broker.connection("analytics") is None
    assert stand_in.aws.calls.total() == 0


def test_two_conn_ids_with_one_user_share_a_mint(make_broker: MakeBroker, stand_in: StandIn) -> None:
    broker = make_broker()
    one, other = broker.connection("analytics"), broker.connection("strict-tls")
    assert one is not None
    assert other is not None
    assert one.password == other.password
    assert stand_in.aws.calls.by_operation()[MINT] == 1


def test_a_credential_is_renewed_once_behind_the_lookups_at_half_of_its_life(
    make_broker: MakeBroker, stand_in: StandIn, clock: Clock
) -> None:
    renewed = threading.Event()
    passwords: list[str] = []

    class Noticing(list[str]):
        def append(self, password: str) -> None:
            passwords.append(password)
            if len(passwords) == 2:
                renewed.set()

    broker = make_broker(Noticing())
    first = broker.connection("analytics")
    clock.pass_(1801)
    stand_in.aws.faults.add(operation=MINT, kind="delay", seconds=0.5)
    served = [broker.connection("analytics") for _ in range(64)]
    assert first is not None
    assert {fields.password for fields in served if fields} == {first.password}
    assert renewed.wait(30)
    assert stand_in.aws.calls.by_operation()[MINT] == 2


@pytest.mark.parametrize(("tagged", "calls"), [(0, 1), (100, 1), (101, 2), (250, 3)])
def test_tagged_clusters_are_listed_a_hundred_a_call(monkeypatch: pytest.MonkeyPatch, tagged: int, calls: int) -> None:
    clusters = [
        {"identifier": f"c{number}", "tags": {"airflow:conn-id": f"conn{number}"} if number < tagged else {}}
        for number in range(tagged + 20)
    ]
    clock = Clock()
    # Only AWS runs here: 250 clusters that nobody logs in to need no gateway.
    with StandIn(config.parse({"clusters": clusters}), clock=clock) as stand_in:
        for name, value in stand_in.environment().items():
            monkeypatch.setenv(name, value)
        settings = Settings.from_kwargs({"regions": ["eu-west-1"]})
        broker = Broker(settings, AwsClient(settings, clock=clock), on_secret=[].append, clock=clock)
        assert len(broker.snapshot(broker.deadline()).claims) == tagged
        assert stand_in.aws.calls.by_operation()["redshift:DescribeClusters"] == calls


def test_workgroup_tags_come_from_the_tagging_api_in_one_call(make_broker: MakeBroker, stand_in: StandIn) -> None:
    broker = make_broker(accounts=None)
    assert broker.connection("serverless") is not None
    calls = stand_in.aws.calls.by_operation()
    assert calls["resourcegroupstaggingapi:GetResources"] == 1
    assert calls["redshift-serverless:ListWorkgroups"] == 1
    assert "redshift-serverless:ListTagsForResource" not in calls


def test_workgroup_tags_are_asked_one_by_one_where_the_tagging_api_is_denied(
    make_broker: MakeBroker, stand_in: StandIn
) -> None:
    stand_in.aws.faults.add(operation="resourcegroupstaggingapi:GetResources", kind="access_denied")
    broker = make_broker(accounts=None)
    fields = broker.connection("serverless")
    assert fields is not None
    assert fields.login == "IAM:airflow"
    assert stand_in.aws.calls.by_operation()["redshift-serverless:ListTagsForResource"] == 1
