"""docs/contract.md, "Looking a conn_id up", 2: a missing conn_id that `managed_conn_ids` matches is refused, and looked for again."""

from __future__ import annotations

import pytest

from redshift_secrets.model import Scope
from tests.support.fakes import FakeAws, cluster, denied
from tests.support.helpers import Site, all_refreshes_done
from tests.support.memory_store import MemoryStore, tier

CLUSTERS, WORKGROUPS = (Scope(kind, "eu-west-1", None) for kind in ("cluster", "workgroup"))
PAUSES = [10, 20, 40, 80, 160, 300, 300]


@pytest.fixture
def aws(clock):
    return FakeAws(clock, [cluster()])


@pytest.fixture
def host(clock):
    return MemoryStore(clock)


@pytest.fixture
def new_process(aws, host):
    def new_process(**settings):
        settings = {"managed_conn_ids": ".", "catalog_ttl_seconds": 300, **settings}
        return Site(aws.clock, aws=aws, tiers=[tier(host)], **settings)

    return new_process


def is_missing(process, conn_id="new"):
    return "no warehouse claims it" in process.refusal(conn_id)


def tag_now(aws):
    aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))


def searches(aws):
    """Return how many times all warehouses were listed."""
    assert aws.listed[CLUSTERS] == aws.listed[WORKGROUPS]
    return aws.listed[CLUSTERS]


@pytest.mark.parametrize("processes", ["two running", "a new one each time"])
def test_all_processes_together_list_after_pauses_that_double_up_to_the_ttl(aws, clock, new_process, processes):
    one, other = new_process(), new_process()
    assert is_missing(one)
    for number, pause in enumerate(PAUSES, start=1):
        for share in (0.5, 0.4):
            clock.pass_(pause * share)
            for process in (one, other) if processes == "two running" else (new_process(), new_process()):
                assert is_missing(process)
                assert searches(aws) == number, f"within the pause of {pause} s"
        clock.pass_(pause * 0.1)
        for process in (other, one) if processes == "two running" else (new_process(), new_process()):
            assert is_missing(process)
            assert searches(aws) == number + 1, f"after the pause of {pause} s"


@pytest.mark.parametrize("asked_before", [0, 1, 3])
def test_a_warehouse_tagged_a_moment_ago_is_found(aws, clock, new_process, asked_before):
    new_process().ask("analytics")
    for pause in PAUSES[:asked_before]:
        clock.pass_(pause)
        assert is_missing(new_process())
    tag_now(aws)
    clock.pass_(PAUSES[asked_before])
    assert new_process().ask("new").host.startswith("new.")


def test_one_that_aws_lists_a_moment_after_it_was_tagged_is_found_then(aws, clock, new_process, host):
    for pause in PAUSES:
        assert is_missing(new_process())
        clock.pass_(pause)
    new_process().broker.inventory.flush_catalog([tier(host)], ["new"])
    assert is_missing(new_process())
    tag_now(aws)
    clock.pass_(PAUSES[0])
    assert new_process().ask("new").host.startswith("new.")


def test_it_is_found_at_once_by_everyone_when_one_has_found_it(aws, clock, new_process):
    one, other = new_process(), new_process()
    assert is_missing(one)
    assert is_missing(other)
    tag_now(aws)
    clock.pass_(10)
    assert one.ask("new") is not None
    assert other.ask("new") is not None
    assert searches(aws) == 2


def test_each_conn_id_has_its_own_pause_and_one_listing_serves_all(aws, clock, new_process):
    process = new_process()
    assert is_missing(process)
    clock.pass_(10)
    for name in ("new", "b", "c", "d"):
        assert is_missing(process, name)
    assert searches(aws) == 2
    clock.pass_(10)  # too early for "new"; for "e" it is time
    assert is_missing(process)
    assert searches(aws) == 2
    assert is_missing(process, "e")
    assert searches(aws) == 3


def test_a_ttl_shorter_than_the_first_pause_does_not_shorten_it(aws, clock, new_process):
    process = new_process(catalog_ttl_seconds=1, catalog_max_stale_seconds=600)
    assert is_missing(process)
    clock.pass_(0.5)
    assert is_missing(process)
    assert searches(aws) == 1


def test_a_failing_scope_does_not_keep_the_others_from_being_looked_at(aws, clock, new_process):
    process = new_process()
    assert is_missing(process)
    aws.failing[WORKGROUPS] = denied()
    tag_now(aws)
    clock.pass_(10)
    assert process.ask("new").host.startswith("new.")


def test_what_was_found_missing_is_forgotten_some_time_after_nobody_asks_for_it(aws, clock, new_process):
    process = new_process()
    for pause in PAUSES[:3]:
        assert is_missing(process)
        clock.pass_(pause)
    clock.pass_(10_000)
    process.ask("analytics")
    clock.pass_(10)
    tag_now(aws)
    assert process.ask("new") is not None


def test_without_a_pattern_a_missing_conn_id_causes_no_listing(aws, clock, new_process):
    process = new_process(managed_conn_ids=None)
    for _ in range(10):
        assert process.ask("new") is None
        clock.pass_(25)
    all_refreshes_done()
    assert searches(aws) == 1


@pytest.mark.parametrize(("number", "seconds"), [(40, 7.5), (40, 90), (3, 100), (10, 11)])
def test_many_that_stay_missing_cause_no_more_listings_than_one(aws, clock, new_process, number, seconds):
    process, names = new_process(), [f"old_{each}" for each in range(number)]

    def ask_for(rounds):
        for _ in range(rounds):
            for name in names:
                clock.pass_(seconds)
                assert is_missing(process, name)

    ask_for(rounds=12)
    before, began = searches(aws), clock()
    ask_for(rounds=3)
    assert searches(aws) - before <= (clock() - began) / 300 + 1
