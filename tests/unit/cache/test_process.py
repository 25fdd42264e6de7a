"""Section 6 of the design: three ages, one rule, one flight, and what survives a fork."""

from __future__ import annotations

import logging
import os
import threading

import pytest

from redshift_secrets.cache import CacheEntry, ProcessCache
from redshift_secrets.cache.process import RETRY_AFTER_SECONDS
from redshift_secrets.errors import AwsError, DeadlineError
from tests.support.fakes import Clock, denied
from tests.support.helpers import BOUND, Crowd, WatchedDeadline, all_refreshes_done, in_child, package_threads, spent

FRESH, USABLE = 100, 200


class Source:
    """Renews to v1, v2, ... that are fresh for 100 s and usable for 200; may be held up, or fail."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.renewals = 0
        self.error: Exception | None = None
        self.hold: threading.Event | None = None
        self.entered = threading.Event()

    def __call__(self) -> CacheEntry[str]:
        self.renewals += 1
        self.entered.set()
        value, now = f"v{self.renewals}", self.clock()
        if self.hold is not None:
            assert self.hold.wait(BOUND)
        if self.error is not None:
            raise self.error
        return CacheEntry(value, now + FRESH, now + USABLE)


@pytest.fixture
def source(clock):
    return Source(clock)


@pytest.fixture
def cache(clock):
    return ProcessCache(lambda key: f"the thing {key}", clock=clock)


def get(cache, source, deadline=None):
    return cache.get("k", source, deadline or WatchedDeadline())


class TestAges:
    @pytest.mark.parametrize("age", [0, 50, FRESH - 0.001])
    def test_fresh_is_returned_without_any_renewal(self, cache, source, clock, age):
        get(cache, source)
        clock.pass_(age)
        assert get(cache, source) == "v1"
        all_refreshes_done()
        assert source.renewals == 1

    @pytest.mark.parametrize("age", [FRESH, 150, USABLE - 0.001])
    def test_usable_is_served_at_once_and_renewed_behind_the_lookup(self, cache, source, clock, age):
        get(cache, source)
        clock.pass_(age)
        deadline = WatchedDeadline()
        assert get(cache, source, deadline) == "v1"
        assert deadline.waits == 0
        all_refreshes_done()
        assert get(cache, source) == "v2"
        assert source.renewals == 2

    @pytest.mark.parametrize("age", [USABLE, 10_000])
    def test_dead_is_never_served(self, cache, source, clock, age):
        get(cache, source)
        clock.pass_(age)
        assert get(cache, source) == "v2"

    def test_keys_do_not_share_values(self, cache, source):
        assert cache.get("a", source, WatchedDeadline()) == "v1"
        assert cache.get("b", source, WatchedDeadline()) == "v2"

    def test_the_least_recently_used_value_goes_first(self, clock, source):
        cache = ProcessCache(str, clock=clock, maxsize=2)
        for key in ("a", "b", "a", "c"):
            cache.get(key, source, WatchedDeadline())
        assert [cache.peek(key) is not None for key in "abc"] == [True, False, True]

    def test_renewed_renews_what_is_fresh(self, cache, source):
        get(cache, source)
        assert cache.renewed("k", source, WatchedDeadline()) == "v2"
        assert get(cache, source) == "v2"

    def test_what_was_put_is_served_and_heals_a_failure(self, cache, source, clock):
        source.error = denied()
        with pytest.raises(AwsError):
            get(cache, source)
        cache.put("k", CacheEntry("mine", clock() + FRESH, clock() + USABLE))
        assert get(cache, source) == "mine"
        assert cache.peek("k").value == "mine"


class TestSingleFlight:
    def test_64_threads_asking_for_a_dead_value_cause_one_renewal(self, cache, source):
        source.hold = threading.Event()
        deadline = WatchedDeadline()
        crowd = Crowd(64, lambda: get(cache, source, deadline))
        deadline.await_waiting(64)
        source.hold.set()
        assert crowd.outcomes() == ["v1"] * 64
        assert source.renewals == 1

    def test_past_its_fresh_age_one_renews_and_none_of_64_waits(self, cache, source, clock):
        get(cache, source)
        clock.pass_(FRESH)
        source.hold = threading.Event()
        deadline = WatchedDeadline()
        # The renewal is held until all 64 have their answer, so none of them can have waited for it.
        assert Crowd(64, lambda: get(cache, source, deadline)).outcomes() == ["v1"] * 64
        assert deadline.waits == 0
        source.hold.set()
        all_refreshes_done()
        assert source.renewals == 2
        assert get(cache, source) == "v2"

    def test_a_failed_renewal_is_the_answer_of_all_who_wait_each_with_an_error_of_its_own(self, cache, source):
        source.hold, source.error = threading.Event(), denied()
        deadline = WatchedDeadline()
        crowd = Crowd(8, lambda: get(cache, source, deadline))
        deadline.await_waiting(8)
        source.hold.set()
        errors = crowd.outcomes()
        assert {str(error) for error in errors} == {str(denied())}
        assert {type(error) for error in errors} == {AwsError}
        assert len({id(error) for error in errors}) == 8
        assert source.renewals == 1

    def test_a_renewal_by_order_joins_the_one_under_way(self, cache, source):
        source.hold = threading.Event()
        deadline = WatchedDeadline()
        crowd = Crowd(8, lambda: cache.renewed("k", source, deadline))
        deadline.await_waiting(8)
        source.hold.set()
        assert crowd.outcomes() == ["v1"] * 8
        assert source.renewals == 1

    def test_a_renewal_of_one_key_does_not_hold_up_another(self, cache, source, clock):
        held = Source(clock)
        held.hold = threading.Event()
        deadline = WatchedDeadline()
        crowd = Crowd(1, lambda: cache.get("slow", held, deadline))
        deadline.await_waiting(1)
        assert get(cache, source) == "v1"
        held.hold.set()
        assert crowd.outcomes() == ["v1"]

    def test_a_renewal_runs_in_a_thread_that_cannot_keep_the_process_from_exiting_and_ends(self, cache, source):
        source.hold = threading.Event()
        deadline = WatchedDeadline()
        crowd = Crowd(1, lambda: get(cache, source, deadline))
        deadline.await_waiting(1)
        assert [thread.daemon for thread in package_threads()] == [True]
        source.hold.set()
        crowd.outcomes()
        all_refreshes_done()
        assert package_threads() == []


class TestFailures:
    def test_a_failure_is_remembered_then_retried(self, cache, source, clock):
        source.error = denied()
        errors = []
        for _ in range(3):
            with pytest.raises(AwsError) as caught:
                get(cache, source)
            errors.append(caught.value)
        assert source.renewals == 1
        assert len({id(error) for error in errors}) == 3, "threads would share one traceback"
        clock.pass_(RETRY_AFTER_SECONDS - 0.001)
        with pytest.raises(AwsError):
            get(cache, source)
        assert source.renewals == 1
        clock.pass_(0.001)
        source.error = None
        assert get(cache, source) == "v2"

    def test_while_a_value_is_usable_a_failure_is_logged_and_retried_after_a_pause(self, cache, source, clock, caplog):
        get(cache, source)
        clock.pass_(FRESH)
        source.error = denied()
        for _ in range(3):
            assert get(cache, source) == "v1"
            all_refreshes_done()
        assert source.renewals == 2
        assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
            (logging.WARNING, f"the thing k could not be renewed: {denied()}")
        ]
        clock.pass_(RETRY_AFTER_SECONDS)
        source.error = None
        assert get(cache, source) == "v1"
        all_refreshes_done()
        assert get(cache, source) == "v3"

    def test_a_failure_that_leaves_nothing_usable_is_logged_as_one_error(self, cache, source, caplog):
        source.error = denied()
        for _ in range(5):
            with pytest.raises(AwsError):
                get(cache, source)
        assert [record.levelno for record in caplog.records] == [logging.ERROR]

    @pytest.mark.parametrize("usable", [True, False], ids=["usable", "dead"])
    def test_a_system_without_threads_stops_only_who_needs_one(self, cache, source, clock, monkeypatch, usable):
        get(cache, source)
        clock.pass_(FRESH if usable else USABLE)

        def refuse(_thread):
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            if usable:
                assert get(cache, source) == "v1"
            else:
                with pytest.raises(RuntimeError, match="the thing k cannot be renewed"):
                    get(cache, source)
        clock.pass_(RETRY_AFTER_SECONDS)
        assert get(cache, source) == ("v1" if usable else "v2")
        all_refreshes_done()
        assert get(cache, source) == "v2"


class TestDeadline:
    @pytest.fixture
    def held(self, source):
        source.hold = threading.Event()
        yield source.hold
        source.hold.set()
        all_refreshes_done()

    @pytest.mark.usefixtures("held")
    def test_a_lookup_ends_at_its_deadline_and_says_what_was_late(self, cache, source):
        with pytest.raises(DeadlineError, match=r"the thing k was not there after 10 s.*aws_timeout_seconds"):
            get(cache, source, spent(10))

    @pytest.mark.usefixtures("held")
    def test_the_next_lookup_does_not_wait_again(self, cache, source):
        with pytest.raises(DeadlineError):
            get(cache, source, spent())
        deadline = WatchedDeadline()
        with pytest.raises(DeadlineError):
            get(cache, source, deadline)
        assert deadline.waits == 0
        assert source.renewals == 1

    def test_a_flight_that_is_late_still_lands(self, cache, source, held):
        with pytest.raises(DeadlineError):
            get(cache, source, spent())
        held.set()
        all_refreshes_done()
        assert get(cache, source) == "v1"
        assert source.renewals == 1

    def test_having_been_late_is_forgotten_once_the_flight_has_landed(self, cache, source, clock, held):
        soon = clock() + 5

        def short_lived():
            return CacheEntry(source().value, soon, soon)

        with pytest.raises(DeadlineError):
            cache.get("k", short_lived, spent())
        held.set()
        all_refreshes_done()
        clock.pass_(5)
        assert get(cache, source) == "v2"

    def test_after_the_pause_a_lookup_joins_the_flight_that_is_still_in_the_air(self, cache, source, clock, held):
        with pytest.raises(DeadlineError):
            get(cache, source, spent())
        clock.pass_(RETRY_AFTER_SECONDS)
        deadline = WatchedDeadline()
        crowd = Crowd(1, lambda: get(cache, source, deadline))
        deadline.await_waiting(1)
        held.set()
        assert crowd.outcomes() == ["v1"]
        assert source.renewals == 1


class TestFork:
    def test_a_child_has_what_its_parent_had(self, cache, source):
        get(cache, source)
        assert in_child(lambda: (get(cache, source), source.renewals)) == ("v1", 1)

    @pytest.mark.parametrize(("age", "answers"), [(FRESH, ["v1", "v2"]), (USABLE, ["v2", "v2"])])
    def test_a_child_renews_for_itself(self, cache, source, clock, age, answers):
        get(cache, source)
        clock.pass_(age)

        def twice():
            first = get(cache, source)
            all_refreshes_done()
            return [first, get(cache, source)]

        assert in_child(twice) == answers
        assert source.renewals == 1

    @pytest.mark.parametrize(("age", "answer"), [(0, "v1"), (FRESH, "v1"), (USABLE, "mine")])
    def test_a_flight_in_the_air_at_the_fork_does_not_hold_up_the_child(self, cache, source, clock, age, answer):
        get(cache, source)
        clock.pass_(age)
        source.hold = threading.Event()
        deadline = WatchedDeadline()
        crowd = Crowd(1, lambda: cache.renewed("k", source, deadline))
        deadline.await_waiting(1)
        own = CacheEntry("mine", clock() + FRESH, clock() + USABLE)
        assert in_child(lambda: cache.get("k", lambda: own, WatchedDeadline())) == answer
        source.hold.set()
        assert crowd.outcomes() == ["v2"]

    def test_a_lock_held_at_the_fork_does_not_hold_up_the_child(self, source, clock):
        parent, inside, go_on = os.getpid(), threading.Event(), threading.Event()

        def what(key):
            # Called in the middle of a change: with the lock held, in the parent alone.
            if os.getpid() == parent:
                inside.set()
                assert go_on.wait(BOUND)
            return key

        cache = ProcessCache(what, clock=clock)
        crowd = Crowd(1, lambda: get(cache, source))
        assert inside.wait(BOUND)
        assert in_child(lambda: [get(cache, source), get(cache, source), source.renewals]) == ["v1", "v1", 1]
        go_on.set()
        assert crowd.outcomes() == ["v1"]

    def test_caches_that_are_gone_do_not_disturb_a_fork(self, clock, source):
        for _ in range(10):
            ProcessCache(str, clock=clock)
        kept = ProcessCache(str, clock=clock)
        assert in_child(lambda: get(kept, source)) == "v1"
        assert in_child(lambda: in_child(lambda: get(kept, source))) == "v1"
