"""What a lookup gets, and when AWS is asked again, where a refresh fails, takes too long, or cannot even begin."""

from __future__ import annotations

import logging

import pytest

from redshift_secrets.cache.tiers import Tier
from redshift_secrets.errors import AwsError, DeadlineError, RefreshNotStartedError, TooManyWaitingError
from tests.support.fakes import denied
from tests.unit.cache.simulation import EXPIRED, FOREVER, FRESH, STALE, put

FIRST_PAUSE = 5.0


class TestFailures:
    def test_the_error_is_everyones_answer_and_each_gets_a_copy(self, process, source):
        alone = process()
        source.error = denied()
        results = [alone.start() for _ in range(3)]
        errors = [*(result() for result in results), alone.get(), alone.get()]
        assert {(type(error), str(error)) for error in errors} == {(AwsError, str(denied()))}
        assert len({id(error) for error in errors}) == 5, "threads would share one traceback"
        assert source.asked == 1

    def test_the_pause_doubles_up_to_a_minute(self, process, simulation, source):
        alone, source.error, source.seconds = process(), denied(), 0
        for count, pause in enumerate([5, 10, 20, 40, 60, 60], start=1):
            assert str(alone.get()) == str(denied())
            simulation.pass_(pause - 0.001)
            assert str(alone.get()) == str(denied())
            assert source.asked == count
            simulation.pass_(0.002)
        source.error = None
        assert alone.get() == "v7"

    def test_a_success_or_a_long_silence_ends_that(self, process, simulation, source):
        def is_asked_again_after(seconds):
            before = source.asked
            simulation.pass_(seconds - 0.001)
            alone.get()
            assert source.asked == before
            simulation.pass_(0.002)
            alone.get()
            assert source.asked == before + 1

        alone, source.error, source.seconds = process(), denied(), 0
        alone.get()
        is_asked_again_after(5)
        source.error = None
        is_asked_again_after(10)
        source.error = denied()
        simulation.pass_(EXPIRED)
        alone.get()
        is_asked_again_after(5)
        simulation.pass_(10 + 120)
        alone.get()
        is_asked_again_after(5)

    def test_after_a_success_lookups_wait_again(self, process, simulation, source):
        alone, source.error = process(), denied()
        alone.get()
        source.error = None
        simulation.pass_(FIRST_PAUSE)
        assert alone.get() == "v2"
        assert (alone.get(since=simulation.clock()), alone.waited) == ("v3", 1)

    def test_an_unexpected_exception_is_one_too(self, process, source, caplog):
        alone, source.error = process(), KeyError("hunter2")
        assert isinstance(alone.get(), KeyError)
        assert isinstance(alone.get(), KeyError)
        assert source.asked == 1
        assert caplog.text == "", "the lookup that waited tells it"
        assert "hunter2" not in caplog.text

    def test_so_is_what_ends_a_thread(self, process, source, caplog):
        """A refresh runs in a thread of its own, where nobody else would hear of it."""
        alone, source.error = process(), SystemExit(3)
        assert [str(alone.get())[:26] for _ in range(3)] == ["an unexpected SystemExit. "] * 3
        assert source.asked == 1

    def test_behind_a_stale_entry_it_is_logged_once_and_retried_after_a_pause(
        self, process, simulation, source, caplog
    ):
        alone = process()
        alone.get()
        simulation.pass_(FRESH)
        source.error = denied()
        for _ in range(3):
            assert (alone.get(), alone.waited) == ("v1", 0)
            simulation.pass_(1)
        assert (source.asked, messages(caplog)) == (2, [f"the thing k could not be refreshed: {denied()}"])
        source.error = None
        simulation.pass_(FIRST_PAUSE)
        alone.get()
        simulation.finish()
        assert alone.get() == "v3"

    def test_stale_if_error_later_lookups_do_not_wait_until_aws_answers_again(
        self, process, simulation, source, caplog
    ):
        alone = process()
        alone.get()
        simulation.pass_(STALE - 1)
        source.error = denied()
        assert (alone.get(), alone.waited) == ("v1", 1)
        assert f"the thing k, stale for 101 s, is still used: {denied()}" in caplog.text
        for _ in range(20):
            simulation.pass_(FIRST_PAUSE)
            assert (alone.get(), alone.waited) == ("v1", 0)
        assert source.asked == 6  # after 5, 10, 20 and 40 s, each behind a lookup
        source.error = None
        simulation.pass_(60)
        alone.get()
        simulation.finish()
        assert (alone.get(), alone.waited) == ("v7", 0)

    def test_behind_the_lookups_nothing_is_refreshed_right_after_a_failure(self, process, simulation, source):
        alone, source.error = process(), denied()
        alone.get()
        alone.refresher.refresh_behind(source.item(), simulation.clock())
        simulation.finish()
        assert source.asked == 1

    def test_an_entry_from_elsewhere_ends_it(self, process, host, source):
        alone, source.error = process(host), denied()
        assert isinstance(alone.get(), AwsError)
        put(process(host), "elsewhere")
        assert (alone.get(), alone.tier) == ("elsewhere", "host")


