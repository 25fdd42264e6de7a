"""The keeper of what exists: its ages and how its scopes fail, section 6 of the design."""

from __future__ import annotations

import logging
import threading

import pytest

from redshift_secrets.errors import CatalogUnavailableError, DeadlineError
from redshift_secrets.model import Scope
from tests.support.fakes import Clock, FakeAws, cluster, denied, workgroup
from tests.support.helpers import BOUND, Crowd, WatchedDeadline, all_refreshes_done, catalog_of, spent, taken

CLUSTERS = Scope("cluster", "eu-west-1", None)
WORKGROUPS = Scope("workgroup", "eu-west-1", None)
OTHER_ROLE = "arn:aws:iam::210987654321:role/reader"
TTL, STALE = 300, 86_400

ADHOC = workgroup(tags={"airflow:conn-id": "adhoc"})


class HeldScopes(FakeAws):
    """Holds up the listing of single scopes; the others wait until all of those are held, then let time pass."""

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
    return catalog_of(aws)


class TestAges:
    def test_everything_is_listed_once_and_then_known(self, aws, catalog, clock):
        for _ in range(100):
            assert set(taken(catalog).claims) == {"analytics", "adhoc"}
        clock.pass_(TTL - 0.001)
        taken(catalog)
        assert aws.calls == {"list": 2}

    def test_a_stale_catalog_is_served_at_once_and_renewed_behind_the_lookup(self, aws, catalog, clock):
        taken(catalog)
        clock.pass_(TTL)
        aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        aws.hold = threading.Event()
        deadline = WatchedDeadline()
        assert "new" not in catalog.snapshot(deadline).claims
        assert deadline.waits == 0
        aws.hold.set()
        all_refreshes_done()
        assert "new" in taken(catalog).claims
        assert aws.calls == {"list": 4}

    @pytest.mark.parametrize(("rand", "fresh_for"), [(0.0, TTL), (1.0, TTL * 0.9)])
    def test_renewals_are_spread(self, aws, clock, rand, fresh_for):
        catalog = catalog_of(aws, rand)
        taken(catalog)
        clock.pass_(fresh_for - 0.001)
        taken(catalog)
        assert aws.calls["list"] == 2
        clock.pass_(0.001)
        taken(catalog)
        assert aws.calls["list"] == 4

    def test_a_catalog_past_its_stale_limit_is_listed_before_it_answers(self, aws, catalog, clock):
        taken(catalog)
        clock.pass_(STALE)
        aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        assert "new" in catalog.snapshot(WatchedDeadline()).claims

    def test_64_threads_with_no_catalog_cause_one_listing(self, aws, catalog):
        aws.hold = threading.Event()
        deadline = WatchedDeadline()
        crowd = Crowd(64, lambda: catalog.snapshot(deadline))
        deadline.await_waiting(64)
        aws.hold.set()
        assert {frozenset(snapshot.claims) for snapshot in crowd.outcomes()} == {frozenset({"analytics", "adhoc"})}
        assert aws.calls == {"list": 2}

    def test_a_warehouse_that_is_gone_or_lost_its_tag_is_forgotten(self, aws, catalog, clock):
        taken(catalog)
        aws.warehouses[:] = [cluster(tags={"owner": "bi"})]
        clock.pass_(TTL)
        taken(catalog)
        assert taken(catalog).claims == {}


