"""A store with one namespace for each caller: no caller finds what another one left there."""

from __future__ import annotations

import pytest

from redshift_secrets.cache.store import FreeLease, NamespacedStore
from tests.support.fakes import EPOCH
from tests.unit.cache.test_shared import Memory

ROWS = {"n": b"row"}


@pytest.fixture
def memory(clock):
    return Memory(clock)


def test_each_caller_reads_and_locks_its_own_groups(memory):
    etl, bi = (NamespacedStore(memory, lambda caller=caller: caller) for caller in ("etl", "bi"))
    etl.replace("g", ROWS, EPOCH + 1)
    assert (etl.read("g", ["n"]), bi.read("g", ["n"])) == (ROWS, {})
    assert etl.try_lock("g") is not None
    assert etl.try_lock("g") is None
    assert bi.try_lock("g") is not None


def test_the_caller_is_determined_at_each_call(memory):
    callers = ["etl"]
    store = NamespacedStore(memory, lambda: callers[0])
    store.replace("g", ROWS, EPOCH + 1)
    callers[0] = "bi"
    assert store.read("g", ["n"]) == {}
    callers[0] = "etl"
    assert store.read("g", ["n"]) == ROWS


def test_an_unknown_caller_shares_nothing_and_may_refresh(memory):
    store = NamespacedStore(memory, lambda: None)
    store.replace("g", ROWS, EPOCH + 1)
    assert (memory.groups, store.read("g", ["n"])) == ({}, {})
    leases = [store.try_lock("g") for _ in range(2)]
    assert {type(lease) for lease in leases} == {FreeLease}
    for lease in leases:
        lease.release()
    store.clear("g")


def test_the_first_name_is_written_and_all_of_them_are_read(memory):
    old, both, new = (NamespacedStore(memory, lambda: "etl", names=names) for names in (["a"], ["b", "a"], ["b"]))
    old.replace("g", ROWS, EPOCH + 1)
    assert (both.read("g", ["n"]), new.read("g", ["n"])) == (ROWS, {})
    both.replace("g", {"n": b"newer"}, EPOCH + 1)
    assert (old.read("g", ["n"]), both.read("g", ["n"]), new.read("g", ["n"])) == (ROWS, *[{"n": b"newer"}] * 2)


def test_a_group_is_cleared_for_one_caller_under_every_name_and_everything_for_all(clock):
    cleared = []

    class Recording(Memory):
        def clear(self, group=None):
            cleared.append(group)
            self.groups.pop(group, None)

    memory = Recording(clock)
    etl = NamespacedStore(memory, lambda: "etl", names=["b", "a"])
    bi = NamespacedStore(memory, lambda: "bi")
    for store in (etl, bi):
        store.replace("g", ROWS, EPOCH + 1)
    etl.clear("g")
    assert (etl.read("g", ["n"]), bi.read("g", ["n"])) == ({}, ROWS)
    etl.clear()
    assert len(set(cleared)) == 3
    assert cleared[-1] is None


def test_it_is_ready_when_the_caller_is_known(memory):
    known = []
    store = NamespacedStore(memory, lambda: known.append(1) or "etl", lambda: bool(known))
    assert not store.ready
    store.get_ready()
    assert store.ready
    assert store.name == "host"
