"""Lookups from an event loop, which other things share: neither its thread nor its default executor waits for AWS."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from redshift_secrets.cache import event_loop
from redshift_secrets.cache.event_loop import look_up
from redshift_secrets.cache.workers import Deadline, MustWait, Run
from tests.support.helpers import BOUND, all_refreshes_done, package_threads, past_deadline


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    all_refreshes_done()


def waiting_for(run):
    """Return an attempt that has to wait until `run` has ended, and returns its value then."""

    def attempt():
        if not run.done:
            raise MustWait([(run, Deadline(BOUND))])
        return run.value

    return attempt


def test_it_returns_what_the_attempt_returns():
    assert asyncio.run(look_up(lambda: 3)) == 3


@pytest.mark.parametrize("error", [KeyError("k"), SystemExit(3)], ids=["exception", "exit"])
def test_it_raises_what_the_attempt_raises(error):
    async def main():
        try:
            await look_up(fail)
        except BaseException as raised:
            return raised

    def fail():
        raise error

    assert asyncio.run(main()) is error


def test_an_attempt_runs_in_another_thread():
    assert asyncio.run(look_up(threading.get_ident)) != threading.get_ident()


def test_an_attempt_has_the_context_of_the_call():
    team = contextvars.ContextVar("team")
    team.set("finance")
    assert asyncio.run(look_up(team.get)) == "finance"


def test_many_lookups_wait_at_once_and_the_loop_goes_on():
    async def main():
        run = Run(lambda: "found")
        lookups = [asyncio.ensure_future(look_up(waiting_for(run))) for _ in range(500)]
        while len(run._callbacks) < 500:  # until all of them wait
            await asyncio.sleep(0)
        waiting = len(package_threads())
        run()
        return waiting, set(await asyncio.gather(*lookups)), asyncio.get_running_loop()._default_executor

    threads, found, executor = asyncio.run(main())
    assert threads <= 4
    assert (found, executor) == ({"found"}, None)


def test_slow_attempts_take_no_more_than_four_threads():
    begun, go_on = threading.Semaphore(0), threading.Event()

    def slow():
        begun.release()
        assert go_on.wait(BOUND)

    async def main():
        lookups = [asyncio.ensure_future(look_up(slow)) for _ in range(10)]
        for _ in range(4):
            while not begun.acquire(blocking=False):
                await asyncio.sleep(0)
        threads = len(package_threads())
        go_on.set()
        await asyncio.gather(*lookups)
        return threads

    assert asyncio.run(main()) == 4


def test_at_its_deadline_a_lookup_is_tried_for_the_last_time():
    attempts = []

    def attempt():
        attempts.append(1)
        if len(attempts) == 1:
            raise MustWait([(Run(lambda: None), past_deadline())])
        return "late"

    assert (asyncio.run(look_up(attempt)), len(attempts)) == ("late", 2)


def test_it_waits_for_all_that_it_has_to_wait_for():
    runs = [Run(lambda: None), Run(lambda: None)]

    def attempt():
        if not all(run.done for run in runs):
            raise MustWait([(run, Deadline(BOUND)) for run in runs])
        return "found"

    async def main():
        lookup = asyncio.ensure_future(look_up(attempt))
        for run in runs:
            while not run._callbacks:
                await asyncio.sleep(0)
            run()
        return await lookup

    assert asyncio.run(main()) == "found"


def test_a_refresh_that_ends_after_the_loop_was_closed_disturbs_nothing():
    run = Run(lambda: "found")

    async def main():
        lookup = asyncio.ensure_future(look_up(waiting_for(run)))
        while not run._callbacks:
            await asyncio.sleep(0)
        lookup.cancel()

    asyncio.run(main())
    run()
    assert run.value == "found"


def test_where_no_thread_can_be_had_the_attempt_runs_in_the_loop(monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    async def main():
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            return await look_up(threading.get_ident)

    assert asyncio.run(main()) == threading.get_ident()
    assert event_loop._workers._threads == 0
