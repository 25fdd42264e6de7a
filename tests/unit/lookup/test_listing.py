"""A listing in a shared tier: of a long one a lookup reads a small row, and damaged rows are not taken for a listing."""

from __future__ import annotations

import pytest

from redshift_secrets.lookup.catalog import ALL_ROWS, listing_from_rows, listing_to_rows, rows_of
from redshift_secrets.lookup.listing import Listing, build_listing
from redshift_secrets.model import VpcEndpoint
from redshift_secrets.settings import Settings
from tests.support.fakes import FakeAws, cluster, workgroup
from tests.support.helpers import Site
from tests.support.memory_store import MemoryStore, tier

MANY = 1000


def many(number):
    """Return clusters that claim `c0`, `c1`, ..."""
    return [cluster(f"cluster-{each}", {"airflow:conn-id": f"c{each}"}) for each in range(number)]


def listed(*warehouses):
    return build_listing(warehouses, Settings())


class TestBuild:
    def test_it_has_a_spec_for_each_conn_id_of_each_warehouse(self):
        one, other = cluster(tags={"airflow:conn-id": "a b"}), workgroup(tags={"airflow:conn-id": "b"})
        found = listed(one, other)
        assert {name: [spec.warehouse for spec in specs] for name, specs in found.specs.items()} == {
            "a": [one],
            "b": [one, other],
        }
        assert (found.ignored, found.problems) == ((), ())

    def test_what_may_claim_nothing_here_is_ignored_with_the_reason(self):
        found = build_listing([cluster()], Settings.from_kwargs({"required_tags": {"env": "prod"}}))
        assert found.specs == {}
        assert "required_tags asks for the tag env = prod" in found.ignored[0]

    def test_a_warehouse_without_the_marker_is_reported_by_name(self):
        found = listed(cluster("odd", {"airflow:con-id": "analytics"}), cluster("plain", {"env": "prod"}))
        assert found.specs == {}
        (problem,) = found.problems
        assert problem.startswith("tag airflow:con-id: unknown field 'con-id' (did you mean 'conn-id'?)")
        assert problem.endswith("(on cluster odd (account 123456789012, eu-west-1))")

    def test_a_marker_that_cannot_be_read_is_a_problem_that_names_the_warehouse(self):
        found = listed(cluster("odd", {"airflow:conn-id": "good b@d"}))
        assert list(found.specs) == ["good"]
        assert len(found.problems) == 1
        assert found.problems[0].endswith("(on cluster odd (account 123456789012, eu-west-1))")


class TestRows:
    @pytest.mark.parametrize("number", [0, 1, 32, 33, MANY])
    def test_they_have_all_of_a_listing(self, number):
        listing = listed(*many(number))
        rows = listing_to_rows(listing)
        assert set(rows) <= set(ALL_ROWS)
        assert listing_from_rows(rows) == listing

    @pytest.mark.parametrize("number", [0, 1, 32, 33, MANY])
    def test_one_of_those_of_a_conn_id_has_its_specs(self, number):
        listing = listed(*many(number))
        rows = listing_to_rows(listing)
        for conn_id in ("c0", "c31", "c999", "smtp_default", "ünï"):
            found = listing_from_rows({name: rows[name] for name in rows_of(conn_id) if name in rows})
            assert found is not None, "not knowing is not the same as not being there"
            assert found.specs.get(conn_id) == listing.specs.get(conn_id)

    def test_those_that_a_lookup_reads_of_a_long_listing_are_small(self):
        rows = listing_to_rows(listed(*many(MANY)))
        whole = sum(map(len, rows.values()))
        assert all(len(rows[name]) < whole / 100 for name in rows_of("c7") if name in rows)

    def test_every_field_of_a_spec_survives(self):
        tags = {
            "airflow:conn-id": "a",
            "airflow:team": "bi",
            "airflow:db-usr": "etl",
            "airflow:db-groups": "x y",
            "airflow:extra.sslmode": "verify-full",
            "airflow:endpoint": "vpc:bi",
            "airflow:auth": "nonsense",
        }
        listing = listed(cluster(tags=tags, vpc_endpoints=(VpcEndpoint("bi", "bi.example.com", 5439),)))
        assert listing_from_rows(listing_to_rows(listing)) == listing

    def test_a_conn_id_that_is_no_text_in_utf_8_has_rows_too(self):
        assert len(rows_of("\ud800")) == 2

    def test_no_rows_are_no_listing(self):
        assert listing_from_rows({}) is None

    @pytest.mark.parametrize(
        "content", [b"", b"\xff", b"\xc0", b"\x07", b"\x81\xa1a\x07", b"\x81\xa1a\x91\x07", b"\x90"]
    )
    @pytest.mark.parametrize("others", [{}, {"7": b"\x80"}])
    def test_a_row_that_cannot_be_decoded_makes_none(self, content, others):
        assert listing_from_rows({**others, "all": content}) is None

    def test_an_empty_row_is_a_listing_without_claims(self):
        assert listing_from_rows({"7": b"\x80"}) == Listing({})


@pytest.mark.attempt("forge, change or move what is in a store")
class TestDamagedStore:
    @pytest.fixture
    def host(self, clock):
        return MemoryStore(clock)

    @pytest.fixture
    def aws(self, clock):
        return FakeAws(clock, many(MANY))

    @pytest.fixture
    def new_process(self, aws, host):
        return lambda: Site(aws.clock, aws=aws, tiers=[tier(host)], warehouses=["clusters"])

    @pytest.mark.parametrize("damage", ["missing", "cut", "garbage"])
    def test_a_damaged_row_is_listed_again_and_no_claim_is_lost(self, aws, host, new_process, damage):
        assert new_process().ask("c7").host.startswith("cluster-7.")
        row = rows_of("c7")[1]
        (rows,) = [rows for rows, _, _ in host.groups.values() if row in rows]
        if damage == "missing":
            del rows[row]
        else:
            rows[row] = rows[row][:40] if damage == "cut" else rows[row][:32] + b"\xff"
        aws.clock.pass_(1)
        for _ in range(2):
            assert new_process().ask("c7").host.startswith("cluster-7.")
            assert aws.calls["list"] == 2

    def test_another_row_than_its_own_is_none_of_its_business(self, aws, host, new_process):
        new_process().ask("c7")
        (rows,) = [rows for rows, _, _ in host.groups.values() if len(rows) > 1]
        kept = rows_of("c7")[1]
        for name in set(rows) - {kept}:
            rows[name] = b"\xff" * 40
        assert new_process().ask("c7") is not None
        assert aws.calls["list"] == 1
