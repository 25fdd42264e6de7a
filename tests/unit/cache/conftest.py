from __future__ import annotations

import functools

import pytest

from tests.support.memory_store import MemoryStore
from tests.unit.cache.simulation import Process, Simulation, Source


@pytest.fixture
def simulation():
    simulation = Simulation()
    yield simulation
    simulation.close()


@pytest.fixture
def source(simulation):
    return Source(simulation)


@pytest.fixture
def process(simulation, source):
    """Makes a process that refreshes from `source`, with these stores from near to far."""
    return functools.partial(Process, simulation, source)


@pytest.fixture
def host(simulation):
    return MemoryStore(simulation.clock)


@pytest.fixture
def fleet(simulation):
    return MemoryStore(simulation.clock, "fleet")


@pytest.fixture
def other_host(simulation):
    """The store of another host."""
    return MemoryStore(simulation.clock)
