"""Shared tiers: the nearest store that has an entry returns it, one process refreshes for all, failures are shared."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from redshift_secrets.cache import CacheEntry, Deadline, Group, Refreshed, SharedTiers
from redshift_secrets.errors import AwsError, DeadlineError
from tests.support.fakes import EPOCH, Clock
from tests.support.helpers import BOUND

GROUP = Group(
    "g", "the value", ("value",), lambda rows: rows["value"].decode() if "value" in rows else None, lambda: ("value",)
)


class Memory:
    """A shared store in this process; `held` are the groups whose lease another process has."""

    ready = True

    def __init__(self, clock: Clock, name: str = "host") -> None:
        self.name = name
        self.across_hosts = name == "fleet"
        self.clock = clock
        self.groups: dict[str, tuple[dict[str, bytes], float]] = {}
        self.held: set[str] = set()
        self.reads = 0

    def read(self, group, names):
        self.reads += 1
        rows, until = self.groups.get(group, ({}, 0.0))
        return {name: rows[name] for name in names if name in rows and self.clock() < until}

    def replace(self, group, rows, expires_at):
        self.groups[group] = (dict(rows), expires_at)

    def try_lock(self, group):
        if group in self.held:
            return None
        self.held.add(group)
        return Lease(lambda: self.held.discard(group))

    def clear(self, group=None):
        if group is None:
            self.groups.clear()
        else:
            self.groups.pop(group, None)


class Lease:
    def __init__(self, release: Callable[[], None]) -> None:
        self.release = release


class Source:
    """Counts refreshes; each returns a new value that is fresh for 100 s and expires after 200 s."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.count = 0
        self.error: Exception | None = None

    def __call__(self) -> Refreshed[str]:
        self.count += 1
        if self.error is not None:
            raise self.error
        value = f"value-{self.count}"
        return Refreshed(CacheEntry(value, self.clock() + 100, self.clock() + 200), lambda: {"value": value.encode()})


@pytest.fixture
def host(clock):
    return Memory(clock)


@pytest.fixture
def fleet(clock):
    return Memory(clock, "fleet")


@pytest.fixture
def refresh(clock):
    return Source(clock)


def get_or_refresh(tiers, refresh, deadline=None, **options):
    return tiers.get_or_refresh(GROUP, refresh, deadline=deadline or Deadline(BOUND), **options)


def never(_seconds):
    raise AssertionError("waited")


def test_without_a_store_every_process_refreshes_for_itself(clock, refresh):
    tiers = SharedTiers(clock=clock, sleep=never)
    assert tiers.get(GROUP) is None
    assert get_or_refresh(tiers, refresh).value == "value-1"
    assert get_or_refresh(tiers, refresh).value == "value-2"


def test_another_process_finds_the_entry_with_its_deadlines(clock, host, fleet, refresh):
    refreshed = get_or_refresh(SharedTiers([host, fleet], clock=clock), refresh)
    found = SharedTiers([host], clock=clock).get(GROUP)
    assert found == refreshed == CacheEntry("value-1", EPOCH + 100, EPOCH + 200)
    assert SharedTiers([fleet], clock=clock).get(GROUP) == refreshed


def test_get_is_one_read_of_the_nearest_store(clock, host, fleet, refresh):
    tiers = SharedTiers([host, fleet], clock=clock)
    get_or_refresh(SharedTiers([fleet], clock=clock), refresh)
    host.reads = fleet.reads = 0
    assert tiers.get(GROUP) is None
    assert (host.reads, fleet.reads) == (1, 0)
    assert tiers.get(GROUP, anywhere=True).value == "value-1"


def test_another_host_copies_the_entry_from_the_fleet_store_without_a_refresh(clock, host, fleet, refresh):
    get_or_refresh(SharedTiers([Memory(clock), fleet], clock=clock), refresh)
    assert get_or_refresh(SharedTiers([host, fleet], clock=clock, sleep=never), refresh).value == "value-1"
    assert SharedTiers([host], clock=clock).get(GROUP).value == "value-1"
    assert refresh.count == 1


def test_an_expired_entry_is_not_returned(clock, host, refresh):
    tiers = SharedTiers([host], clock=clock)
    get_or_refresh(tiers, refresh)
    clock.pass_(200)
    assert tiers.get(GROUP) is None
    assert get_or_refresh(tiers, refresh).value == "value-2"


def test_a_process_with_a_stale_value_does_not_wait_for_the_refreshing_one(clock, host, refresh):
    tiers = SharedTiers([host], clock=clock, sleep=never)
    have = get_or_refresh(tiers, refresh)
    clock.pass_(150)
    host.held.add("g")
    returned = get_or_refresh(tiers, refresh, accept=lambda entry: clock() < entry.stale_at, stale_value=have)
    assert returned == CacheEntry("value-1", clock() + 1, EPOCH + 200)
    assert refresh.count == 1