class TestTimeOuts:
    def test_a_lookup_ends_in_time_and_names_what_it_waited_for(self, process, source):
        alone, source.seconds = process(), FOREVER
        assert str(alone.get()).startswith("Timed out after 10 s (aws_timeout_seconds) waiting for the thing k")
        assert alone.waited == pytest.approx(10)

    def test_a_stale_entry_is_returned_and_the_log_says_how_old_it_is(self, process, source, caplog):
        alone, source.seconds = process(), FOREVER
        put(alone, "old", made_ago=STALE)
        assert (alone.get(), alone.waited) == ("old", 5)
        assert "the thing k, stale for 105 s, is still used: Timed out after 5 s" in caplog.text

    def test_the_next_one_does_not_wait_while_that_refresh_runs(self, process, simulation, source):
        alone, source.seconds = process(), FOREVER
        alone.get()
        for pause in (0, 4, 2, 60):
            simulation.pass_(pause)
            assert isinstance(alone.get(), DeadlineError)
            assert alone.waited == 0
        assert source.asked == 1

    def test_a_refresh_that_is_late_still_ends_in_an_entry(self, process, simulation, source):
        alone, source.seconds = process(), 12
        assert isinstance(alone.get(), DeadlineError)
        simulation.pass_(3)
        assert (alone.get(), alone.waited, source.asked) == ("v1", 0, 1)

    def test_many_lookups_that_time_out_are_one_failure(self, process, simulation, source):
        alone, source.seconds = process(), 12
        results = [alone.start() for _ in range(8)]
        assert {type(result()) for result in results} == {DeadlineError}
        assert {alone.refresher._failure("k").count} == {1}

    def test_behind_one_that_answers_nobody_reports_a_time_out(self, process, simulation, source, host):
        """A listing of many pages goes on from process to process, so that one lookup too many is no failure."""

        def page_by_page(recall):
            for page in range(8):
                recall(f"page {page}", lambda: simulation.sleep(2))
            return source.fetch(recall)

        item = source.item(fetch=page_by_page)
        assert isinstance(process(host).get(item), DeadlineError)
        second = process(host)
        assert (second.get(item), source.asked) == ("v1", 1)
        assert second.waited == pytest.approx(7, abs=0.5)


class TestNoThread:
    """Where the system has no thread to give."""

    class Full:
        def submit(self, _call):
            raise RuntimeError("can't start new thread")

    @pytest.fixture
    def without_threads(self, process):
        alone = process()
        alone.get()
        alone.refresher._workers = self.Full()
        return alone

    @pytest.mark.parametrize("age", [FRESH, STALE], ids=["stale while revalidating", "stale if error"])
    def test_a_stale_entry_is_returned(self, without_threads, simulation, source, caplog, age):
        simulation.pass_(age)
        assert (without_threads.get(), without_threads.waited) == ("v1", 0)
        assert source.asked == 1
        assert ("the thing k cannot be refreshed: can't start new thread" in caplog.text) == (age == FRESH)

    def test_without_one_the_error_says_what_is_missing(self, without_threads, simulation, source):
        simulation.pass_(EXPIRED)
        error = without_threads.get()
        assert isinstance(error, RefreshNotStartedError)
        assert str(error).startswith(
            "the thing k cannot be refreshed: can't start new thread. Raise the limit of threads"
        )
        without_threads.refresher._workers = simulation
        assert (without_threads.get(), source.asked) == ("v2", 2)

    def test_a_store_that_has_to_find_out_who_the_caller_is_goes_unread(self, process, fleet):
        alone = process(Tier(fleet, lambda: "caller", lambda: False))
        alone.refresher._workers = self.Full()
        assert isinstance(alone.get(), RefreshNotStartedError)


class TestUnknownCaller:
    """Who the caller is may have to be found out before a store can be asked."""

    @pytest.fixture
    def known(self):
        return []

    @pytest.fixture
    def asking(self, process, fleet, simulation, known):
        """A process that finds out in 2 s who the caller is; `known` is empty until then."""

        def find_out():
            if not known:
                simulation.sleep(2)
                known.append("caller")
            return known[0]

        return process(Tier(fleet, find_out, lambda: bool(known)))

    def test_it_is_found_out_in_another_thread_and_the_store_is_asked_then(self, process, fleet, asking, source):
        put(process(fleet), "elsewhere")
        fleet.reads = 0
        assert (asking.get(), asking.waited, asking.tier) == ("elsewhere", 2, "fleet")
        assert (fleet.reads, source.asked) == (1, 0)

    def test_one_that_is_known_costs_no_thread(self, process, fleet, asking, known):
        put(process(fleet), "elsewhere")
        known.append("caller")
        asking.refresher._workers = TestNoThread.Full()
        assert (asking.get(), asking.waited) == ("elsewhere", 0)

    def test_a_lookup_in_a_hurry_does_not_find_out(self, process, fleet, asking):
        put(process(fleet), "elsewhere")
        hurry = TooManyWaitingError(8)
        assert (asking.get(hurry=hurry), asking.waited) == (hurry, 0)

    def test_what_is_cached_is_known_without_finding_out(self, process, fleet, asking, source):
        put(process(fleet), "elsewhere")
        assert asking.refresher.cached(source.item()) is None

    def test_one_that_cannot_be_found_out_shares_nothing(self, process, fleet, source):
        alone = process(Tier(fleet, lambda: None, lambda: False))
        assert (alone.get(), source.asked, fleet.groups) == ("v1", 1, {})
        assert alone.get() == "v1"


def messages(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