class TestScopesFailAlone:
    def test_one_that_fails_leaves_the_others_working(self, aws, catalog):
        aws.failing[CLUSTERS] = denied()
        snapshot = taken(catalog)
        assert set(snapshot.claims) == {"adhoc"}
        assert snapshot.head.unlisted_scopes == (f"{CLUSTERS}: {denied()}",)

    def test_an_error_that_is_none_of_ours_fails_its_scope_alone_too(self, aws, catalog):
        aws.failing[CLUSTERS] = KeyError("ClusterIdentifier")
        assert set(taken(catalog).claims) == {"adhoc"}

    def test_one_that_fails_keeps_its_last_known_state(self, aws, catalog, clock, caplog):
        taken(catalog)
        aws.failing[WORKGROUPS] = denied()
        aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        clock.pass_(TTL)
        taken(catalog)
        snapshot = taken(catalog)
        assert set(snapshot.claims) == {"analytics", "new", "adhoc"}
        assert snapshot.head.unlisted_scopes == ()
        assert (
            "Serverless workgroups in eu-west-1 could not be listed, what was last known of it is kept" in caplog.text
        )

    def test_what_was_last_known_is_not_served_past_the_stale_limit(self, aws, catalog, clock):
        taken(catalog)
        aws.failing[WORKGROUPS] = denied()
        clock.pass_(STALE - 1)
        assert set(taken(catalog).claims) == {"analytics", "adhoc"}
        assert set(taken(catalog).claims) == {"analytics", "adhoc"}
        clock.pass_(1)
        # The clusters were listed a second ago and the workgroups are in back-off: neither lengthens the limit.
        snapshot = taken(catalog)
        assert set(snapshot.claims) == {"analytics"}
        assert snapshot.head.unlisted_scopes == (f"{WORKGROUPS}: {denied()}",)

    def test_a_failing_scope_is_asked_after_pauses_that_double_up_to_the_ttl(self, aws, catalog, clock):
        aws.failing[WORKGROUPS] = denied()
        taken(catalog)
        for asked, pause in enumerate([10, 20, 40, 80, 160, TTL, TTL], start=1):
            clock.pass_(pause - 0.5)
            taken(catalog)
            assert aws.listed[WORKGROUPS] == asked, f"before the pause of {pause} s was over"
            clock.pass_(0.5)
            taken(catalog)
            assert aws.listed[WORKGROUPS] == asked + 1, f"after the pause of {pause} s"

    def test_a_failing_scope_costs_the_others_no_call(self, aws, catalog, clock):
        aws.failing[WORKGROUPS] = denied()
        taken(catalog)
        clock.pass_(10)
        taken(catalog)
        assert (aws.listed[CLUSTERS], aws.listed[WORKGROUPS]) == (1, 2)

    def test_a_scope_that_is_back_begins_with_a_short_pause_again(self, aws, catalog, clock):
        aws.failing[WORKGROUPS] = denied()
        taken(catalog)
        clock.pass_(10)
        taken(catalog)
        del aws.failing[WORKGROUPS]
        clock.pass_(20)
        taken(catalog)
        assert set(taken(catalog).claims) == {"analytics", "adhoc"}
        aws.failing[WORKGROUPS] = denied()
        clock.pass_(TTL)
        taken(catalog)
        clock.pass_(10)
        taken(catalog)
        assert aws.listed[WORKGROUPS] == 5

    def test_nothing_listed_and_nothing_known_raises_every_reason_and_is_not_tried_for_a_while(
        self, aws, catalog, clock, caplog
    ):
        aws.failing = {CLUSTERS: denied(), WORKGROUPS: denied("tag:GetResources")}
        for _ in range(10):
            with pytest.raises(CatalogUnavailableError) as caught:
                taken(catalog)
            assert f"clusters in eu-west-1: {denied()}".removesuffix(".") in str(caught.value)
            assert f"workgroups in eu-west-1: {denied('tag:GetResources')}" in str(caught.value)
            assert ".;" not in str(caught.value)
        assert aws.calls == {"list": 2}
        assert [r.levelno for r in caplog.records].count(logging.ERROR) == 1
        clock.pass_(10)
        aws.failing = {}
        assert set(taken(catalog).claims) == {"analytics", "adhoc"}

    def test_when_all_fail_what_was_known_goes_on_until_the_stale_limit(self, aws, catalog, clock):
        taken(catalog)
        aws.failing = {CLUSTERS: denied(), WORKGROUPS: denied()}
        clock.pass_(STALE - 1)
        for _ in range(2):
            assert set(taken(catalog).claims) == {"analytics", "adhoc"}
        clock.pass_(1)
        with pytest.raises(CatalogUnavailableError):
            taken(catalog)


class TestDeadline:
    @pytest.fixture
    def monotonic(self):
        return Clock(0)

    def test_a_scope_that_hangs_leaves_the_answers_of_the_others(self, clock, monotonic):
        aws = HeldScopes(clock, [cluster(), ADHOC], held=[CLUSTERS], monotonic=monotonic)
        catalog = catalog_of(aws, monotonic=monotonic)
        snapshot = catalog.snapshot(WatchedDeadline())
        assert set(snapshot.claims) == {"adhoc"}
        # Half of aws_timeout_seconds, so that the other half is left for minting.
        assert snapshot.head.unlisted_scopes == (f"{CLUSTERS}: no answer within 5 s",)
        deadline = WatchedDeadline()
        assert set(catalog.snapshot(deadline).claims) == {"adhoc"}
        assert deadline.waits == 0, "the next lookup waits again"
        assert aws.listed[CLUSTERS] == 1
        aws.release.set()
        all_refreshes_done()

    def test_a_late_catalog_ends_the_lookup_and_is_there_for_a_later_one(self, aws, catalog):
        aws.hold = threading.Event()
        for deadline in (spent(), spent()):
            with pytest.raises(DeadlineError, match="the catalog of warehouses was not there after 10 s"):
                catalog.snapshot(deadline)
        aws.hold.set()
        all_refreshes_done()
        assert set(taken(catalog).claims) == {"analytics", "adhoc"}
        assert aws.calls == {"list": 2}
