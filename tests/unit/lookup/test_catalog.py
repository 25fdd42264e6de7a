"""The catalog: its ages, scopes that fail or do not answer, and the deadline of a lookup."""

from __future__ import annotations

import logging
import threading

import pytest

from redshift_secrets.errors import CatalogUnavailableError, DeadlineError
from redshift_secrets.model import Scope
from tests.support.fakes import Clock, FakeAws, cluster, denied, workgroup
from tests.support.helpers import (
    BOUND,
    WatchedDeadline,
    all_refreshes_done,
    get_snapshot,
    make_catalog,
    past_deadline,
)

CLUSTERS = Scope("cluster", "eu-west-1", None)
WORKGROUPS = Scope("workgroup", "eu-west-1", None)
OTHER_ROLE = "arn:aws:iam::210987654321:role/reader"
TTL, STALE = 300, 86_400

ADHOC = workgroup(tags={"airflow:conn-id": "adhoc"})


class HeldScopes(FakeAws):
    """Delays the listing of single scopes; the other listings wait until those have begun, and then let time pass."""

    def __init__(self, *args, held, monotonic, **kwargs):
        super().__init__(*args, **kwargs)
        self.release = threading.Event()
        self._held = {scope: threading.Event() for scope in held}
        self._monotonic = monotonic

    def list(self, scope):
        found = super().list(scope)
        if scope in self._held:
            self._held[scope].set()
            assert self.release.wait(BOUND)
        else:
            for event in self._held.values():
                assert event.wait(BOUND)
            self._monotonic.pass_(100)
        return found


@pytest.fixture
def aws(clock):
    return FakeAws(clock, [cluster(), ADHOC])


@pytest.fixture
def catalog(aws):
    return make_catalog(aws)


class TestAges:
    def test_every_scope_is_listed_once_until_the_catalog_is_stale(self, aws, catalog, clock):
        for _ in range(100):
            assert set(get_snapshot(catalog).claims) == {"analytics", "adhoc"}
        clock.pass_(TTL - 0.001)
        get_snapshot(catalog)
        assert aws.calls == {"list": 2}

    def test_a_stale_catalog_is_returned_at_once_and_refreshed_behind_the_lookup(self, aws, catalog, clock):
        get_snapshot(catalog)
        clock.pass_(TTL)
        aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        aws.hold = threading.Event()
        deadline = WatchedDeadline()
        assert "new" not in catalog.snapshot(deadline).claims
        assert deadline.waits == 0
        aws.hold.set()
        all_refreshes_done()
        assert "new" in get_snapshot(catalog).claims
        assert aws.calls == {"list": 4}

    @pytest.mark.parametrize(("rand", "fresh_for"), [(0.0, TTL), (1.0, TTL * 0.9)])
    def test_refreshes_are_spread(self, aws, clock, rand, fresh_for):
        catalog = make_catalog(aws, rand)
        get_snapshot(catalog)
        clock.pass_(fresh_for - 0.001)
        get_snapshot(catalog)
        assert aws.calls["list"] == 2
        clock.pass_(0.001)
        get_snapshot(catalog)
        assert aws.calls["list"] == 4

    def test_an_expired_catalog_is_refreshed_before_it_is_returned(self, aws, catalog, clock):
        get_snapshot(catalog)
        clock.pass_(STALE)
        aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        assert "new" in catalog.snapshot(WatchedDeadline()).claims

    def test_a_warehouse_that_was_deleted_or_lost_its_tag_leaves_the_catalog(self, aws, catalog, clock):
        get_snapshot(catalog)
        aws.warehouses[:] = [cluster(tags={"owner": "bi"})]
        clock.pass_(TTL)
        get_snapshot(catalog)
        assert get_snapshot(catalog).claims == {}


