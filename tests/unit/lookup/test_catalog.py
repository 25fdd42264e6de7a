"""The listings of the catalog: their ages, scopes that fail or do not answer, and the deadline of a lookup."""

from __future__ import annotations

import threading

import pytest

from redshift_secrets.cache.workers import Deadline, Lookup, MustWait
from redshift_secrets.errors import AwsError, DeadlineError
from redshift_secrets.lookup.inventory import Snapshot
from redshift_secrets.model import Scope
from tests.support.fakes import Clock, FakeAws, cluster, denied, workgroup
from tests.support.helpers import (
    BOUND,
    WatchedDeadline,
    all_refreshes_done,
    get_snapshot,
    lookup,
    make_catalog,
    past_deadline,
    waiting,
)
from tests.support.memory_store import MemoryStore, tier

CLUSTERS = Scope("cluster", "eu-west-1", None)
WORKGROUPS = Scope("workgroup", "eu-west-1", None)
TTL, STALE = 300, 86_400

ADHOC = workgroup(tags={"airflow:conn-id": "adhoc"})


@pytest.fixture
def aws(clock):
    return FakeAws(clock, [cluster(), ADHOC])


@pytest.fixture
def catalog(aws):
    return make_catalog(aws)


def unseen(snapshot):
    return [str(each) for each in snapshot.unseen]


