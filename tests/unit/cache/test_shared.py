"""Section 6 among processes: the nearest tier that knows answers, one renews for all, and who fails tells the others."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from redshift_secrets.cache import CacheEntry, Deadline, Group, Refreshed, SharedTiers
from redshift_secrets.errors import AwsError, DeadlineError
from tests.support.fakes import EPOCH, Clock

GROUP = Group(
    "g", "the value", ("value",), lambda rows: rows["value"].decode() if "value" in rows else None, lambda: ("value",)
)


class Memory:
    """A shared store in this process; `held` are the groups another process renews."""

    ready = True

    def __init__(self, clock: Clock, name: str = "host") -> None:
        self.name = name
        self.clock = clock
        self.groups: dict[str, tuple[dict[str, bytes], float]] = {}
        self.held: set[str] = set()
        self.reads = 0
        self.counted: list[bool] = []

    def read(self, group, names):
        self.reads += 1
        rows, until = self.groups.get(group, ({}, 0.0))
        return {name: rows[name] for name in names if name in rows and self.clock() < until}

    def replace(self, group, rows, expires_at):
        self.groups[group] = (dict(rows), expires_at)

    def claim(self, group):
        if group in self.held:
            return None
        self.held.add(group)
        return Lease(lambda: self.held.discard(group))

    def clear(self, group=None):
        self.groups.clear()

    def count(self, group, found):
        self.counted.append(found)


class Lease:
    def __init__(self, end: Callable[[], None]) -> None:
        self.release = end


class Renewals:
    """Counts renewals; each gives a value of its own that is fresh for 100 s and usable for 200 s."""

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
def renew(clock):
    return Renewals(clock)


def get_or_refresh(tiers, renew, seconds=5.0, **wish):
    return tiers.get_or_refresh(GROUP, renew, deadline=Deadline(seconds), **wish)


def never(_seconds):
    raise AssertionError("waited")


def test_without_any_store_everyone_renews_for_itself(clock, renew):
    tiers = SharedTiers(clock=clock, sleep=never)
    assert tiers.recall(GROUP) is None
    assert get_or_refresh(tiers, renew).value == "value-1"
    assert get_or_refresh(tiers, renew).value == "value-2"


def test_what_one_process_renewed_another_one_finds_with_its_ages(clock, host, fleet, renew):
    made = get_or_refresh(SharedTiers([host, fleet], clock=clock), renew)
    found = SharedTiers([host], clock=clock).recall(GROUP)
    assert found == made == CacheEntry("value-1", EPOCH + 100, EPOCH + 200)
    assert SharedTiers([fleet], clock=clock).recall(GROUP) == made


def test_recall_is_one_read_of_the_nearest_store(clock, host, fleet, renew):
    tiers = SharedTiers([host, fleet], clock=clock)
    get_or_refresh(SharedTiers([fleet], clock=clock), renew)
    host.reads = fleet.reads = 0
    assert tiers.recall(GROUP) is None
    assert (host.reads, fleet.reads) == (1, 0)
    assert tiers.recall(GROUP, anywhere=True).value == "value-1"


def test_another_host_copies_it_from_the_fleet_and_asks_nobody(clock, host, fleet, renew):
    get_or_refresh(SharedTiers([Memory(clock), fleet], clock=clock), renew)
    assert get_or_refresh(SharedTiers([host, fleet], clock=clock, sleep=never), renew).value == "value-1"
    assert SharedTiers([host], clock=clock).recall(GROUP).value == "value-1"
    assert renew.count == 1


def test_a_dead_value_is_not_recalled(clock, host, renew):
    tiers = SharedTiers([host], clock=clock)
    get_or_refresh(tiers, renew)
    clock.pass_(200)
    assert tiers.recall(GROUP) is None
    assert get_or_refresh(tiers, renew).value == "value-2"


def test_who_has_a_usable_value_does_not_wait_for_the_one_who_renews(clock, host, renew):
    tiers = SharedTiers([host], clock=clock, sleep=never)
    have = get_or_refresh(tiers, renew)
    clock.pass_(150)
    host.held.add("g")
    served = get_or_refresh(tiers, renew, good=lambda aged: clock() < aged.stale_at, meanwhile=have)
    assert served == CacheEntry("value-1", clock() + 1, EPOCH + 200)
    assert renew.count == 1


@pytest.mark.parametrize("busy", ["host", "fleet"])
def test_who_has_nothing_waits_for_the_one_who_renews(clock, host, fleet, renew, busy):
    held = {"host": host, "fleet": fleet}[busy]
    held.held.add("g")

    def meanwhile(_seconds):
        renewed = renew()
        held.replace("g", {**renewed.rows(), "ages": b"[%d, %d]" % (clock() + 100, clock() + 200)}, clock() + 200)
        held.held.discard("g")

    assert get_or_refresh(SharedTiers([host, fleet], clock=clock, sleep=meanwhile), renew).value == "value-1"
    assert renew.count == 1
    assert host.held == fleet.held == set()


def test_a_holder_that_dies_is_followed_by_another(clock, host, renew):
    host.held.add("g")
    tiers = SharedTiers([host], clock=clock, sleep=lambda _seconds: host.held.discard("g"))
    assert get_or_refresh(tiers, renew).value == "value-1"


def test_a_holder_that_stalls_holds_nobody_past_the_deadline(clock, host, renew):
    host.held.add("g")
    with pytest.raises(DeadlineError, match="the value was not there after 0 s"):
        get_or_refresh(SharedTiers([host], clock=clock, sleep=never), renew, seconds=0)
    assert renew.count == 0


def test_beside_a_holder_that_stalls_one_of_all_that_wait_renews(clock, host, fleet, renew, caplog):
    host.held.add("g")
    passed = Clock(0)
    waiting = SharedTiers([host, fleet], clock=clock, sleep=passed.pass_)
    assert waiting.get_or_refresh(GROUP, renew, deadline=Deadline(10, passed)).value == "value-1"
    assert passed() >= 7.5
    assert renew.count == 1
    (message,) = caplog.messages
    assert "who renews the value has not come to an end" in message
    assert host.held == {"g"}  # still the one who stalls
    assert get_or_refresh(waiting, renew).value == "value-1"  # and nobody else waits


def test_who_waits_beside_one_that_already_took_over_does_not_ask_aws_too(clock, host, renew):
    host.held |= {"g", "g?"}
    passed = Clock(0)
    with pytest.raises(DeadlineError):
        SharedTiers([host], clock=clock, sleep=passed.pass_).get_or_refresh(GROUP, renew, deadline=Deadline(10, passed))
    assert renew.count == 0


@pytest.mark.parametrize(
    ("look_seconds", "pauses"), [(0, [0.02, 0.04, 0.08, 0.16]), (0.005, [0.1, 0.1, 0.1, 0.16, 0.32, 0.4]), (9, [0.4])]
)
def test_who_waits_looks_the_less_the_longer_a_look_takes(clock, renew, look_seconds, pauses):
    # A look takes long where hundreds wait together: they must not take the processor from the one they wait for.
    passed, slept = Clock(0), []

    class Slow(Memory):
        def read(self, group, names):
            passed.pass_(look_seconds)
            return super().read(group, names)

    def sleep(seconds):
        slept.append(seconds)
        passed.pass_(seconds)

    slow = Slow(clock)
    slow.held |= {"g", "g?"}
    with pytest.raises(DeadlineError):
        SharedTiers([slow], clock=clock, sleep=sleep, rand=lambda: 0.5).get_or_refresh(
            GROUP, renew, deadline=Deadline(10, passed)
        )
    assert slept[: len(pauses)] == pytest.approx(pauses)


def test_a_failure_is_everyones_answer_for_a_while(clock, host, fleet, renew):
    renew.error = AwsError("redshift:X", "it", "me", "AccessDenied", "No.", "Grant it.")
    for _ in range(3):
        for stores in ([host, fleet], [Memory(clock), fleet]):
            with pytest.raises(AwsError) as caught:
                get_or_refresh(SharedTiers(stores, clock=clock), renew)
            assert str(caught.value) == str(renew.error)
    assert renew.count == 1
    assert host.held == fleet.held == set()
    clock.pass_(10)
    renew.error = None
    assert get_or_refresh(SharedTiers([host, fleet], clock=clock), renew).value == "value-2"


def test_an_unexpected_error_frees_the_claim_and_is_told_to_nobody(clock, host, renew):
    renew.error = KeyError("bug")
    with pytest.raises(KeyError):
        get_or_refresh(SharedTiers([host], clock=clock), renew)
    assert host.held == set()
    renew.error = None
    assert get_or_refresh(SharedTiers([host], clock=clock), renew).value == "value-2"


@pytest.mark.parametrize("rows", [{}, {"value": b"x"}, {"value": b"x", "ages": b"soon"}, {"ages": b"[2e9, 2e9]"}])
def test_rows_that_make_no_sense_are_a_miss(clock, host, renew, rows):
    host.replace("g", rows, EPOCH + 1000)
    tiers = SharedTiers([host], clock=clock)
    assert tiers.recall(GROUP) is None
    assert get_or_refresh(tiers, renew).value == "value-1"


def test_a_store_that_loses_everything_costs_only_the_cache(clock, renew):
    class Forgetful(Memory):
        def replace(self, group, rows, expires_at):
            pass

    tiers = SharedTiers([Forgetful(clock), Forgetful(clock)], clock=clock)
    assert get_or_refresh(tiers, renew).value == "value-1"
    assert get_or_refresh(tiers, renew).value == "value-2"


def test_sixteen_threads_with_a_claim_that_excludes_each_other_renew_once(clock, renew):
    lock, together = threading.Lock(), threading.Barrier(16)

    class Locked(Memory):
        def claim(self, group):
            with lock:
                return super().claim(group)

    tiers = SharedTiers([Locked(clock)], clock=clock)
    values: list[str] = []

    def look() -> None:
        together.wait(30)
        values.append(get_or_refresh(tiers, renew, seconds=30).value)

    threads = [threading.Thread(target=look) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert values == ["value-1"] * 16
    assert renew.count == 1


def test_a_lookup_does_not_wait_for_a_store_that_is_not_ready(clock, fleet, renew):
    tiers = SharedTiers([fleet], clock=clock)
    get_or_refresh(tiers, renew)
    fleet.ready = False
    assert tiers.recall(GROUP) is None
    assert get_or_refresh(tiers, renew).value == "value-1"  # a renewal has the time to ask
