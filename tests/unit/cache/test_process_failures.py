"""Remembered failures, deadlines, and what a fork leaves of a process cache."""

from __future__ import annotations

import logging
import os
import threading

import pytest

from redshift_secrets.cache import CacheEntry, ProcessCache
from redshift_secrets.cache.process import _FIRST_PAUSE_SECONDS
from redshift_secrets.errors import AwsError, DeadlineError
from tests.support.fakes import denied
from tests.support.helpers import (
    BOUND,
    Crowd,
    WatchedDeadline,
    all_refreshes_done,
    in_child,
    past_deadline,
)
from tests.unit.cache.source import FRESH, STALE, get


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
