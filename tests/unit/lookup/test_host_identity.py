"""The identity behind a metadata service, and in the fleet: one answer of STS for a host, for a quarter of an hour."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from redshift_secrets.cache.tiers import Tier
from redshift_secrets.errors import CallerChangedError
from redshift_secrets.lookup.host_identity import HostIdentity
from tests.support.fakes import Clock
from tests.support.memory_store import MemoryStore

pytestmark = pytest.mark.attempt("get a password that was minted for another caller")

ETL, BI = "arn:aws:sts::1:assumed-role/etl", "arn:aws:sts::1:assumed-role/bi"


class Sts:
    """Answers `arn`, and counts how often it is asked."""

    def __init__(self) -> None:
        self.arn: str | None = ETL
        self.error: Exception | None = None
        self.asked = 0

    def __call__(self) -> str | None:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.arn


class Caller:
    """A process that makes calls as the first identity that it is told."""

    def __init__(self) -> None:
        self.identity: str | None = None

    def expect(self, identity: str) -> None:
        if self.identity not in (None, identity):
            raise CallerChangedError()
        self.identity = identity


@pytest.fixture
def sts():
    return Sts()


@pytest.fixture
def store(clock):
    return MemoryStore(clock)


class Behind:
    """Makes the calls that a process has others wait for when it says so."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], None]] = []

    def submit(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    def make_all(self) -> None:
        while self._calls:
            self._calls.pop(0)()


@pytest.fixture
def behind():
    return Behind()


@pytest.fixture
def process(clock, store, sts, behind):
    """Makes the `HostIdentity` of a new process."""

    def make(namespace="same environment", expect=None):
        patient = functools.partial(HostIdentity, sleep=clock.pass_, rand=lambda: 0.5)
        expect = expect or Caller().expect
        made = patient(Tier(store, namespace), sts, expect, 10.0, 900.0, clock=clock, monotonic=clock)
        made._workers = behind
        return made

    return make


def test_one_process_asks_for_all_of_its_host(process, sts, clock):
    first, second = process(), process()
    assert not first.knows_identity()
    assert [first.sts_identity(), second.sts_identity(), process().sts_identity()] == [ETL] * 3
    clock.pass_(449)
    assert second.knows_identity()
    assert [first.sts_identity(), second.sts_identity(), process().sts_identity()] == [ETL] * 3
    assert sts.asked == 1


def test_a_known_answer_takes_no_lease(process, store, monkeypatch):
    process().sts_identity()
    monkeypatch.setattr(store, "try_lock", lambda _place: pytest.fail("it takes the lease"))
    assert process().sts_identity() == ETL


def test_in_the_second_half_of_its_time_it_is_asked_for_behind_those_who_need_it(process, sts, clock, behind):
    first, second = process(), process()
    first.sts_identity()
    second.sts_identity()
    clock.pass_(450)
    assert [first.sts_identity(), second.sts_identity(), process().sts_identity()] == [ETL] * 3
    assert first.knows_identity()
    assert sts.asked == 1
    behind.make_all()
    assert sts.asked == 2
    clock.pass_(600)
    assert [first.sts_identity(), process().sts_identity()] == [ETL] * 2
    assert sts.asked == 2


def test_where_sts_does_not_answer_meanwhile_it_holds_until_its_end(process, sts, clock, behind):
    first = process()
    first.sts_identity()
    sts.arn = None
    for _ in range(5):
        clock.pass_(150)
        assert first.sts_identity() == ETL
        behind.make_all()
    assert sts.asked == 4  # at 450, 600 and 750 seconds
    clock.pass_(150)
    assert first.sts_identity() is None


def test_at_its_end_it_is_waited_for(process, sts, clock):
    first = process()
    first.sts_identity()
    clock.pass_(600)
    second = process()
    second.sts_identity()
    sts.arn = BI
    clock.pass_(300)
    assert not first.knows_identity()
    assert not second.knows_identity()
    assert process().sts_identity() == BI
    assert sts.asked == 2


def test_without_a_thread_to_give_it_holds(process, sts, clock, behind, monkeypatch):
    first = process()
    first.sts_identity()
    clock.pass_(450)
    monkeypatch.setattr(behind, "submit", raise_no_thread)
    assert first.sts_identity() == ETL


def raise_no_thread(_call):
    raise RuntimeError("can't start new thread")


def test_who_finds_itself_to_be_another_caller_behind_its_back_raises_nothing_there(process, sts, clock, behind):
    first = process()
    first.sts_identity()
    clock.pass_(450)
    first.sts_identity()
    sts.error = CallerChangedError()
    behind.make_all()
    assert sts.asked == 2


def test_a_process_whose_host_has_become_another_caller_finds_out(process, sts, clock):
    caller = Caller()
    running = process(expect=caller.expect)
    running.sts_identity()
    sts.arn = BI
    clock.pass_(900)
    process().sts_identity()
    with pytest.raises(CallerChangedError):
        running.sts_identity()
    assert not running.knows_identity()


def test_a_host_that_was_found_to_be_another_caller_asks_again(process, sts):
    first = process()
    first.sts_identity()
    sts.arn = BI
    first.forget()
    assert process().sts_identity() == BI


def test_another_endpoint_has_another_answer(process, sts):
    assert process("one endpoint").sts_identity() == ETL
    sts.arn = BI
    assert process("other endpoint").sts_identity() == BI


def test_no_answer_is_not_asked_for_again_at_once_by_any_process(process, sts, clock):
    sts.arn = None
    first = process()
    assert [first.sts_identity(), first.sts_identity(), process().sts_identity()] == [None] * 3
    assert first.knows_identity()
    assert sts.asked == 1
    clock.pass_(5)
    sts.arn = ETL
    assert first.sts_identity() == ETL


def test_it_is_not_waited_for_longer_than_a_lookup_may_take(process, sts, store, clock):
    store.leases.add("*")
    began = clock()
    waiting = process()
    assert waiting.sts_identity() is None
    assert clock() - began <= 10
    assert waiting.knows_identity()
    store.leases.clear()
    clock.pass_(5)
    assert waiting.sts_identity() == ETL


def test_a_clock_that_is_set_back_does_not_prolong_an_answer(store, sts):
    wall, steady = Clock(), Clock(0)
    known = HostIdentity(Tier(store, "x"), sts, Caller().expect, 10.0, 900.0, clock=wall, monotonic=steady)
    known.sts_identity()
    wall.pass_(-100_000)
    steady.pass_(900)
    assert not known.knows_identity()


def test_nor_does_one_that_is_set_back_while_sts_is_asked(store):
    wall, steady = Clock(), Clock(0)

    def ask():
        wall.pass_(-100_000)
        return ETL

    known = HostIdentity(Tier(store, "x"), ask, Caller().expect, 10.0, 900.0, clock=wall, monotonic=steady)
    known.sts_identity()
    steady.pass_(900)
    assert not known.knows_identity()
