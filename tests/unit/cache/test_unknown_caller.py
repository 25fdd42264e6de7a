"""A process that must ask STS who it is, or finds out that it is somebody else now."""

from __future__ import annotations

import pytest

from redshift_secrets.cache.entry import Failure
from redshift_secrets.cache.flushes import Flushes
from redshift_secrets.cache.tiers import Tier, Tiers
from redshift_secrets.errors import CallerChangedError
from tests.support.fakes import denied
from tests.support.memory_store import MemoryStore, tier


@pytest.fixture
def unknown(host):
    """The host store for a caller that is not known yet, and must not be asked for."""

    def ask():
        raise AssertionError("asked STS")

    return Tier(host, ask, lambda: False)


def test_that_a_process_is_another_caller_now_is_no_failure_of_the_others(process, simulation, source, host, fleet):
    source.error = CallerChangedError()
    changed, other = process(host, fleet), process(host, fleet)
    assert isinstance(changed.get(), CallerChangedError)
    assert set(host.groups) == {tier(host).place("newest flush mark of the fleet")}
    assert (fleet.groups, host.leases, fleet.leases) == ({}, set(), set())
    source.error = None
    assert other.get() == "v2"


def test_a_time_out_is_not_spread_where_the_caller_is_not_known(simulation, source, host, unknown):
    clock, monotonic = simulation.clock, simulation.monotonic
    tiers = Tiers((unknown,), 10.0, clock, monotonic, simulation.sleep, lambda: 0.5)
    tiers.put_failure(source.item(), Failure.after(None, denied(), clock()))
    assert host.groups == {}
    assert not tiers.is_being_answered(source.item())


def test_a_flush_of_the_fleet_is_looked_for_once_the_caller_is_known(simulation, host, fleet, unknown):
    known = []
    asked = Tier(host, lambda: known[0], lambda: bool(known))
    flushes = Flushes((asked, tier(fleet)), simulation.clock, simulation.monotonic)
    flushes.happened()
    fleet.mark_flushed()
    simulation.pass_(5)
    assert not flushes.happened()
    known.append("etl")
    simulation.pass_(5)
    assert not flushes.happened()  # the first look: it is not known what came before
    fleet.mark_flushed()
    simulation.pass_(5)
    assert flushes.happened()


def test_a_caller_that_cannot_be_found_out_has_no_flush_of_the_fleet(simulation, fleet):
    nobody = Tier(MemoryStore(simulation.clock), lambda: None)
    flushes = Flushes((nobody, tier(fleet)), simulation.clock, simulation.monotonic)
    flushes.happened()
    fleet.mark_flushed()
    simulation.pass_(5)
    assert not flushes.happened()
