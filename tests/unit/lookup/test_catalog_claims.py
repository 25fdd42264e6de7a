"""What a catalog says of a conn_id, and when a missing conn_id or a paused warehouse makes it ask again: section 4."""

from __future__ import annotations

import threading

import pytest

from redshift_secrets.cache import Deadline, SharedTiers
from redshift_secrets.errors import AwsError
from redshift_secrets.lookup.catalog import MISS_REFRESH_SECONDS, Catalog
from redshift_secrets.model import Scope
from redshift_secrets.settings.settings import Settings
from tests.support.fakes import EPOCH, FakeAws, cluster, denied, workgroup
from tests.support.helpers import BOUND, Crowd, WatchedDeadline, all_refreshes_done, catalog_of, spent, taken
from tests.unit.cache.test_shared import Memory

CLUSTERS = Scope("cluster", "eu-west-1", None)
WORKGROUPS = Scope("workgroup", "eu-west-1", None)
OTHER_ROLE = "arn:aws:iam::210987654321:role/reader"
TTL, STALE = 300, 86_400

ADHOC = workgroup(tags={"airflow:conn-id": "adhoc"})


@pytest.fixture
def aws(clock):
    return FakeAws(clock, [cluster(), ADHOC])


@pytest.fixture
def catalog(aws):
    return catalog_of(aws)


def specs_of(catalog):
    return catalog.specs("analytics", taken(catalog).claims["analytics"])


class TestMissRefresh:
    @pytest.fixture
    def first(self, catalog, aws):
        missing = catalog.find("new", WatchedDeadline())
        aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        return missing

    def found(self, catalog, missing):
        return bool(catalog.renewed_for_miss(missing, WatchedDeadline()).value.warehouses)

    def test_a_catalog_just_taken_is_not_taken_again(self, aws, catalog, clock, first):
        clock.pass_(MISS_REFRESH_SECONDS - 0.001)
        assert not self.found(catalog, first)
        assert aws.calls["list"] == 2

    def test_after_10_s_everything_is_listed_again_once(self, aws, catalog, clock, first):
        clock.pass_(10)
        for _ in range(10):
            assert self.found(catalog, first)
        assert aws.calls["list"] == 4
        assert "new" in taken(catalog).claims

    def test_64_threads_join_one_refresh(self, aws, catalog, clock, first):
        clock.pass_(10)
        aws.hold = threading.Event()
        deadline = WatchedDeadline()
        crowd = Crowd(64, lambda: catalog.renewed_for_miss(first, deadline))
        deadline.await_waiting(64)
        aws.hold.set()
        assert all(claims.value.warehouses for claims in crowd.outcomes())
        assert aws.calls["list"] == 4

    def test_a_thread_that_is_a_moment_too_late_to_join_causes_no_second_refresh(self, aws):
        clock, others = aws.clock, []

        def clock_with_interruption():
            # The thread has seen that a refresh is due; before it can ask for one, another thread's begins and lands.
            if others:
                others.pop()()
            return clock()

        catalog = Catalog(Settings(), aws, clock=clock_with_interruption, rand=lambda: 0.0)
        first = catalog.find("new", WatchedDeadline())
        clock.pass_(10)
        others.append(lambda: self.found(catalog, first))
        self.found(catalog, first)
        assert aws.calls["list"] == 4

    def test_a_scope_in_back_off_is_left_alone(self, aws, catalog, clock):
        aws.failing[WORKGROUPS] = denied()
        first = catalog.find("new", WatchedDeadline())
        clock.pass_(10)
        taken(catalog)  # its second failure, so that it is left alone for 20 s
        clock.pass_(10)
        aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        assert self.found(catalog, first)
        assert (aws.listed[CLUSTERS], aws.listed[WORKGROUPS]) == (2, 2)

    def test_a_refresh_that_is_late_answers_with_what_was_known_and_is_not_waited_for_again(
        self, aws, catalog, clock, first
    ):
        clock.pass_(10)
        aws.hold = threading.Event()
        assert not catalog.renewed_for_miss(first, spent()).value.warehouses
        deadline = WatchedDeadline()
        assert not catalog.renewed_for_miss(first, deadline).value.warehouses
        assert deadline.waits == 0
        aws.hold.set()
        all_refreshes_done()
        assert "new" in taken(catalog).claims


