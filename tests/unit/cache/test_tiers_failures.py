"""For which processes a failure holds, and that one of them tries again."""

from __future__ import annotations

import pytest

from redshift_secrets.cache.entry import Failure
from redshift_secrets.cache.tiers import Tier
from redshift_secrets.errors import AwsError, CallerChangedError, DeadlineError
from tests.support.fakes import EPOCH, denied
from tests.support.memory_store import MemoryStore, tier
from tests.unit.cache.simulation import FOREVER, FRESH, STALE, put

FAILURE_PLACE = tier(MemoryStore(lambda: 0)).place("k") + "!"


def unreachable():
    return AwsError("redshift:X", "it", "me", "Unreachable", "No way there.", "Check the network.", True)


def test_one_process_finds_out_for_all_hosts(process, simulation, host, other_host, fleet, source):
    source.error = denied()
    for _ in range(3):
        for store in (host, other_host):
            assert str(process(store, fleet).get()) == str(denied())
    assert source.asked == 1
    simulation.pass_(5)
    source.error = None
    assert process(host, fleet).get() == "v2"


@pytest.mark.parametrize("error", [unreachable(), KeyError("k")], ids=["network", "unexpected"])
def test_what_may_be_wrong_with_one_host_alone_is_known_there_alone(process, host, other_host, fleet, source, error):
    source.error = error
    for _ in range(3):
        assert isinstance(process(host, fleet).get(), Exception)
    assert source.asked == 1
    source.error = None
    assert process(other_host, fleet).get() == "v2"


@pytest.mark.parametrize(("ahead", "asked"), [(4, 1), (250, 2)])
def test_one_of_a_host_whose_clock_is_ahead_holds_nobody_up_for_longer_than_another(
    process, simulation, host, other_host, source, ahead, asked
):
    fleet = MemoryStore(lambda: EPOCH + simulation.elapsed, "fleet")
    source.error = denied()
    simulation.jump(ahead)
    process(host, fleet).get()
    simulation.jump(-ahead)
    for _ in range(2):
        assert str(process(other_host, fleet).get()) == str(denied())
    assert source.asked == asked
    simulation.pass_(10)
    source.error = None
    assert process(other_host, fleet).get() == f"v{asked + 1}"


def test_a_time_out_is_known_while_the_refresh_still_runs(process, host, other_host, fleet, source):
    source.seconds = FOREVER
    assert isinstance(process(host, fleet).get(), DeadlineError)
    other = process(host, fleet)
    assert (type(other.get()), other.waited, source.asked) == (DeadlineError, 0, 1)
    assert FAILURE_PLACE not in fleet.groups


def test_without_a_host_store_a_time_out_of_one_host_is_not_known_on_the_others(process, fleet, source):
    source.seconds = FOREVER
    process(fleet).get()
    assert FAILURE_PLACE not in fleet.groups


def test_a_time_out_is_not_stored_where_it_is_not_known_who_the_caller_is(process, simulation, host):
    def find_out():
        simulation.sleep(FOREVER)

    alone = process(Tier(host, find_out, lambda: False))
    assert isinstance(alone.get(), DeadlineError)
    assert alone.waited == pytest.approx(10)


def test_that_this_process_has_become_another_caller_is_no_failure_of_the_others(process, host, source):
    source.error = CallerChangedError()
    assert isinstance(process(host).get(), CallerChangedError)
    source.error = None
    assert process(host).get() == "v2"


def test_a_text_of_an_unexpected_exception_is_not_stored(process, host, source):
    source.error = KeyError("hunter2")
    process(host).get()
    assert str(process(host).get()).startswith("an unexpected KeyError. This is a bug")
    assert "hunter2" not in str(host.groups)