class TestScopesFailAlone:
    def test_a_scope_that_fails_leaves_the_others_working(self, aws, catalog):
        aws.failing[CLUSTERS] = denied()
        snapshot = get_snapshot(catalog)
        assert set(snapshot.claims) == {"adhoc"}
        assert snapshot.meta.unlisted_scopes == (f"{CLUSTERS}: {denied()}",)

    def test_an_unexpected_error_fails_its_scope_alone_too(self, aws, catalog):
        aws.failing[CLUSTERS] = KeyError("ClusterIdentifier")
        assert set(get_snapshot(catalog).claims) == {"adhoc"}

    def test_a_scope_that_fails_keeps_its_last_listing(self, aws, catalog, clock, caplog):
        get_snapshot(catalog)
        aws.failing[WORKGROUPS] = denied()
        aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        clock.pass_(TTL)
        get_snapshot(catalog)
        snapshot = get_snapshot(catalog)
        assert set(snapshot.claims) == {"analytics", "new", "adhoc"}
        assert snapshot.meta.unlisted_scopes == ()
        assert "Serverless workgroups in eu-west-1 could not be listed, its last listing is kept" in caplog.text

    def test_the_last_listing_of_a_failing_scope_expires(self, aws, catalog, clock):
        get_snapshot(catalog)
        aws.failing[WORKGROUPS] = denied()
        clock.pass_(STALE - 1)
        assert set(get_snapshot(catalog).claims) == {"analytics", "adhoc"}
        assert set(get_snapshot(catalog).claims) == {"analytics", "adhoc"}
        clock.pass_(1)
        # The clusters were listed a second ago and the workgroups are in back-off: neither extends the age of the other.
        snapshot = get_snapshot(catalog)
        assert set(snapshot.claims) == {"analytics"}
        assert snapshot.meta.unlisted_scopes == (f"{WORKGROUPS}: {denied()}",)

    def test_a_failing_scope_is_listed_after_pauses_that_double_up_to_the_ttl(self, aws, catalog, clock):
        aws.failing[WORKGROUPS] = denied()
        get_snapshot(catalog)
        for calls, pause in enumerate([10, 20, 40, 80, 160, TTL, TTL], start=1):
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

    def test_after_a_success_the_pauses_of_a_scope_begin_with_the_shortest_again(self, aws, catalog, clock):
        aws.failing[WORKGROUPS] = denied()
        get_snapshot(catalog)
        clock.pass_(10)
        get_snapshot(catalog)
        del aws.failing[WORKGROUPS]
        clock.pass_(20)
        get_snapshot(catalog)
        assert set(get_snapshot(catalog).claims) == {"analytics", "adhoc"}
        aws.failing[WORKGROUPS] = denied()
        clock.pass_(TTL)
        get_snapshot(catalog)
        clock.pass_(10)
        get_snapshot(catalog)
        assert aws.listed[WORKGROUPS] == 5

    def test_without_any_listing_the_error_has_every_reason_and_is_remembered_for_a_while(
        self, aws, catalog, clock, caplog
    ):
        aws.failing = {CLUSTERS: denied(), WORKGROUPS: denied("tag:GetResources")}
        for _ in range(10):
            with pytest.raises(CatalogUnavailableError) as caught:
                get_snapshot(catalog)
            assert f"clusters in eu-west-1: {denied()}".removesuffix(".") in str(caught.value)
            assert f"workgroups in eu-west-1: {denied('tag:GetResources')}" in str(caught.value)
            assert ".;" not in str(caught.value)
        assert aws.calls == {"list": 2}
        assert [r.levelno for r in caplog.records].count(logging.ERROR) == 1
        clock.pass_(10)
        aws.failing = {}
        assert set(get_snapshot(catalog).claims) == {"analytics", "adhoc"}

    def test_when_every_scope_fails_the_catalog_is_returned_until_it_expires(self, aws, catalog, clock):
        get_snapshot(catalog)
        aws.failing = {CLUSTERS: denied(), WORKGROUPS: denied()}
        clock.pass_(STALE - 1)
        for _ in range(2):
            assert set(get_snapshot(catalog).claims) == {"analytics", "adhoc"}
        clock.pass_(1)
        with pytest.raises(CatalogUnavailableError):
            get_snapshot(catalog)


class TestDeadline:
    @pytest.fixture
    def monotonic(self):
        return Clock(0)

    def test_a_scope_that_hangs_does_not_delay_the_listings_of_the_others(self, clock, monotonic):
        aws = HeldScopes(clock, [cluster(), ADHOC], held=[CLUSTERS], monotonic=monotonic)
        catalog = make_catalog(aws, monotonic=monotonic)
        snapshot = catalog.snapshot(WatchedDeadline())
        assert set(snapshot.claims) == {"adhoc"}
        # Half of aws_timeout_seconds: the other half is left for minting.
        assert snapshot.meta.unlisted_scopes == (f"{CLUSTERS}: no answer within 5 s",)
        deadline = WatchedDeadline()
        assert set(catalog.snapshot(deadline).claims) == {"adhoc"}
        assert deadline.waits == 0, "the next lookup waits too"
        assert aws.listed[CLUSTERS] == 1
        aws.release.set()
        all_refreshes_done()

    def test_a_late_catalog_ends_the_lookup_and_serves_a_later_one(self, aws, catalog):
        aws.hold = threading.Event()
        for deadline in (past_deadline(), past_deadline()):
            with pytest.raises(
                DeadlineError, match=r"Timed out after 10 s \(.*\) waiting for the catalog of warehouses"
            ):
                catalog.snapshot(deadline)
        aws.hold.set()
        all_refreshes_done()
        assert set(get_snapshot(catalog).claims) == {"analytics", "adhoc"}
        assert aws.calls == {"list": 2}
