"""The calls of AWS that lookups cost, counted by the simulated AWS."""

from __future__ import annotations

import pytest

from redshift_secrets.aws import client
from redshift_secrets.aws.client import AwsClient
from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from redshift_secrets.lookup.wiring import create_broker
from redshift_secrets.settings import Settings
from tests.e2e.conftest import LIST, MINT, MakeBroker
from tests.e2e.patience import PATIENCE_SECONDS
from tests.support.fakes import Clock
from tests.support.helpers import Crowd, all_refreshes_done


def test_a_miss_with_a_fresh_catalog_costs_no_call(make_broker: MakeBroker, stand_in: StandIn) -> None:
    broker = make_broker()
    broker.connection("analytics")
    stand_in.aws.calls.clear()
    for number in range(1000):
        assert broker.connection(f"unmanaged_{number}") is None
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
    found = Crowd(64, lambda: broker.connection("analytics")).outcomes()
    assert len({fields.password for fields in found}) == 1
    calls = stand_in.aws.calls.by_operation()
    assert calls[MINT] == 1
    assert calls[LIST] == 3  # one for each region of each account


def test_a_conn_id_outside_the_pattern_costs_no_call_on_a_cold_start(
    make_broker: MakeBroker, stand_in: StandIn
) -> None:
    broker = make_broker(managed_conn_ids="^redshift_")
    assert broker.connection("analytics") is None
    assert stand_in.aws.calls.total() == 0


def test_two_conn_ids_with_the_same_user_share_a_credential(make_broker: MakeBroker, stand_in: StandIn) -> None:
    broker = make_broker()
    one, other = broker.connection("analytics"), broker.connection("named")
    assert one is not None
    assert other is not None
    assert one.password == other.password
    assert stand_in.aws.calls.by_operation()[MINT] == 1


def test_halfway_through_its_validity_a_credential_is_refreshed_once_behind_the_lookups(
    make_broker: MakeBroker, stand_in: StandIn, clock: Clock
) -> None:
    broker = make_broker()
    first = broker.connection("analytics")
    clock.pass_(1801)
    stand_in.aws.faults.add(operation=MINT, kind="black_hole", times=1)
    found = [broker.connection("analytics") for _ in range(64)]
    assert first is not None
    assert {fields.password for fields in found if fields} == {first.password}
    stand_in.aws.faults.clear()  # only now AWS mints
    all_refreshes_done()
    assert stand_in.aws.calls.by_operation()[MINT] == 2


@pytest.mark.parametrize(("tagged", "calls"), [(0, 1), (80, 1), (81, 2), (280, 3)])
def test_clusters_are_listed_a_hundred_a_call(monkeypatch: pytest.MonkeyPatch, tagged: int, calls: int) -> None:
    clusters = [
        {"identifier": f"c{number}", "tags": {"airflow:conn-id": f"conn{number}"} if number < tagged else {}}
        for number in range(tagged + 20)
    ]
    clock = Clock()
    with StandIn(config.parse({"clusters": clusters}), clock=clock) as stand_in:
        for name, value in stand_in.environment().items():
            monkeypatch.setenv(name, value)
        settings = Settings.from_kwargs({"regions": ["eu-west-1"], "aws_timeout_seconds": PATIENCE_SECONDS})
        aws = AwsClient(settings, clock=clock)
        broker = create_broker(settings, aws, mask=lambda _password, _expires_at: None, clock=clock)
        assert len(broker.inventory.snapshot().specs) == tagged
        assert stand_in.aws.calls.by_operation()[LIST] == calls


def test_workgroup_tags_come_from_the_tagging_api_in_one_call(make_broker: MakeBroker, stand_in: StandIn) -> None:
    broker = make_broker(accounts=None)
    assert broker.connection("serverless") is not None
    calls = stand_in.aws.calls.by_operation()
    assert calls["resourcegroupstaggingapi:GetResources"] == 1
    assert calls["redshift-serverless:ListWorkgroups"] == 1
    assert "redshift-serverless:ListTagsForResource" not in calls


def test_a_tagging_api_that_does_not_answer_delays_nothing(
    make_broker: MakeBroker, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call is still held when both are answered."""
    monkeypatch.setattr(client, "TAGGING_PATIENCE_SECONDS", 0.01)
    stand_in.aws.faults.add(operation="resourcegroupstaggingapi:GetResources", kind="black_hole")
    broker = make_broker(accounts=None)
    assert [broker.connection(conn_id) is not None for conn_id in ("analytics", "serverless")] == [True, True]
    calls = stand_in.aws.calls.by_operation()
    assert (calls["resourcegroupstaggingapi:GetResources"], calls["redshift-serverless:ListTagsForResource"]) == (1, 1)


def test_workgroup_tags_are_read_one_by_one_where_the_tagging_api_is_denied(
    make_broker: MakeBroker, stand_in: StandIn
) -> None:
    stand_in.aws.faults.add(operation="resourcegroupstaggingapi:GetResources", kind="access_denied")
    broker = make_broker(accounts=None)
    fields = broker.connection("serverless")
    assert fields is not None
    assert fields.login == "IAM:airflow"
    assert stand_in.aws.calls.by_operation()["redshift-serverless:ListTagsForResource"] == 1