@pytest.mark.parametrize("busy", ["host", "fleet"])
def test_a_process_without_a_value_waits_for_the_refreshing_one(clock, host, fleet, refresh, busy):
    held = {"host": host, "fleet": fleet}[busy]
    held.held.add("g")

    def refreshing_process(_seconds):
        refreshed = refresh()
        held.replace(
            "g", {**refreshed.rows(), "ages": b"[%d, %d, null]" % (clock() + 100, clock() + 200)}, clock() + 200
        )
        held.held.discard("g")

    assert get_or_refresh(SharedTiers([host, fleet], clock=clock, sleep=refreshing_process), refresh).value == "value-1"
    assert refresh.count == 1
    assert host.held == fleet.held == set()


def test_after_the_refreshing_process_was_killed_another_one_refreshes(clock, host, refresh):
    host.held.add("g")
    tiers = SharedTiers([host], clock=clock, sleep=lambda _seconds: host.held.discard("g"))
    assert get_or_refresh(tiers, refresh).value == "value-1"


def test_a_stalled_refresh_elsewhere_delays_nobody_past_the_deadline(clock, host, refresh):
    host.held.add("g")
    with pytest.raises(DeadlineError, match=r"Timed out after 0 s \(aws_timeout_seconds\) waiting for the value"):
        get_or_refresh(SharedTiers([host], clock=clock, sleep=never), refresh, Deadline(0))
    assert refresh.count == 0


def test_one_of_all_waiting_processes_takes_over_a_stalled_refresh(clock, host, fleet, refresh, caplog):
    host.held.add("g")
    passed = Clock(0)
    waiting = SharedTiers([host, fleet], clock=clock, sleep=passed.pass_)
    assert get_or_refresh(waiting, refresh, Deadline(10, passed)).value == "value-1"
    assert passed() >= 7.5
    assert refresh.count == 1
    (message,) = caplog.messages
    assert message == f"refresh of the value has been running elsewhere for {passed():.1f} s; taking over"
    assert host.held == {"g"}  # the stalled process still has its lease
    assert get_or_refresh(waiting, refresh).value == "value-1"  # and no other process waits


def test_once_one_process_has_taken_over_the_others_keep_waiting(clock, host, refresh):
    host.held |= {"g", "g?"}
    passed = Clock(0)
    with pytest.raises(DeadlineError):
        get_or_refresh(SharedTiers([host], clock=clock, sleep=passed.pass_), refresh, Deadline(10, passed))
    assert refresh.count == 0


@pytest.mark.parametrize(
    ("read_seconds", "pauses"),
    [(0, [0.02, 0.04, 0.08, 0.16]), (0.0025, [0.1, 0.1, 0.1, 0.16, 0.32, 0.4]), (4.5, [0.4])],
)
def test_the_longer_a_read_takes_the_less_often_a_waiting_process_reads(clock, refresh, read_seconds, pauses):
    # A read takes long where hundreds wait together: they must leave the processor to the refreshing process.
    passed, slept = Clock(0), []

    class Slow(Memory):
        def read(self, group, names):
            passed.pass_(read_seconds)
            return super().read(group, names)

    def sleep(seconds):
        slept.append(seconds)
        passed.pass_(seconds)

    slow = Slow(clock)
    slow.held |= {"g", "g?"}
    with pytest.raises(DeadlineError):
        get_or_refresh(SharedTiers([slow], clock=clock, sleep=sleep, rand=lambda: 0.5), refresh, Deadline(10, passed))
    assert slept[: len(pauses)] == pytest.approx(pauses)


def denied():
    return AwsError("redshift:X", "it", "me", "AccessDenied", "No.", "Grant it.")


def unreachable():
    return AwsError("redshift:X", "it", "me", "Unreachable", "No way there.", "Check the network.", True)


def failure_of(stores, refresh, clock, **options):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is, the tests compare it
        get_or_refresh(SharedTiers(stores, clock=clock, sleep=never), refresh, **options)
    return str(caught.value)


