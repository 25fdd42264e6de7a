"""How many lookups of a server wait for AWS at a time; docs/contract.md, "Looking a conn_id up", 7."""

from __future__ import annotations

import threading

import pytest

from redshift_secrets.cache.entry import Failure
from redshift_secrets.cache.workers import MustWait
from redshift_secrets.errors import CannotServeError
from tests.support.fakes import cluster
from tests.support.helpers import BOUND, Crowd, all_refreshes_done, in_child
from tests.support.memory_store import MemoryStore, tier

MOST = 8
REASON = "8 lookups of this API server already wait for AWS"


def ask(here, conn_id, most=MOST):
    return here.broker.answer(conn_id, None, None, max_waiting=lambda: most)


@pytest.fixture
def host(clock):
    return MemoryStore(clock)


@pytest.fixture
def here(site, host, monkeypatch):
    """A server; `here.fill` makes `MOST` lookups that wait until `here.aws.hold` is set."""
    names = [f"c{number}" for number in range(MOST + 1)]
    here = site(
        *(cluster(name, {"airflow:conn-id": name}) for name in names), tiers=[tier(host)], aws_timeout_seconds=300
    )
    begun, wait = threading.Semaphore(0), MustWait.wait

    def noting(must):
        begun.release()
        wait(must)

    monkeypatch.setattr(MustWait, "wait", noting)

    def fill(most=MOST, number=MOST):
        here.aws.hold = here.aws.hold or threading.Event()
        while begun.acquire(blocking=False):
            pass  # those that have waited before
        left = names[:number]
        crowd = Crowd(number, lambda: ask(here, left.pop(), most))
        for _ in range(number):
            assert begun.acquire(timeout=BOUND)
        return crowd

    here.ask("nobody")  # lists
    here.fill = fill
    yield here
    if here.aws.hold is not None:
        here.aws.hold.set()
    all_refreshes_done()


def test_one_more_is_refused_at_once_with_the_reason(here):
    crowd = here.fill()
    for _ in range(3):
        with pytest.raises(CannotServeError, match=REASON):
            ask(here, "c8")
    assert here.aws.calls["list"] == 2
    here.aws.hold.set()
    assert {fields.password is not None for fields in crowd.outcomes()} == {True}


def test_it_begins_nothing_and_no_failure_is_recorded_for_it(here, host):
    """What nobody waits for would take threads and time from those that do."""
    crowd = here.fill()
    with pytest.raises(CannotServeError, match=REASON):
        ask(here, "c8")
    here.aws.hold.set()
    crowd.outcomes()
    all_refreshes_done()
    assert not any(group.endswith("!") for group in host.groups)
    assert all(not isinstance(kept, Failure) for kept, _ in here.refresher._failures.values())
    assert here.aws.calls["mint"] == MOST
    assert ask(here, "c8").password is not None
    assert here.aws.calls["mint"] == MOST + 1


@pytest.fixture
def stale(here, clock):
    """A server whose listings and credential of `c8` are so old that a lookup waits for new ones."""
    here.ask("c8")
    clock.pass_(3400)
    return here


def test_one_more_gets_what_is_stale(stale):
    crowd = stale.fill()
    assert ask(stale, "c8").password == "password-1"
    assert ask(stale, "nobody") is None
    stale.aws.hold.set()
    crowd.outcomes()


def test_what_is_stale_is_refreshed_behind_it_and_not_remembered(stale):
    crowd = stale.fill()
    ask(stale, "c8")
    ask(stale, "nobody")
    stale.aws.warehouses.append(cluster("late", {"airflow:conn-id": "nobody"}))
    stale.aws.hold.set()
    crowd.outcomes()
    all_refreshes_done()
    assert ask(stale, "c8", most=0).password != "password-1"
    assert ask(stale, "nobody").host.startswith("late.")


@pytest.mark.parametrize("pattern", [None, "."])
def test_without_any_listing_nothing_is_decided_or_remembered(site, pattern, caplog):
    here = site(managed_conn_ids=pattern)
    here.aws.hold = threading.Event()
    if pattern is None:
        assert ask(here, "analytics", most=0) is None
        assert "0 lookups of this API server already wait for AWS" in caplog.text
    else:
        with pytest.raises(CannotServeError, match="0 lookups of this API server already wait for AWS"):
            ask(here, "analytics", most=0)
    here.aws.hold.set()
    all_refreshes_done()
    assert ask(here, "analytics").password is not None


def test_a_missing_conn_id_that_matches_is_not_taken_for_searched(site, clock):
    here = site(managed_conn_ids=".")
    here.refusal("new")
    here.aws.warehouses.append(cluster("new", {"airflow:conn-id": "new"}))
    clock.pass_(10)
    here.aws.hold = threading.Event()
    with pytest.raises(CannotServeError, match="no warehouse claims it"):
        ask(here, "new", most=0)
    here.aws.hold.set()
    all_refreshes_done()
    assert ask(here, "new") is not None


def test_when_one_has_ended_the_next_may_wait(here):
    crowd = here.fill()
    here.aws.hold.set()
    crowd.outcomes()
    assert ask(here, "c8").password is not None


def test_one_that_fails_makes_room_too(site):
    here = site()
    here.aws.mint_error = ValueError()
    for _ in range(3):
        with pytest.raises(CannotServeError, match="unexpected ValueError"):
            ask(here, "analytics", most=1)
    here.aws.mint_error = None
    here.aws.clock.pass_(5)
    assert ask(here, "analytics", most=1) is not None


def test_answers_from_memory_do_not_count(here):
    here.ask("c8")
    crowd = here.fill()
    assert ask(here, "c8").password == "password-1"
    here.aws.hold.set()
    crowd.outcomes()


def test_without_a_limit_any_number_waits(here):
    crowd = here.fill(most=None, number=MOST + 1)
    here.aws.hold.set()
    assert {fields.password is not None for fields in crowd.outcomes()} == {True}


def test_a_child_forked_while_they_wait_has_room(here):
    crowd = here.fill()

    def child():
        here.aws.hold = None
        return ask(here, "c8").login

    assert in_child(child) == "IAMR:airflow"
    here.aws.hold.set()
    crowd.outcomes()
