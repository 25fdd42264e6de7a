"""The claims of a conn_id, and the direct look at a warehouse that accepts no logins."""

from __future__ import annotations

import pytest

from redshift_secrets.errors import AwsError
from redshift_secrets.model import Scope
from tests.support.fakes import EPOCH, FakeAws, cluster, denied, workgroup
from tests.support.helpers import all_refreshes_done, get_snapshot, make_catalog, waiting
from tests.support.memory_store import MemoryStore, tier

CLUSTERS = Scope("cluster", "eu-west-1", None)
WORKGROUPS = Scope("workgroup", "eu-west-1", None)
OTHER_ROLE = "arn:aws:iam::210987654321:role/reader"

ADHOC = workgroup(tags={"airflow:conn-id": "adhoc"})


@pytest.fixture
def aws(clock):
    return FakeAws(clock, [cluster(), ADHOC])


@pytest.fixture
def catalog(aws):
    return make_catalog(aws)


def find(catalog, conn_id="analytics"):
    claims = waiting(lambda lookup: catalog.find(conn_id, lookup))
    all_refreshes_done()
    return claims


def describe(catalog, spec):
    return waiting(lambda lookup: catalog.describe(spec, lookup))


class TestClaims:
    @pytest.fixture
    def two_roles(self, clock):
        aws = FakeAws(clock, [cluster(role_arn=OTHER_ROLE), cluster()])
        return aws, make_catalog(aws, accounts=[{"role_arn": OTHER_ROLE}])

    def test_one_warehouse_listed_through_two_roles_is_no_conflict(self, two_roles):
        (spec,) = find(two_roles[1]).specs
        assert spec.warehouse.role_arn is None, "the first role that lists it serves it"
        assert get_snapshot(two_roles[1]).specs["analytics"] == (spec,)

    def test_a_warehouse_is_served_through_the_role_that_can_list_it(self, two_roles):
        aws, catalog = two_roles
        aws.failing[CLUSTERS] = denied()
        claims = find(catalog)
        assert [spec.warehouse.role_arn for spec in claims.specs] == [OTHER_ROLE]
        assert [each.scope for each in claims.unseen] == [CLUSTERS]

    def test_specs_come_oldest_warehouse_first(self, aws, catalog):
        aws.warehouses[:] = [cluster("b"), cluster("c", created_at=EPOCH - 5000), cluster("a")]
        assert [spec.warehouse.identifier for spec in find(catalog).specs] == ["c", "a", "b"]

    def test_they_are_as_fresh_as_the_oldest_listing(self, aws, catalog, clock):
        aws.failing[WORKGROUPS] = denied()
        find(catalog)
        del aws.failing[WORKGROUPS]
        clock.pass_(60)
        claims = find(catalog)
        assert claims.unseen == ()
        assert (claims.listed_at, claims.stale_at) == (EPOCH, EPOCH + 300)

    def test_without_any_listing_they_are_not_fresh(self, aws, catalog):
        aws.failing = {CLUSTERS: denied(), WORKGROUPS: denied()}
        assert find(catalog).stale_at == float("-inf")

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
        assert snapshot.specs == {}
        assert len(snapshot.ignored) == 2
        assert all(reason in each for each in snapshot.ignored)

    def test_a_malformed_marker_is_reported_and_affects_no_other_conn_id(self, aws, catalog, caplog):
        aws.warehouses.append(cluster("odd", {"airflow:conn-id": "good b@d"}))
        snapshot = get_snapshot(catalog)
        assert set(snapshot.specs) == {"analytics", "adhoc", "good"}
        for reported in (caplog.text, *snapshot.problems):
            assert "b@d" in reported
            assert "cluster odd" in reported
        assert len(snapshot.problems) == 1


class TestDescribe:
    def test_it_returns_the_current_state_and_asks_aws_once_in_5_s(self, aws, catalog, clock):
        aws.warehouses[0] = cluster(status="paused")
        (listed,) = find(catalog).specs
        states = []
        for status in ("resuming", "available"):
            aws.warehouses[0] = cluster(status=status)
            states += [describe(catalog, listed).warehouse.status for _ in range(3)]
            clock.pass_(5)
        assert states == ["resuming"] * 3 + ["available"] * 3
        assert aws.calls["describe"] == 2

    def test_it_does_not_change_conn_id_and_team(self, aws, catalog):
        aws.warehouses[0] = cluster(tags={"airflow:conn-id": "analytics", "airflow:team": "a"}, status="paused")
        (listed,) = find(catalog).specs
        aws.warehouses[0] = cluster(tags={"airflow:conn-id": "other", "airflow:team": "b"})
        spec = describe(catalog, listed)
        assert (spec.conn_id, spec.team, spec.warehouse.status) == ("analytics", "a", "available")

    def test_a_deleted_warehouse_raises(self, aws, catalog):
        (listed,) = find(catalog).specs
        aws.warehouses.clear()
        with pytest.raises(AwsError, match="ClusterNotFound"):
            describe(catalog, listed)

    def test_all_processes_together_ask_aws_once_in_5_s(self, aws, clock):
        host = MemoryStore(clock)

        def status_in_a_new_process():
            catalog = make_catalog(aws, tiers=[tier(host)])
            (spec,) = find(catalog).specs
            return describe(catalog, spec).warehouse.status

        aws.warehouses[0] = cluster(status="paused")
        assert [status_in_a_new_process() for _ in range(20)] == ["paused"] * 20
        assert aws.calls["describe"] == 1
        aws.warehouses[0] = cluster()
        clock.pass_(5)
        assert [status_in_a_new_process() for _ in range(20)] == ["available"] * 20
        assert aws.calls["describe"] == 2

    def test_a_failure_is_shared_by_all_processes(self, aws, clock):
        host = MemoryStore(clock)
        catalogs = [make_catalog(aws, tiers=[tier(host)]) for _ in range(5)]
        (spec,) = find(catalogs[0]).specs
        aws.warehouses.clear()
        for catalog in catalogs:
            with pytest.raises(AwsError, match="It is gone"):
                describe(catalog, spec)
        assert aws.calls["describe"] == 1