class TestFailures:
    def test_one_process_finds_out_for_all_hosts(self, clock, host, fleet, refresh):
        refresh.error = denied()
        for _ in range(3):
            for stores in ([host, fleet], [Memory(clock), fleet]):
                assert failure_of(stores, refresh, clock) == str(refresh.error)
        assert refresh.count == 1
        assert host.held == fleet.held == set()
        clock.pass_(5)
        refresh.error = None
        assert get_or_refresh(SharedTiers([host, fleet], clock=clock), refresh).value == "value-2"

    def test_what_is_wrong_with_one_host_is_known_on_that_host_only(self, clock, host, fleet, refresh):
        refresh.error = unreachable()
        for _ in range(3):
            assert failure_of([host, fleet], refresh, clock) == str(refresh.error)
        assert refresh.count == 1
        refresh.error = None
        assert get_or_refresh(SharedTiers([Memory(clock), fleet], clock=clock), refresh).value == "value-2"

    def test_an_unexpected_error_is_known_by_its_kind_alone(self, clock, host, refresh):
        refresh.error = KeyError("hunter2")
        with pytest.raises(KeyError):
            get_or_refresh(SharedTiers([host], clock=clock), refresh)
        assert host.held == set()
        assert failure_of([host], refresh, clock).startswith("an unexpected KeyError. This is a bug")
        assert "hunter2" not in str(host.groups)
        assert refresh.count == 1

    def test_the_pause_doubles_up_to_a_minute_and_a_success_ends_it(self, clock, host, refresh):
        refresh.error = denied()
        for count, pause in enumerate([5, 10, 20, 40, 60, 60], start=1):
            failure_of([host], refresh, clock)
            clock.pass_(pause - 0.001)
            failure_of([host], refresh, clock)
            assert refresh.count == count
            clock.pass_(0.001)
        refresh.error = None
        assert get_or_refresh(SharedTiers([host], clock=clock), refresh).value == "value-7"
        clock.pass_(200)
        refresh.error = denied()
        failure_of([host], refresh, clock)
        clock.pass_(5)
        failure_of([host], refresh, clock)
        assert refresh.count == 9

    def test_while_one_process_tries_again_the_others_get_the_last_failure_at_once(self, clock, host, refresh):
        refresh.error = denied()
        failure_of([host], refresh, clock)
        clock.pass_(5)
        others = []

        def slow():
            others.append(failure_of([host], refresh, clock))
            return refresh()

        failure_of([host], slow, clock)
        assert others == [str(refresh.error)]
        assert refresh.count == 2

    def test_a_lookup_that_times_out_lets_the_others_know_while_the_refresh_runs(self, clock, host, refresh):
        host.held.add("g")  # by the process that waits for AWS
        SharedTiers([host], clock=clock).report_time_out(GROUP, DeadlineError("the value", 10))
        assert failure_of([host], refresh, clock) == str(DeadlineError("the value", 10))
        assert refresh.count == 0

    def test_many_lookups_that_time_out_are_one_failure(self, clock, host):
        for _ in range(10):
            SharedTiers([host], clock=clock).report_time_out(GROUP, DeadlineError("the value", 10))
        clock.pass_(5)
        assert get_or_refresh(SharedTiers([host], clock=clock), Source(clock)).value == "value-1"

    def test_a_process_with_a_stale_value_hears_of_the_failure_too(self, clock, host, refresh):
        tiers = SharedTiers([host], clock=clock, sleep=never)
        have = get_or_refresh(tiers, refresh)
        clock.pass_(150)
        refresh.error = denied()
        for _ in range(2):
            failure_of([host], refresh, clock, accept=lambda entry: clock() < entry.stale_at, stale_value=have)
        assert refresh.count == 2

    @pytest.mark.parametrize(
        "row", [b"", b"{}", b"[1, 2]", b'["[]", 1, 2]', b'["[\\"AwsError\\", []]", 1, 9e12]', b"\xff"]
    )
    def test_a_failure_that_cannot_be_decoded_is_none(self, clock, host, refresh, row):
        host.replace("g!", {"failure": row}, EPOCH + 1000)
        assert get_or_refresh(SharedTiers([host], clock=clock), refresh).value == "value-1"


@pytest.mark.parametrize("rows", [{}, {"value": b"x"}, {"value": b"x", "ages": b"soon"}, {"ages": b"[2e9, 2e9]"}])
def test_rows_that_cannot_be_decoded_are_a_miss(clock, host, refresh, rows):
    host.replace("g", rows, EPOCH + 1000)
    tiers = SharedTiers([host], clock=clock)
    assert tiers.get(GROUP) is None
    assert get_or_refresh(tiers, refresh).value == "value-1"


def test_a_store_that_loses_everything_costs_only_the_cache(clock, refresh):
    class Forgetful(Memory):
        def replace(self, group, rows, expires_at):
            pass

    tiers = SharedTiers([Forgetful(clock), Forgetful(clock)], clock=clock)
    assert get_or_refresh(tiers, refresh).value == "value-1"
    assert get_or_refresh(tiers, refresh).value == "value-2"


def test_get_does_not_read_a_store_that_is_not_ready_and_a_refresh_does(clock, fleet, refresh):
    tiers = SharedTiers([fleet], clock=clock)
    get_or_refresh(tiers, refresh)
    fleet.ready = False
    assert tiers.get(GROUP) is None
    assert get_or_refresh(tiers, refresh).value == "value-1"