class TestClaims:
    def test_the_same_warehouse_seen_through_two_roles_is_no_conflict(self, clock):
        scopes = [CLUSTERS, Scope("cluster", "eu-west-1", OTHER_ROLE)]
        aws = FakeAws(clock, [cluster(role_arn=OTHER_ROLE), cluster()], scopes)
        catalog = catalog_of(aws)
        (spec,) = specs_of(catalog)
        assert spec.warehouse.role_arn is None, "the first identity that sees it serves it"

    def test_the_role_that_still_sees_a_warehouse_serves_it(self, clock):
        scopes = [CLUSTERS, Scope("cluster", "eu-west-1", OTHER_ROLE)]
        aws = FakeAws(clock, [cluster(role_arn=OTHER_ROLE), cluster()], scopes)
        aws.failing[CLUSTERS] = denied()
        catalog = catalog_of(aws)
        (spec,) = specs_of(catalog)
        assert spec.warehouse.role_arn == OTHER_ROLE

    def test_specs_come_oldest_warehouse_first(self, aws, catalog):
        aws.warehouses[:] = [cluster("b"), cluster("c", created_at=EPOCH - 5000), cluster("a")]
        assert [s.warehouse.identifier for s in specs_of(catalog)] == ["c", "a", "b"]

    @pytest.mark.parametrize(
        ("settings", "reason"),
        [
            ({"allowed_accounts": ["210987654321"]}, "its account is not among allowed_accounts"),
            ({"required_tags": {"env": "prod"}}, "required_tags asks for the tag env = prod"),
        ],
        ids=["account", "tag"],
    )
    def test_what_may_not_claim_a_conn_id_is_ignored_with_its_reason(self, aws, settings, reason):
        snapshot = taken(catalog_of(aws, **settings))
        assert snapshot.claims == {}
        assert len(snapshot.ignored) == 2
        assert all(reason in each for each in snapshot.ignored)

    def test_a_marker_that_cannot_be_read_is_reported_and_hurts_nobody_else(self, aws, catalog, caplog):
        aws.warehouses.append(cluster("odd", {"airflow:conn-id": "good b@d"}))
        snapshot = taken(catalog)
        assert set(snapshot.claims) == {"analytics", "adhoc", "good"}
        assert "b@d" in caplog.text
        assert "cluster odd" in caplog.text


class TestLook:
    def test_a_look_shows_the_state_of_this_moment_and_is_not_repeated_within_5_s(self, aws, clock):
        aws.warehouses[0] = cluster(status="paused")
        catalog = catalog_of(aws)
        (seen,) = specs_of(catalog)
        states = []
        for status in ("resuming", "available"):
            aws.warehouses[0] = cluster(status=status)
            states += [catalog.look(seen, WatchedDeadline()).warehouse.status for _ in range(3)]
            clock.pass_(5)
        assert states == ["resuming"] * 3 + ["available"] * 3
        assert aws.calls["look"] == 2

    def test_a_look_does_not_change_whose_the_connection_is(self, aws):
        aws.warehouses[0] = cluster(tags={"airflow:conn-id": "analytics", "airflow:team": "a"}, status="paused")
        catalog = catalog_of(aws)
        (seen,) = specs_of(catalog)
        aws.warehouses[0] = cluster(tags={"airflow:conn-id": "other", "airflow:team": "b"})
        looked = catalog.look(seen, WatchedDeadline())
        assert (looked.conn_id, looked.team, looked.warehouse.status) == ("analytics", "a", "available")

    def test_a_look_at_what_is_gone_raises(self, aws, catalog):
        (seen,) = specs_of(catalog)
        aws.warehouses.clear()
        with pytest.raises(AwsError, match="ClusterNotFound"):
            catalog.look(seen, Deadline(BOUND))

    def test_processes_look_once_in_5_s_together(self, aws, clock):
        host = Memory(clock)

        def look():
            """As a new process does that has read the catalog from the host's store."""
            catalog = Catalog(Settings.from_kwargs({}), aws, tiers=SharedTiers([host], clock=clock), clock=clock)
            found = catalog.find("analytics", WatchedDeadline()).value
            (spec,) = catalog.specs("analytics", found.warehouses)
            state = catalog.look(spec, WatchedDeadline()).warehouse.status
            all_refreshes_done()
            return state

        aws.warehouses[0] = cluster(status="paused")
        assert [look() for _ in range(20)] == ["paused"] * 20
        assert aws.calls["look"] == 1
        aws.warehouses[0] = cluster()
        clock.pass_(5)
        assert [look() for _ in range(20)] == ["available"] * 20
        assert aws.calls["look"] == 2

    def test_processes_that_look_at_what_is_gone_hear_of_one_failure(self, aws, clock):
        host = Memory(clock)
        catalogs = [
            Catalog(Settings.from_kwargs({}), aws, tiers=SharedTiers([host], clock=clock), clock=clock)
            for _ in range(5)
        ]
        (spec,) = specs_of(catalogs[0])
        aws.warehouses.clear()
        for catalog in catalogs:
            with pytest.raises(AwsError, match="It is gone"):
                catalog.look(spec, WatchedDeadline())
        assert aws.calls["look"] == 1
