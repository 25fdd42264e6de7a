"""The claims of a conn_id, and when a missing conn_id or a paused warehouse causes another call to AWS."""

from __future__ import annotations

import threading

import pytest

from redshift_secrets.cache import SharedTiers
from redshift_secrets.errors import AwsError
from redshift_secrets.lookup.catalog import MISS_REFRESH_SECONDS, Catalog
from redshift_secrets.model import Scope
from redshift_secrets.settings import Settings
from tests.support.fakes import EPOCH, FakeAws, cluster, denied, workgroup
from tests.support.helpers import WatchedDeadline, all_refreshes_done, get_snapshot, lookup, make_catalog, past_deadline
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
    return make_catalog(aws)


def get_specs(catalog):
    return catalog.specs("analytics", get_snapshot(catalog).claims["analytics"])


class TestMissRefresh:
    @pytest.fixture
    def miss(self, catalog, aws):
        claims = catalog.find("new", lookup())
        aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        return claims

    def is_found(self, catalog, miss):
        return bool(catalog.refresh_for_miss(miss, lookup()).value.warehouses)

    def test_a_recent_catalog_is_not_refreshed(self, aws, catalog, clock, miss):
        clock.pass_(MISS_REFRESH_SECONDS - 0.001)
        assert not self.is_found(catalog, miss)
        assert aws.calls["list"] == 2

    def test_after_10_s_everything_is_listed_again_once(self, aws, catalog, clock, miss):
        clock.pass_(10)
        for _ in range(10):
            assert self.is_found(catalog, miss)
        assert aws.calls["list"] == 4
        assert "new" in get_snapshot(catalog).claims

    def test_a_thread_that_is_too_late_to_join_a_refresh_causes_no_second_one(self, aws):
        clock, others = aws.clock, []

        def clock_with_interruption():
            # The thread has seen that a refresh is due; before it can start one, that of another thread begins and ends.
            if others:
                others.pop()()
            return clock()

        catalog = Catalog(Settings(), aws, clock=clock_with_interruption, rand=lambda: 0.0)
        miss = catalog.find("new", lookup())
        clock.pass_(10)
        others.append(lambda: self.is_found(catalog, miss))
        self.is_found(catalog, miss)
        assert aws.calls["list"] == 4

    def test_a_scope_in_back_off_is_not_listed(self, aws, catalog, clock):
        aws.failing[WORKGROUPS] = denied()
        miss = catalog.find("new", lookup())
        clock.pass_(10)
        get_snapshot(catalog)  # its second failure, so that it is not listed for 20 s
        clock.pass_(10)
        aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
        assert self.is_found(catalog, miss)
        assert (aws.listed[CLUSTERS], aws.listed[WORKGROUPS]) == (2, 2)

    def test_a_late_refresh_leaves_the_old_claims_and_the_next_lookup_does_not_wait(self, aws, catalog, clock, miss):
        clock.pass_(10)
        aws.hold = threading.Event()
        assert not catalog.refresh_for_miss(miss, lookup(past_deadline())).value.warehouses
        deadline = WatchedDeadline()
        assert not catalog.refresh_for_miss(miss, lookup(deadline)).value.warehouses
        assert deadline.waits == 0
        aws.hold.set()
        all_refreshes_done()
        assert "new" in get_snapshot(catalog).claims


