"""A claim that moves, appears or vanishes is logged as that, and a problem when it appears: once, by the process that lists."""

from __future__ import annotations

import logging

import pytest
from msgspec.structs import replace

from redshift_secrets.cache.tiers import Tier
from redshift_secrets.lookup.listing import build_listing, claim_changes
from redshift_secrets.model import Scope
from redshift_secrets.settings import Settings
from tests.support.fakes import EPOCH, FakeAws, cluster, workgroup
from tests.support.helpers import Site
from tests.support.memory_store import MemoryStore, tier

CLUSTERS = Scope("cluster", "eu-west-1", None)


def claiming(identifier, *conn_ids, **changes):
    return cluster(identifier, {"airflow:conn-id": " ".join(conn_ids)}, **changes)


def changes(before, now):
    """Return the changes between two lists of warehouses, with the names of the warehouses."""
    specs = [build_listing(warehouses, Settings()).specs for warehouses in (before, now)]
    return [
        (each.kind, each.conn_id, [w.identifier for w in each.lost], [w.identifier for w in each.gained])
        for each in claim_changes(*specs)
    ]


class TestComparison:
    A, B, C = (claiming(name, "x") for name in "abc")
    AGAIN = replace(A, created_at=EPOCH)

    @pytest.mark.parametrize(
        ("before", "now", "expected"),
        [
            ([], [], []),
            ([A], [A], []),
            ([A, B], [B, A], []),
            ([], [A], [("appeared", "x", [], ["a"])]),
            ([A], [], [("vanished", "x", ["a"], [])]),
            ([A], [B], [("moved", "x", ["a"], ["b"])]),
            ([A], [A, B], [("appeared", "x", [], ["b"])]),
            ([A, B], [B], [("vanished", "x", ["a"], [])]),
            ([A, B], [B, C], [("moved", "x", ["a"], ["c"])]),
            ([A], [B, C], [("moved", "x", ["a"], ["b", "c"])]),
            ([A], [AGAIN], [("moved", "x", ["a"], ["a"])]),
        ],
    )
    def test_warehouses_that_claim_a_conn_id_are_compared(self, before, now, expected):
        assert changes(before, now) == expected

    def test_each_conn_id_is_compared_by_itself(self):
        before, now = [claiming("a", "one", "two"), claiming("b", "three")], [claiming("b", "one", "three", "four")]
        assert changes(before, now) == [
            ("appeared", "four", [], ["b"]),
            ("moved", "one", ["a"], ["b"]),
            ("vanished", "two", ["a"], []),
        ]

    def test_what_else_changes_of_a_warehouse_is_no_change_of_the_claim(self):
        later = claiming("a", "x", status="paused", host=None, database="other")
        assert changes([self.A], [replace(later, tags={**later.tags, "airflow:db-user": "etl"})]) == []

    @pytest.mark.parametrize("times", [(float("inf"), EPOCH), (EPOCH, float("inf"))])
    def test_one_that_has_no_creation_time_yet_is_the_same(self, times):
        before, now = (replace(self.A, created_at=time) for time in times)
        assert changes([before], [now]) == []

    def test_a_warehouse_that_may_claim_nothing_any_more_has_lost_its_claims(self):
        settings = Settings.from_kwargs({"required_tags": {"env": "prod"}})
        prod = cluster(tags={"airflow:conn-id": "x", "env": "prod"})
        specs = [build_listing([each], settings).specs for each in (prod, cluster(tags={"airflow:conn-id": "x"}))]
        assert [change.kind for change in claim_changes(*specs)] == ["vanished"]


@pytest.fixture
def aws(clock):
    return FakeAws(clock, [claiming("old", "analytics")])


@pytest.fixture
def host(clock):
    return MemoryStore(clock)


@pytest.fixture
def new_process(aws, host):
    def new_process(*tiers, **settings):
        return Site(aws.clock, aws=aws, tiers=tiers or [tier(host)], **settings)

    return new_process


def listed_again(process, clock, pause=1000):
    clock.pass_(pause)
    process.ask("something")


def logged(caplog):
    return [(r.levelname, r.getMessage()) for r in caplog.records if "claim" in r.getMessage()]