def test_the_pause_doubles_from_process_to_process_and_a_success_ends_that(process, simulation, host, source):
    source.error, source.seconds = denied(), 0
    for count, pause in enumerate([5, 10, 20, 40, 60, 60], start=1):
        process(host).get()
        simulation.pass_(pause - 0.001)
        process(host).get()
        assert source.asked == count
        simulation.pass_(0.002)
    source.error = None
    assert process(host).get() == "v7"
    assert FAILURE_PLACE not in host.groups


def test_a_success_after_a_time_out_ends_it_too(process, simulation, host, source):
    source.seconds = 12
    alone = process(host)
    assert isinstance(alone.get(), DeadlineError)
    simulation.pass_(3)
    assert (process(host).get(), FAILURE_PLACE in host.groups) == ("v1", False)


@pytest.mark.parametrize("warm", [False, True], ids=["new process", "process that knows of it"])
def test_while_one_process_tries_again_the_others_get_the_last_failure_at_once(process, simulation, host, source, warm):
    source.error = denied()
    others = [process(host) for _ in range(2)]
    for each in others if warm else others[:1]:
        each.get()
    simulation.pass_(5)
    source.seconds = FOREVER
    others[0].start()
    assert (str(others[1].get()), others[1].waited, others[1].attempts) == (str(denied()), 0, 2)
    assert source.asked == 2


@pytest.mark.parametrize("seconds", [1, FOREVER], ids=["failing", "silent"])
def test_stale_if_error_a_new_process_does_not_wait_after_another_one_has(process, simulation, host, source, seconds):
    put(process(host), "old", made_ago=STALE)
    source.error, source.seconds = denied(), seconds
    process(host).get()
    host.leases.clear()  # that process has ended
    simulation.pass_(6)
    new = process(host)
    assert (new.get(), new.waited) == ("old", 0)
    simulation.finish()
    assert source.asked == 2


def test_behind_a_stale_entry_the_failure_is_heard_of_and_not_tried_again(process, simulation, host, source):
    processes = [process(host) for _ in range(3)]
    processes[0].get()
    simulation.pass_(FRESH)
    source.error = denied()
    for each in processes:
        assert (each.get(), each.waited) == ("v1", 0)
        simulation.pass_(1.1)
    assert source.asked == 2


def test_behind_a_stale_entry_a_refresh_elsewhere_is_not_looked_for_at_each_lookup(
    process, simulation, host, source, caplog
):
    one, other = process(host), process(host)
    one.get()
    simulation.pass_(FRESH)
    source.error = denied()
    one.get()
    simulation.pass_(1)
    other.get()
    simulation.pass_(5)
    source.seconds = FOREVER
    one.get()  # tries again, and is not answered
    caplog.clear()
    for _ in range(10):
        assert (other.get(), other.waited) == ("v1", 0)
    assert len(caplog.messages) <= 1


@pytest.mark.parametrize("row", [b"", b"{}", b"[1, 2]", b'["[]", 1, 2]', b'["[\\"AwsError\\", []]", 1, 9e12]', b"\xff"])
def test_one_that_cannot_be_decoded_is_none(process, simulation, host, row):
    host.replace(FAILURE_PLACE, {"failure": row}, simulation.clock() + 1000)
    assert process(host).get() == "v1"


def test_one_that_begins_before_the_last_one_is_long_ago_and_ends_later_is_the_first_again():
    first = Failure.after(None, denied(), 1000)
    assert Failure.after(first, denied(), first.expires_at - 1).count == 2
    assert Failure.after(first, denied(), first.expires_at).count == 1


def test_after_a_year_of_failures_the_pause_is_still_a_minute():
    assert Failure.after(Failure(denied(), 500_000, 1000), denied(), 1000).retry_at == 1060


def test_one_is_encoded_with_all_that_it_says(simulation):
    failure = Failure.after(None, unreachable(), simulation.clock())
    decoded = Failure.from_bytes(failure.to_bytes())
    assert (str(decoded.error), decoded.error.host_only) == (str(unreachable()), True)
    assert (decoded.count, decoded.retry_at) == (1, simulation.clock() + 5)
