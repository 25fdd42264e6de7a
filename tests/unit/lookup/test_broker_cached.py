"""What a broker returns of the nearest tier without asking AWS, and how it flushes one conn_id."""

from __future__ import annotations

import pytest

from redshift_secrets.cache.workers import MustWait
from redshift_secrets.errors import CannotServeError, PerDagCredentialsError
from redshift_secrets.model import Scope
from tests.support.fakes import EPOCH, FakeAws, cluster, denied
from tests.support.helpers import Site
from tests.support.memory_store import MemoryStore, tier


@pytest.fixture
def host(clock):
    return MemoryStore(clock)


@pytest.fixture
def aws(clock):
    return FakeAws(clock, [cluster(tags={"airflow:conn-id": "b a"}), cluster("bi", {"airflow:conn-id": "bi"})])


@pytest.fixture
def new_process(aws, host):
    def new_process(**settings):
        return Site(aws.clock, aws=aws, tiers=[tier(host)], **settings)

    return new_process


def test_an_empty_tier_has_no_catalog_and_no_connections(new_process, aws):
    assert new_process().broker.inventory.cached() == (None, [])
    assert aws.calls == {}


def test_it_returns_the_catalog_with_its_age_and_the_credential_of_each_connection(new_process, aws):
    new_process().ask("a")
    aws.calls.clear()
    snapshot, connections = new_process().broker.inventory.cached()
    assert (snapshot.stale_at, set(snapshot.specs)) == (EPOCH + 300, {"a", "b", "bi"})
    found = [
        (each.spec.conn_id, each.tier, each.credential and each.credential.value.minted_at) for each in connections
    ]
    assert found == [("a", "host", EPOCH), ("b", "host", EPOCH), ("bi", "", None)]
    assert [each.credential.value.password for each in connections[:2]] == ["", ""]
    assert aws.calls == {}


def test_without_the_setting_regions_it_looks_in_the_region_that_was_found_before(new_process, aws):
    new_process(regions=[]).ask("a")
    aws.calls.clear()
    _, connections = new_process(regions=[]).broker.inventory.cached()
    assert [each.spec.conn_id for each in connections] == ["a", "b", "bi"]
    assert aws.calls == {}


def test_flushing_a_conn_id_removes_its_credential_and_no_other(new_process, host, aws):
    process = new_process(db_user="etl")
    assert [process.ask(conn_id).password for conn_id in ("a", "bi")] == ["password-1", "password-2"]
    assert new_process(db_user="etl").broker.inventory.flush([tier(host)], "a")
    after = [new_process(db_user="etl").ask(conn_id).password for conn_id in ("bi", "a")]
    assert after == ["password-2", "password-3"]
    assert aws.calls["list"] == 2


def test_a_running_process_finds_a_flush_of_one_conn_id_5_s_later(site, host, clock):
    monotonic = type(clock)(0)
    running = site(tiers=[tier(host)], monotonic=monotonic)
    assert running.ask().password == "password-1"
    assert site(tiers=[tier(host)]).broker.inventory.flush([tier(host)], "analytics")
    monotonic.pass_(4.9)
    assert running.ask().password == "password-1"
    monotonic.pass_(0.1)
    assert running.ask().password == "password-2"


def test_what_a_lookup_has_read_before_a_flush_is_not_remembered_after_it(site, host, clock):
    monotonic = type(clock)(0)
    here = site(tiers=[tier(host)], monotonic=monotonic)
    lookup = here.broker.lookup()
    for _ in range(2):  # for the listing and the mint
        with pytest.raises(MustWait) as must:
            here.broker.attempt("analytics", None, None, lookup)
        must.value.wait()
    assert here.ask("other") is None
    here.aws.warehouses.clear()
    site(tiers=[tier(host)]).broker.inventory.flush_catalog([tier(host)])
    monotonic.pass_(5)
    assert here.broker.peek("other", None, None) is None, "another lookup notices the flush"
    assert here.broker.attempt("analytics", None, None, lookup) is not None, "this one began before"
    assert here.ask("analytics") is None


def test_the_page_shows_nothing_of_before_a_flush(site, host, clock):
    monotonic = type(clock)(0)
    here = site(tiers=[tier(host)], monotonic=monotonic)
    before = here.broker.inventory.snapshot()
    assert here.ask() is not None
    here.aws.warehouses.clear()
    site(tiers=[tier(host)]).broker.inventory.flush_catalog([tier(host)])
    monotonic.pass_(4.9)
    assert here.broker.inventory.snapshot().specs == before.specs
    monotonic.pass_(0.1)
    assert here.broker.inventory.snapshot().specs == {}
    assert here.ask() is None, "nor does a lookup find what was remembered"


@pytest.mark.parametrize("has_host", [True, False])
def test_an_event_loop_is_not_kept_waiting_for_the_fleet_store(site, host, clock, has_host):
    monotonic, fleet = type(clock)(0), MemoryStore(clock, "fleet")
    here = site(tiers=[tier(host), tier(fleet)] if has_host else [tier(fleet)], monotonic=monotonic)
    here.ask()
    asked, flush_mark = [], fleet.flush_mark
    fleet.flush_mark = lambda: asked.append(1) or flush_mark()
    assert here.broker.peek_without_io("analytics", None, None) is not None
    monotonic.pass_(5)
    clock.pass_(5)
    assert (here.broker.peek_without_io("analytics", None, None), asked) == (None, [])
    assert here.ask().password
    assert asked == [1]
    assert here.broker.peek_without_io("analytics", None, None) is not None


def test_what_failed_before_a_flush_is_tried_again_at_once_after_it(new_process, host, aws):
    new_process().ask("bi")
    aws.mint_error = denied()
    with pytest.raises(CannotServeError, match="AccessDenied"):
        new_process().ask("a")
    aws.mint_error = None
    with pytest.raises(CannotServeError, match="AccessDenied"):
        new_process().ask("a")
    assert new_process().broker.inventory.flush([tier(host)], "a")
    assert new_process().ask("a").password


def test_so_is_a_listing(new_process, host, aws):
    aws.failing[Scope("cluster", "eu-west-1", None)] = denied()
    assert new_process().ask("a") is None
    aws.failing.clear()
    assert new_process().ask("a") is None
    new_process().broker.inventory.flush_catalog([tier(host)])
    assert new_process().ask("a").password


def test_flushing_an_unknown_conn_id_removes_nothing(new_process, host):
    assert not new_process().broker.inventory.flush([tier(host)], "a")
    new_process().ask("a")
    groups = dict(host.groups)
    assert not new_process().broker.inventory.flush([tier(host)], "unknown")
    assert host.groups == groups
    assert host.flush_mark() is None


def test_a_conn_id_with_a_credential_for_each_dag_cannot_be_flushed_alone(new_process, host):
    new_process(db_user="dag_{dag_id}").ask("nobody")
    with pytest.raises(PerDagCredentialsError, match="'a' has a credential for each DAG"):
        new_process(db_user="dag_{dag_id}").broker.inventory.flush([tier(host)], "a")


def test_flushing_the_catalog_has_it_listed_again_and_mints_nothing(new_process, host, aws):
    before = new_process().ask("a")
    new_process().broker.inventory.flush_catalog([tier(host)])
    after = new_process().ask("a")
    assert (after.password, aws.calls["mint"], aws.calls["list"]) == (before.password, 1, 4)


def test_running_processes_are_told_that_the_catalog_was_flushed(new_process, host):
    before = host.flush_mark()
    new_process().broker.inventory.flush_catalog([tier(host)])
    assert host.flush_mark() != before