OLD, NEW = (str(claiming(name)) for name in ("old", "new"))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ([], ("INFO", f"connection 'analytics' is no longer claimed by {OLD}")),
        ([claiming("old", "analytics", "bi")], ("INFO", f"connection 'bi' is now claimed by {OLD}")),
        ([claiming("new", "analytics")], ("WARNING", f"connection 'analytics': the claim moved from {OLD} to {NEW}")),
        (
            [claiming("old", "analytics", created_at=EPOCH)],
            (
                "WARNING",
                f"connection 'analytics': the claim moved from {OLD} created at 2027-01-15T07:43:20Z to {OLD} created at"
                " 2027-01-15T08:00:00Z",
            ),
        ),
    ],
    ids=["vanished", "appeared", "moved", "created again"],
)
@pytest.mark.parametrize("later", ["the same process", "a new one"])
def test_each_change_is_one_line_in_the_log(aws, clock, new_process, caplog, now, expected, later):
    caplog.set_level(logging.INFO)
    process = new_process()
    process.ask()
    assert logged(caplog) == [], "nothing is known of the time before"
    aws.warehouses[:] = now
    for _ in range(3):
        listed_again(process if later == "the same process" else new_process(), clock)
    assert logged(caplog) == [expected]


def test_a_process_that_has_not_listed_for_long_logs_no_change_that_another_one_has_logged(
    aws, clock, new_process, caplog
):
    caplog.set_level(logging.INFO)
    one, other = new_process(), new_process()
    one.ask()
    aws.warehouses[:] = [claiming("new", "analytics")]
    listed_again(other, clock)
    listed_again(one, clock)
    assert len(logged(caplog)) == 1


def test_nor_does_one_on_another_host(aws, clock, new_process, caplog):
    caplog.set_level(logging.INFO)
    fleet, hosts = MemoryStore(clock, "fleet"), [MemoryStore(clock), MemoryStore(clock)]
    for host in hosts:
        new_process(tier(host), tier(fleet)).ask()
    aws.warehouses[:] = [claiming("new", "analytics")]
    for host in hosts * 2:
        listed_again(new_process(tier(host), tier(fleet)), clock)
    assert aws.listed[CLUSTERS] > 2
    assert len(logged(caplog)) == 1


@pytest.mark.parametrize("is_host_new", [False, True])
def test_a_flush_of_the_catalog_hides_no_change(aws, clock, new_process, caplog, is_host_new):
    caplog.set_level(logging.INFO)
    fleet, known = MemoryStore(clock, "fleet"), []

    def tiers(host):
        of_fleet = Tier(fleet, lambda: known.append("me") or "me", lambda: bool(known))
        return [tier(host), of_fleet]

    host = MemoryStore(clock)
    new_process(*tiers(host)).ask()
    aws.warehouses[:] = [claiming("new", "analytics")]
    for _ in range(2):
        known.clear()
        of_command = tiers(MemoryStore(clock) if is_host_new else host)
        new_process(*of_command).broker.inventory.flush_catalog(of_command)
    for _ in range(3):
        new_process(*tiers(host)).ask()
        clock.pass_(10)
    expected = f"connection 'analytics': the claim moved from {OLD} to {NEW}"
    assert logged(caplog) == [("WARNING", expected)]


def test_a_process_without_a_store_compares_with_what_it_listed_itself(aws, clock, caplog):
    process = Site(clock, aws=aws)
    process.ask()
    aws.warehouses[:] = [claiming("new", "analytics")]
    listed_again(process, clock)
    assert [level for level, _ in logged(caplog)] == ["WARNING"]


def test_a_claim_that_moves_to_a_scope_that_is_listed_by_itself_vanishes_there_and_appears_here(
    aws, clock, new_process, caplog
):
    caplog.set_level(logging.INFO)
    process = new_process()
    process.ask()
    target = workgroup("new", {"airflow:conn-id": "analytics"})
    aws.warehouses[:] = [target]
    listed_again(process, clock)
    assert sorted(logged(caplog)) == [
        ("INFO", f"connection 'analytics' is no longer claimed by {OLD}"),
        ("INFO", f"connection 'analytics' is now claimed by {target}"),
    ]


def test_a_scope_that_cannot_be_listed_changes_nothing(aws, clock, new_process, caplog):
    caplog.set_level(logging.INFO)
    process = new_process()
    process.ask()
    aws.failing[CLUSTERS] = OSError()
    listed_again(process, clock)
    del aws.failing[CLUSTERS]
    listed_again(process, clock)
    assert logged(caplog) == []


def test_a_problem_is_logged_when_it_appears_and_not_at_every_listing(aws, clock, new_process, caplog):
    aws.warehouses[:] = [claiming("old", "b@d")]
    for _ in range(3):
        listed_again(new_process(), clock)
    aws.warehouses.append(claiming("new", "w{rse"))
    for _ in range(3):
        listed_again(new_process(), clock)
    problems = [record.getMessage() for record in caplog.records if "must be a conn_id" in record.getMessage()]
    assert [("b@d" in each, "w{rse" in each) for each in problems] == [(True, False), (False, True)]
