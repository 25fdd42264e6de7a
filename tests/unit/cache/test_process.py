"""Ages of an entry, single flight among threads, remembered failures, deadlines, and what a fork leaves of a cache."""

from __future__ import annotations

import logging
import os
import threading

import pytest

from redshift_secrets.cache import CacheEntry, Deadline, ProcessCache
from redshift_secrets.cache.process import _FIRST_PAUSE_SECONDS
from redshift_secrets.errors import AwsError, DeadlineError
from tests.support.fakes import Clock, denied
from tests.support.helpers import (
    BOUND,
    Crowd,
    WatchedDeadline,
    all_refreshes_done,
    in_child,
    package_threads,
    past_deadline,
)

FRESH, STALE = 100, 200


class Source:
    """Refreshes to v1, v2, ... that are fresh for 100 s and expire after 200; `hold` makes it wait, `error` fail."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.refreshes = 0
        self.error: Exception | None = None
        self.hold: threading.Event | None = None
        self.entered = threading.Event()

    def __call__(self) -> CacheEntry[str]:
        self.refreshes += 1
        self.entered.set()
        value, now = f"v{self.refreshes}", self.clock()
        if self.hold is not None:
            assert self.hold.wait(BOUND)
        if self.error is not None:
            raise self.error
        return CacheEntry(value, now + FRESH, now + STALE)


@pytest.fixture
def source(clock):
    return Source(clock)


@pytest.fixture
def cache(clock):
    return ProcessCache(lambda key: f"the thing {key}", clock=clock)


def get(cache, source, deadline=None):
    return cache.get("k", source, deadline or WatchedDeadline()).value


class TestAges:
    @pytest.mark.parametrize("age", [0, 50, FRESH - 0.001])
    def test_a_fresh_entry_is_returned_without_a_refresh(self, cache, source, clock, age):
        get(cache, source)
        clock.pass_(age)
        assert get(cache, source) == "v1"
        all_refreshes_done()
        assert source.refreshes == 1

    @pytest.mark.parametrize("age", [FRESH, 150, STALE - 0.001])
    def test_a_stale_entry_is_returned_at_once_and_refreshed_behind_the_lookup(self, cache, source, clock, age):
        get(cache, source)
        clock.pass_(age)
        deadline = WatchedDeadline()
        assert get(cache, source, deadline) == "v1"
        assert deadline.waits == 0
        all_refreshes_done()
        assert get(cache, source) == "v2"
        assert source.refreshes == 2

    @pytest.mark.parametrize("age", [STALE, 10_000])
    def test_an_expired_entry_is_never_returned(self, cache, source, clock, age):
        get(cache, source)
        clock.pass_(age)
        assert get(cache, source) == "v2"

    def test_keys_do_not_share_entries(self, cache, source):
        assert cache.get("a", source, WatchedDeadline()).value == "v1"
        assert cache.get("b", source, WatchedDeadline()).value == "v2"

    def test_the_least_recently_used_entry_is_dropped_first(self, clock, source):
        cache = ProcessCache(str, clock=clock, maxsize=2)
        for key in ("a", "b", "a", "c"):
            cache.get(key, source, WatchedDeadline())
        assert [cache.peek(key) is not None for key in "abc"] == [True, False, True]

    def test_refresh_replaces_a_fresh_entry(self, cache, source):
        get(cache, source)
        assert cache.refresh("k", source, WatchedDeadline()) == "v2"
        assert get(cache, source) == "v2"

    def test_refresh_in_background_does_not_wait(self, cache, source):
        source.hold = threading.Event()
        cache.refresh_in_background("k", source)
        assert cache.peek("k") is None
        source.hold.set()
        all_refreshes_done()
        assert cache.peek("k").value == "v1"

    def test_refresh_in_background_does_nothing_after_a_failure(self, cache, source):
        source.error = denied()
        with pytest.raises(AwsError):
            get(cache, source)
        cache.refresh_in_background("k", source)
        all_refreshes_done()
        assert source.refreshes == 1


class TestLastWindow:
    """From `wait_at` on, an entry is returned only where a refresh fails."""

    @pytest.fixture
    def waiting(self, cache, clock):
        """Looks up an entry whose last window has begun; returns the value and whether the lookup waited."""
        entry = CacheEntry("old", clock() - 100, clock() + 100, clock() - 50)

        def look_up(source, deadline=None):
            waited = []
            found = cache.get("k", source, deadline or WatchedDeadline(), lambda: waited.append(True), lambda: entry)
            return found.value, bool(waited)

        return look_up

    def test_the_first_lookup_waits_for_a_new_value(self, waiting, source):
        assert waiting(source) == ("v1", True)
        assert waiting(source) == ("v1", False)

    def test_where_the_refresh_fails_it_is_returned_to_the_next_ones_at_once(self, waiting, source, clock, caplog):
        source.error = denied()
        assert waiting(source) == ("old", True)
        assert "the thing k, stale for 100 s, is still used: redshift:DescribeClusters" in caplog.text
        assert [waiting(source) for _ in range(3)] == [("old", False)] * 3
        assert source.refreshes == 1
        clock.pass_(_FIRST_PAUSE_SECONDS)
        assert waiting(source) == ("old", False)  # the retry is behind the lookup
        all_refreshes_done()
        assert source.refreshes == 2
        source.error = None
        clock.pass_(2 * _FIRST_PAUSE_SECONDS)
        waiting(source)
        all_refreshes_done()
        assert waiting(source) == ("v3", False)

    def test_a_lookup_waits_for_half_of_its_time_at_most(self, waiting, source):
        source.hold = threading.Event()
        seconds, moments = 10, [0.0]

        class Expiring(Deadline):
            def half(self):
                assert self.left() == seconds
                return past_deadline(seconds / 2)

        assert waiting(source, Expiring(seconds, lambda: moments[0])) == ("old", True)
        assert waiting(source) == ("old", False)
        source.hold.set()
        all_refreshes_done()
        assert waiting(source) == ("v1", False)

    def test_the_pause_between_attempts_doubles_up_to_a_minute(self, cache, source, clock):
        source.error = denied()
        for count, pause in enumerate([5, 10, 20, 40, 60, 60], start=1):
            for _ in range(2):
                with pytest.raises(AwsError):
                    get(cache, source)
            all_refreshes_done()
            assert source.refreshes == count
            clock.pass_(pause - 0.001)
            with pytest.raises(AwsError):
                get(cache, source)
            assert source.refreshes == count
            clock.pass_(0.001)
        source.error = None
        assert get(cache, source) == "v7"


class TestLookElsewhere:
    @staticmethod
    def get(cache, source, entry, on_wait=lambda: None):
        return cache.get("k", source, WatchedDeadline(), on_wait, lambda: entry)

    @pytest.fixture
    def elsewhere(self, clock):
        return CacheEntry("elsewhere", clock() + STALE, clock() + 2 * STALE)

    def test_an_entry_from_elsewhere_is_returned_and_kept(self, cache, source, elsewhere):
        assert self.get(cache, source, elsewhere) == elsewhere
        assert cache.peek("k") == elsewhere
        assert source.refreshes == 0

    def test_a_fresh_entry_is_not_looked_for_elsewhere(self, cache, source):
        get(cache, source)
        assert cache.get("k", source, WatchedDeadline(), look_elsewhere=lambda: 1 / 0).value == "v1"

    def test_it_replaces_a_stale_entry_only_where_it_is_newer(self, cache, source, clock, elsewhere):
        first = self.get(cache, source, None)
        clock.pass_(FRESH)
        older = CacheEntry("older", first.stale_at - 1, first.expires_at)
        assert self.get(cache, source, older) == first
        all_refreshes_done()
        clock.pass_(FRESH)
        newer = CacheEntry("newer", clock() + 1, clock() + STALE)
        assert self.get(cache, source, newer) == newer
        assert source.refreshes == 2

    def test_a_stale_one_is_returned_and_refreshed_behind_the_lookup(self, cache, source, clock):
        stale = CacheEntry("stale", clock(), clock() + 1)
        assert self.get(cache, source, stale) == stale
        all_refreshes_done()
        assert get(cache, source) == "v1"

    def test_it_ends_a_remembered_failure(self, cache, source, elsewhere):
        source.error = denied()
        with pytest.raises(AwsError):
            get(cache, source)
        assert self.get(cache, source, elsewhere) == elsewhere

    @pytest.mark.parametrize("entry", [None, CacheEntry("expired", 0, 0)], ids=["nothing", "expired"])
    def test_without_an_unexpired_one_the_refresh_is_waited_for_and_reported(self, cache, source, entry):
        waits = []
        assert self.get(cache, source, entry, lambda: waits.append(1)).value == "v1"
        assert self.get(cache, source, entry, lambda: waits.append(1)).value == "v1"
        assert waits == [1]


class TestSingleFlight:
    def test_64_threads_without_an_entry_cause_one_refresh(self, cache, source):
        source.hold = threading.Event()
        deadline = WatchedDeadline()
        crowd = Crowd(64, lambda: get(cache, source, deadline))
        deadline.await_waiting(64)
        source.hold.set()
        assert crowd.outcomes() == ["v1"] * 64
        assert source.refreshes == 1

    def test_64_threads_with_a_stale_entry_cause_one_refresh_and_none_waits(self, cache, source, clock):
        get(cache, source)
        clock.pass_(FRESH)
        source.hold = threading.Event()
        deadline = WatchedDeadline()
        # The refresh is held until all 64 have returned, so none of them can have waited for it.
        assert Crowd(64, lambda: get(cache, source, deadline)).outcomes() == ["v1"] * 64
        assert deadline.waits == 0
        source.hold.set()
        all_refreshes_done()
        assert source.refreshes == 2
        assert get(cache, source) == "v2"

    def test_a_failed_refresh_raises_a_separate_error_in_every_waiting_thread(self, cache, source):
        source.hold, source.error = threading.Event(), denied()
        deadline = WatchedDeadline()
        crowd = Crowd(8, lambda: get(cache, source, deadline))
        deadline.await_waiting(8)
        source.hold.set()
        errors = crowd.outcomes()
        assert {str(error) for error in errors} == {str(denied())}
        assert {type(error) for error in errors} == {AwsError}
        assert len({id(error) for error in errors}) == 8
        assert source.refreshes == 1

    def test_refresh_joins_a_running_refresh(self, cache, source):
        source.hold = threading.Event()
        deadline = WatchedDeadline()
        crowd = Crowd(8, lambda: cache.refresh("k", source, deadline))
        deadline.await_waiting(8)
        source.hold.set()
        assert crowd.outcomes() == ["v1"] * 8
        assert source.refreshes == 1

    def test_a_refresh_of_one_key_does_not_block_another(self, cache, source, clock):
        held = Source(clock)
        held.hold = threading.Event()
        deadline = WatchedDeadline()
        crowd = Crowd(1, lambda: cache.get("slow", held, deadline).value)
        deadline.await_waiting(1)
        assert get(cache, source) == "v1"
        held.hold.set()
        assert crowd.outcomes() == ["v1"]

    def test_a_refresh_runs_in_a_daemon_thread_that_ends(self, cache, source):
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
    def test_a_failure_is_remembered_and_then_retried(self, cache, source, clock):
        source.error = denied()
        errors = []
        for _ in range(3):
            with pytest.raises(AwsError) as caught:
                get(cache, source)
            errors.append(caught.value)
        assert source.refreshes == 1
        assert len({id(error) for error in errors}) == 3, "threads would share one traceback"
        clock.pass_(_FIRST_PAUSE_SECONDS - 0.001)
        with pytest.raises(AwsError):
            get(cache, source)
        assert source.refreshes == 1
        clock.pass_(0.001)
        source.error = None
        assert get(cache, source) == "v2"

    def test_with_a_stale_entry_a_failure_is_logged_and_retried_after_a_pause(self, cache, source, clock, caplog):
        get(cache, source)
        clock.pass_(FRESH)
        source.error = denied()
        for _ in range(3):
            assert get(cache, source) == "v1"
            all_refreshes_done()
        assert source.refreshes == 2
        assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
            (logging.WARNING, f"the thing k could not be refreshed: {denied()}")
        ]
        clock.pass_(_FIRST_PAUSE_SECONDS)
        source.error = None
        assert get(cache, source) == "v1"
        all_refreshes_done()
        assert get(cache, source) == "v3"

    def test_without_an_entry_a_failure_is_logged_as_one_error(self, cache, source, caplog):
        source.error = denied()
        for _ in range(5):
            with pytest.raises(AwsError):
                get(cache, source)
        assert [record.levelno for record in caplog.records] == [logging.ERROR]

    @pytest.mark.parametrize("stale", [True, False], ids=["stale", "expired"])
    def test_where_no_thread_can_be_started_a_stale_entry_is_still_returned(
        self, cache, source, clock, monkeypatch, stale
    ):
        get(cache, source)
        clock.pass_(FRESH if stale else STALE)

        def refuse(_thread):
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            if stale:
                assert get(cache, source) == "v1"
            else:
                with pytest.raises(RuntimeError, match="the thing k cannot be refreshed"):
                    get(cache, source)
        clock.pass_(_FIRST_PAUSE_SECONDS)
        assert get(cache, source) == ("v1" if stale else "v2")
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
    def test_at_its_deadline_a_lookup_raises_and_names_what_it_waited_for(self, cache, source):
        with pytest.raises(
            DeadlineError, match=r"Timed out after 10 s \(aws_timeout_seconds\) waiting for the thing k"
        ):
            get(cache, source, past_deadline(10))

    @pytest.mark.usefixtures("held")
    def test_the_next_lookup_does_not_wait_again(self, cache, source):
        with pytest.raises(DeadlineError):
            get(cache, source, past_deadline())
        deadline = WatchedDeadline()
        with pytest.raises(DeadlineError):
            get(cache, source, deadline)
        assert deadline.waits == 0
        assert source.refreshes == 1

    def test_a_refresh_that_is_late_still_stores_its_entry(self, cache, source, held):
        with pytest.raises(DeadlineError):
            get(cache, source, past_deadline())
        held.set()
        all_refreshes_done()
        assert get(cache, source) == "v1"
        assert source.refreshes == 1

    def test_a_time_out_is_forgotten_once_the_refresh_has_ended(self, cache, source, clock, held):
        soon = clock() + 5

        def short_lived():
            return CacheEntry(source().value, soon, soon)

        with pytest.raises(DeadlineError):
            cache.get("k", short_lived, past_deadline())
        held.set()
        all_refreshes_done()
        clock.pass_(5)
        assert get(cache, source) == "v2"

    def test_after_the_pause_a_lookup_joins_the_refresh_that_still_runs(self, cache, source, clock, held):
        with pytest.raises(DeadlineError):
            get(cache, source, past_deadline())
        clock.pass_(_FIRST_PAUSE_SECONDS)
        deadline = WatchedDeadline()
        crowd = Crowd(1, lambda: get(cache, source, deadline))
        deadline.await_waiting(1)
        held.set()
        assert crowd.outcomes() == ["v1"]
        assert source.refreshes == 1


class TestFork:
    def test_a_child_has_the_entries_of_its_parent(self, cache, source):
        get(cache, source)
        assert in_child(lambda: (get(cache, source), source.refreshes)) == ("v1", 1)

    @pytest.mark.parametrize(("age", "answers"), [(FRESH, ["v1", "v2"]), (STALE, ["v2", "v2"])])
    def test_a_child_refreshes_on_its_own(self, cache, source, clock, age, answers):
        get(cache, source)
        clock.pass_(age)

        def twice():
            first = get(cache, source)
            all_refreshes_done()
            return [first, get(cache, source)]

        assert in_child(twice) == answers
        assert source.refreshes == 1

    @pytest.mark.parametrize(("age", "answer"), [(0, "v1"), (FRESH, "v1"), (STALE, "child")])
    def test_a_refresh_running_at_the_fork_does_not_block_the_child(self, cache, source, clock, age, answer):
        get(cache, source)
        clock.pass_(age)
        source.hold = threading.Event()
        deadline = WatchedDeadline()
        crowd = Crowd(1, lambda: cache.refresh("k", source, deadline))
        deadline.await_waiting(1)
        own = CacheEntry("child", clock() + FRESH, clock() + STALE)
        assert in_child(lambda: cache.get("k", lambda: own, WatchedDeadline()).value) == answer
        source.hold.set()
        assert crowd.outcomes() == ["v2"]

    def test_a_lock_held_at_the_fork_does_not_block_the_child(self, source, clock):
        parent, inside, go_on = os.getpid(), threading.Event(), threading.Event()

        def describe(key):
            # Called in the middle of a change, with the lock held: in the parent alone.
            if os.getpid() == parent:
                inside.set()
                assert go_on.wait(BOUND)
            return key

        cache = ProcessCache(describe, clock=clock)
        crowd = Crowd(1, lambda: get(cache, source))
        assert inside.wait(BOUND)
        assert in_child(lambda: [get(cache, source), get(cache, source), source.refreshes]) == ["v1", "v1", 1]
        go_on.set()
        assert crowd.outcomes() == ["v1"]

    def test_deleted_caches_do_not_disturb_a_fork(self, clock, source):
        for _ in range(10):
            ProcessCache(str, clock=clock)
        kept = ProcessCache(str, clock=clock)
        assert in_child(lambda: get(kept, source)) == "v1"
        assert in_child(lambda: in_child(lambda: get(kept, source))) == "v1"
