"""A snapshot in a shared tier: small rows, of which a lookup reads its own, and what damaged rows read as."""

from __future__ import annotations

import zlib

import pytest

from redshift_secrets.cache import SharedTiers
from redshift_secrets.lookup import snapshot as snapshots
from redshift_secrets.lookup.catalog import Catalog
from redshift_secrets.model import Listing, Scope, VpcEndpoint
from redshift_secrets.settings import Settings
from tests.support.fakes import EPOCH, FakeAws, cluster, workgroup
from tests.support.helpers import all_refreshes_done, lookup
from tests.unit.cache.test_shared import Memory

CLUSTER = cluster(tags={"airflow:conn-id": "a b"}, vpc_endpoints=(VpcEndpoint("bi", "bi.example.com", 5439),))
LISTINGS = (
    Listing(Scope("cluster", "eu-west-1", None), (CLUSTER, workgroup(tags={"airflow:conn-id": "b"})), listed_at=EPOCH),
    Listing(Scope("workgroup", "eu-west-1", None), error="denied", failures=1, due_at=EPOCH + 10),
)
SNAPSHOT = snapshots.build_snapshot(LISTINGS, EPOCH, Settings())
ROWS = snapshots.snapshot_to_rows(SNAPSHOT)


def test_rows_have_all_of_the_snapshot():
    assert set(ROWS) == set(snapshots.all_rows())
    assert snapshots.meta_from_rows(ROWS) == SNAPSHOT.meta
    assert snapshots.listings_from_bytes(ROWS[snapshots.LISTINGS]) == LISTINGS
    for conn_id in ("a", "b"):
        assert snapshots.claims_from_rows(ROWS, conn_id) == SNAPSHOT.claims[conn_id]


def test_a_conn_id_that_no_warehouse_claims_has_a_row_that_says_so():
    assert snapshots.claims_from_rows(ROWS, "smtp_default") == ()
    empty = snapshots.snapshot_to_rows(snapshots.build_snapshot((), EPOCH, Settings()))
    assert snapshots.claims_from_rows(empty, "a") == ()


def test_a_scope_that_was_never_listed_is_in_the_meta_row():
    assert SNAPSHOT.meta.unlisted_scopes == ("Serverless workgroups in eu-west-1: denied",)


@pytest.mark.parametrize("content", [b"", b"\xff", b"null", b"7", b'{"a": 7}', b'{"a": "[7]"}', b'{"a": "[{}]"}'])
def test_rows_that_cannot_be_decoded_are_no_catalog(content):
    assert snapshots.meta_from_rows({snapshots.META: content}) is None
    assert snapshots.claims_from_rows({snapshots.claims_row("a"): content}, "a") is None
    for each in (content, zlib.compress(content)):
        assert snapshots.listings_from_bytes(each) is None


def test_missing_rows_are_not_taken_for_a_conn_id_that_no_warehouse_claims():
    assert snapshots.meta_from_rows({}) is None
    assert snapshots.claims_from_rows({}, "a") is None


class TestDamagedStore:
    @pytest.fixture
    def host(self, clock):
        return Memory(clock)

    @pytest.fixture
    def aws(self, clock):
        return FakeAws(clock, [cluster()])

    def new_process(self, aws, host):
        return Catalog(Settings(), aws, tiers=SharedTiers([host], clock=aws.clock), clock=aws.clock, rand=lambda: 0.0)

    def find(self, catalog):
        found = catalog.find("analytics", lookup()).value.warehouses
        all_refreshes_done()
        return found

    @pytest.mark.parametrize(
        ("row", "listings"), [(snapshots.claims_row("analytics"), 0), (snapshots.META, 2), ("ages", 2)]
    )
    def test_a_missing_row_is_written_again_from_the_listings_or_by_listing(self, aws, host, row, listings):
        assert self.find(self.new_process(aws, host)) == (cluster(),)
        ((rows, _expires_at),) = host.groups.values()
        del rows[row]
        aws.clock.pass_(1)
        for _process in range(2):
            assert self.find(self.new_process(aws, host)) == (cluster(),)
            assert aws.calls["list"] == 2 + listings
        assert host.groups["catalog"][0].keys() >= {*snapshots.all_rows(), "ages"}