class TestClaims:
    def test_one_warehouse_listed_through_two_roles_is_no_conflict(self, clock):
        scopes = [CLUSTERS, Scope("cluster", "eu-west-1", OTHER_ROLE)]
        aws = FakeAws(clock, [cluster(role_arn=OTHER_ROLE), cluster()], scopes)
        catalog = make_catalog(aws)
        (spec,) = get_specs(catalog)
        assert spec.warehouse.role_arn is None, "the first role that lists it serves it"

    def test_a_warehouse_is_served_through_the_role_that_can_list_it(self, clock):
        scopes = [CLUSTERS, Scope("cluster", "eu-west-1", OTHER_ROLE)]
        aws = FakeAws(clock, [cluster(role_arn=OTHER_ROLE), cluster()], scopes)
        aws.failing[CLUSTERS] = denied()
        catalog = make_catalog(aws)
        (spec,) = get_specs(catalog)
        assert spec.warehouse.role_arn == OTHER_ROLE

    def test_specs_come_oldest_warehouse_first(self, aws, catalog):
        aws.warehouses[:] = [cluster("b"), cluster("c", created_at=EPOCH - 5000), cluster("a")]
        assert [s.warehouse.identifier for s in get_specs(catalog)] == ["c", "a", "b"]

    @pytest.mark.parametrize(
        ("settings", "reason"),
        [
            ({"allowed_accounts": ["210987654321"]}, "its account is not among allowed_accounts"),
            ({"required_tags": {"env": "prod"}}, "required_tags asks for the tag env = prod"),
        ],
        ids=["account", "tag"],
    )
    def test_an_ineligible_warehouse_is_ignored_with_the_reason(self, aws, settings, reason):
        snapshot = get_snapshot(make_catalog(aws, **settings))
        assert snapshot.claims == {}
        assert len(snapshot.ignored) == 2
        assert all(reason in each for each in snapshot.ignored)

    def test_a_malformed_marker_is_reported_and_affects_no_other_conn_id(self, aws, catalog, caplog):
        aws.warehouses.append(cluster("odd", {"airflow:conn-id": "good b@d"}))
        snapshot = get_snapshot(catalog)
        assert set(snapshot.claims) == {"analytics", "adhoc", "good"}
        assert "b@d" in caplog.text
        assert "cluster odd" in caplog.text


class TestDescribe:
    def test_it_returns_the_current_state_and_asks_aws_once_in_5_s(self, aws, clock):
        aws.warehouses[0] = cluster(status="paused")
        catalog = make_catalog(aws)
        (listed,) = get_specs(catalog)
        states = []
        for status in ("resuming", "available"):
            aws.warehouses[0] = cluster(status=status)
            states += [catalog.describe(listed, lookup()).warehouse.status for _ in range(3)]
            clock.pass_(5)
        assert states == ["resuming"] * 3 + ["available"] * 3
        assert aws.calls["describe"] == 2

    def test_it_does_not_change_conn_id_and_team(self, aws):
        aws.warehouses[0] = cluster(tags={"airflow:conn-id": "analytics", "airflow:team": "a"}, status="paused")
        catalog = make_catalog(aws)
        (listed,) = get_specs(catalog)
        aws.warehouses[0] = cluster(tags={"airflow:conn-id": "other", "airflow:team": "b"})
        spec = catalog.describe(listed, lookup())
        assert (spec.conn_id, spec.team, spec.warehouse.status) == ("analytics", "a", "available")

    def test_a_deleted_warehouse_raises(self, aws, catalog):
        (listed,) = get_specs(catalog)
        aws.warehouses.clear()
        with pytest.raises(AwsError, match="ClusterNotFound"):
            catalog.describe(listed, lookup())

    def test_all_processes_together_ask_aws_once_in_5_s(self, aws, clock):
        host = Memory(clock)

        def status_in_a_new_process():
            catalog = Catalog(Settings.from_kwargs({}), aws, tiers=SharedTiers([host], clock=clock), clock=clock)
            claims = catalog.find("analytics", lookup()).value
            (spec,) = catalog.specs("analytics", claims.warehouses)
            status = catalog.describe(spec, lookup()).warehouse.status
            all_refreshes_done()
            return status

        aws.warehouses[0] = cluster(status="paused")
        assert [status_in_a_new_process() for _ in range(20)] == ["paused"] * 20
        assert aws.calls["describe"] == 1
        aws.warehouses[0] = cluster()
        clock.pass_(5)
        assert [status_in_a_new_process() for _ in range(20)] == ["available"] * 20
        assert aws.calls["describe"] == 2

    def test_a_failure_is_shared_by_all_processes(self, aws, clock):
        host = Memory(clock)
        catalogs = [
            Catalog(Settings.from_kwargs({}), aws, tiers=SharedTiers([host], clock=clock), clock=clock)
            for _ in range(5)
        ]
        (spec,) = get_specs(catalogs[0])
        aws.warehouses.clear()
        for catalog in catalogs:
            with pytest.raises(AwsError, match="It is gone"):
                catalog.describe(spec, lookup())
        assert aws.calls["describe"] == 1