class TestScopes:
    ROLE = "arn:aws:iam::210987654321:role/reader"

    @pytest.mark.parametrize(
        ("settings", "listed"),
        [
            ({}, {CLUSTERS, WORKGROUPS}),
            ({"warehouses": ["clusters"]}, {CLUSTERS}),
            ({"warehouses": ["workgroups"]}, {WORKGROUPS}),
            ({"warehouses": ["clusters"], "regions": ["us-east-1"]}, {Scope("cluster", "us-east-1", None)}),
            ({"warehouses": ["clusters"], "regions": []}, {CLUSTERS}),
            (
                {"warehouses": ["clusters"], "regions": [], "region_name": "us-west-2"},
                {Scope("cluster", "us-west-2", None)},
            ),
            (
                {"warehouses": ["clusters"], "accounts": [{"role_arn": ROLE}]},
                {CLUSTERS, Scope("cluster", "eu-west-1", ROLE)},
            ),
            (
                {"warehouses": ["clusters"], "accounts": [{"role_arn": ROLE, "regions": ["us-east-1"]}]},
                {CLUSTERS, Scope("cluster", "us-east-1", ROLE)},
            ),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_each_kind_of_warehouse_is_listed_in_each_region_of_each_account(self, aws, settings, listed):
        get_snapshot(make_catalog(aws, **settings))
        assert aws.listed == dict.fromkeys(listed, 1)

    @pytest.mark.parametrize("kind", ["clusters", "workgroups"])
    def test_a_kind_that_is_left_out_claims_nothing(self, aws, kind):
        found = set(get_snapshot(make_catalog(aws, warehouses=[kind])).specs)
        assert found == {"clusters": {"analytics"}, "workgroups": {"adhoc"}}[kind]

    def test_the_region_of_the_caller_is_found_out_once_for_all_processes(self, aws, clock, monkeypatch):
        regions, tiers = [], [tier(MemoryStore(clock))]
        monkeypatch.setattr(aws, "default_region", lambda: regions.append("eu-west-1") or "eu-west-1")
        for _ in range(5):
            assert set(get_snapshot(make_catalog(aws, regions=[], tiers=tiers)).specs) == {"analytics", "adhoc"}
        assert len(regions) == 1


class TestAges:
    def test_every_scope_is_listed_once_until_the_catalog_is_stale(self, aws, catalog, clock):
        for _ in range(100):
            assert set(get_snapshot(catalog).specs) == {"analytics", "adhoc"}
        clock.pass_(TTL - 0.001)
        get_snapshot(catalog)
        assert aws.calls == {"list": 2}

    @pytest.mark.parametrize("age", [TTL, 3 * TTL - 1])
    def test_a_stale_catalog_is_returned_at_once_and_refreshed_behind_the_lookup(self, aws, catalog, clock, age):
        get_snapshot(catalog)
        clock.pass_(age)
        aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        aws.hold = threading.Event()
        assert "new" not in Snapshot.of(catalog.listings(lookup())).specs  # without having to wait
        aws.hold.set()
        all_refreshes_done()
        assert "new" in get_snapshot(catalog).specs
        assert aws.calls == {"list": 4}

    @pytest.mark.parametrize("age", [3 * TTL, STALE - 1, STALE])
    def test_after_three_times_the_ttl_a_lookup_waits_for_the_refresh(self, aws, catalog, clock, age):
        get_snapshot(catalog)
        clock.pass_(age)
        aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        assert "new" in Snapshot.of(waiting(catalog.listings)).specs

    def test_it_is_stale_while_revalidating_for_no_longer_than_it_may_be_stale_at_all(self, aws, clock):
        catalog = make_catalog(aws, catalog_max_stale_seconds=600)
        get_snapshot(catalog)
        clock.pass_(600)
        aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        assert "new" in Snapshot.of(waiting(catalog.listings)).specs

    @pytest.mark.parametrize("rand", [0.0, 1.0])
    def test_no_scope_is_listed_more_often_than_once_in_its_ttl(self, aws, clock, rand):
        catalog = make_catalog(aws, rand)
        get_snapshot(catalog)
        clock.pass_(TTL - 0.001)
        get_snapshot(catalog)
        assert aws.calls["list"] == 2
        clock.pass_(0.001)
        get_snapshot(catalog)
        assert aws.calls["list"] == 4

    def test_a_warehouse_that_was_deleted_or_lost_its_tag_leaves_the_catalog(self, aws, catalog, clock):
        get_snapshot(catalog)
        aws.warehouses[:] = [cluster(tags={"owner": "bi"})]
        clock.pass_(TTL)
        get_snapshot(catalog)
        assert get_snapshot(catalog).specs == {}


class TestScopesFailAlone:
    def test_a_scope_that_fails_leaves_the_others_working(self, aws, catalog):
        aws.failing[CLUSTERS] = denied()
        snapshot = get_snapshot(catalog)
        assert set(snapshot.specs) == {"adhoc"}
        assert unseen(snapshot) == [f"{CLUSTERS}: {denied()}"]

    def test_an_unexpected_error_fails_its_scope_alone_too_and_its_text_is_not_shown(self, aws, catalog):
        aws.failing[CLUSTERS] = KeyError("ClusterIdentifier")
        snapshot = get_snapshot(catalog)
        assert set(snapshot.specs) == {"adhoc"}
        assert "an unexpected KeyError" in unseen(snapshot)[0]
        assert "ClusterIdentifier" not in unseen(snapshot)[0]

    def test_a_scope_that_fails_keeps_its_last_listing(self, aws, catalog, clock, caplog):
        get_snapshot(catalog)
        aws.failing[WORKGROUPS] = denied()
        aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        clock.pass_(TTL)
        get_snapshot(catalog)
        snapshot = get_snapshot(catalog)
        assert set(snapshot.specs) == {"analytics", "new", "adhoc"}
        assert unseen(snapshot) == []
        assert "the list of Serverless workgroups in eu-west-1 could not be refreshed" in caplog.text

    def test_the_last_listing_of_a_failing_scope_expires(self, aws, catalog, clock):
        get_snapshot(catalog)
        aws.failing[WORKGROUPS] = denied()
        clock.pass_(STALE - 1)
        for _ in range(2):
            assert set(get_snapshot(catalog).specs) == {"analytics", "adhoc"}
        clock.pass_(1)
        # The clusters were listed a second ago and the workgroups failed then: neither extends the age of the other.
        snapshot = get_snapshot(catalog)
        assert set(snapshot.specs) == {"analytics"}
        assert unseen(snapshot) == [f"{WORKGROUPS}: {denied()}"]

    def test_a_failing_scope_is_listed_after_pauses_that_double_up_to_a_minute(self, aws, catalog, clock):
        aws.failing[WORKGROUPS] = denied()
        get_snapshot(catalog)
        for calls, pause in enumerate([5, 10, 20, 40, 60, 60], start=1):
            clock.pass_(pause - 0.5)
            get_snapshot(catalog)
            assert aws.listed[WORKGROUPS] == calls, f"before the pause of {pause} s was over"
            clock.pass_(0.5)
            get_snapshot(catalog)
            assert aws.listed[WORKGROUPS] == calls + 1, f"after the pause of {pause} s"

    def test_a_failing_scope_causes_no_listing_of_the_others(self, aws, catalog, clock):
        aws.failing[WORKGROUPS] = denied()
        get_snapshot(catalog)
        clock.pass_(10)
        get_snapshot(catalog)
        assert (aws.listed[CLUSTERS], aws.listed[WORKGROUPS]) == (1, 2)

    def test_when_every_scope_fails_the_catalog_is_returned_until_it_expires(self, aws, catalog, clock):
        get_snapshot(catalog)
        aws.failing = {CLUSTERS: denied(), WORKGROUPS: denied()}
        clock.pass_(STALE - 1)
        for _ in range(2):
            assert set(get_snapshot(catalog).specs) == {"analytics", "adhoc"}
        clock.pass_(1)
        snapshot = get_snapshot(catalog)
        assert (snapshot.specs, len(snapshot.unseen)) == ({}, 2)

    @pytest.mark.parametrize(("code", "kept"), [("EndlessPaging", False), ("ThrottlingException", True)])
    def test_answers_are_kept_for_the_next_process_unless_going_on_from_there_would_not_end(self, aws, code, kept):
        monotonic, store = Clock(0), MemoryStore(aws.clock)

        def fails_late(_scope, recall):
            recall("page 1", lambda: monotonic.pass_(60))
            raise AwsError("redshift:DescribeClusters", "every cluster", "me", code, "No.", "Try again.")

        aws.list = fails_late
        get_snapshot(make_catalog(aws, tiers=[tier(store)], monotonic=monotonic, warehouses=["clusters"]))
        assert any(group.endswith("+") for group in store.groups) == kept


class TestDeadline:
    def test_a_scope_that_hangs_does_not_delay_the_listings_of_the_others(self, aws, catalog):
        aws.hold, aws.held_scopes = threading.Event(), {CLUSTERS}
        monotonic = Clock(0)
        asked = Lookup(Deadline(10, monotonic))
        with pytest.raises(MustWait) as must:
            catalog.listings(asked)
        (_held, until), (other, _) = must.value.waits
        assert until.left() == 10
        other.wait(Deadline(BOUND))
        monotonic.pass_(10)
        snapshot = Snapshot.of(catalog.listings(asked))
        assert set(snapshot.specs) == {"adhoc"}
        assert [each.scope for each in snapshot.unseen] == [CLUSTERS]
        aws.hold.set()

    def test_a_late_catalog_ends_the_lookup_and_serves_a_later_one(self, aws, catalog):
        aws.hold = threading.Event()
        snapshot = Snapshot.of(waiting(catalog.listings, lookup(past_deadline())))
        assert [type(each.error) for each in snapshot.unseen] == [DeadlineError] * 2
        assert "Timed out after 10 s (aws_timeout_seconds) waiting for the list of clusters" in unseen(snapshot)[0]
        deadline = WatchedDeadline()
        assert Snapshot.of(waiting(catalog.listings, lookup(deadline))).specs == {}
        assert deadline.waits == 0, "the next lookup waits too"
        aws.hold.set()
        all_refreshes_done()
        assert set(get_snapshot(catalog).specs) == {"analytics", "adhoc"}
        assert aws.calls == {"list": 2}
