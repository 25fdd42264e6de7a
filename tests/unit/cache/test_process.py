"""Ages of an entry in the process cache, where else it is looked for, and single flight among threads."""

from __future__ import annotations

import threading

import pytest

from redshift_secrets.cache import CacheEntry, Deadline, ProcessCache
from redshift_secrets.cache.process import _FIRST_PAUSE_SECONDS
from redshift_secrets.errors import AwsError
from tests.support.fakes import denied
from tests.support.helpers import (
    Crowd,
    WatchedDeadline,
    all_refreshes_done,
    package_threads,
    past_deadline,
)
from tests.unit.cache.source import FRESH, STALE, Source, get


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
