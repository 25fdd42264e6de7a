"""The backend in an event loop, as Airflow's triggers and its API server call it."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from unittest import mock

import pytest

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.airflow.refusals import RefusedConnection
from redshift_secrets.cache import event_loop
from redshift_secrets.cache.workers import Deadline
from tests.support.airflow_parts import Refusal, used
from tests.support.fakes import Clock, cluster, denied
from tests.support.helpers import BOUND
from tests.unit.test_backend import (  # noqa: F401  # a fixture
    AWKWARD,
    CLUSTERS,
    AwsClient,
    attempts_in_the_loop,
    backend_of,
    clean_maskers,
)


class LoopTime:
    """A manual clock, on which lookups in an event loop have their deadlines and wait."""

    def __init__(self, monkeypatch):
        self.clock, self.waiting, self._passed = Clock(0), 0, asyncio.Event()
        monkeypatch.setattr(
            "redshift_secrets.backend.Deadline", lambda seconds: Deadline(seconds, monotonic=self.clock)
        )
        monkeypatch.setattr(event_loop, "asyncio", SimpleNamespace(**{**vars(asyncio), "wait_for": self._wait_for}))

    async def _wait_for(self, awaitable, seconds):
        end, task = self.clock() + seconds, asyncio.ensure_future(awaitable)
        self.waiting += 1
        try:
            while not task.done() and self.clock() < end:
                passed = asyncio.ensure_future(self._passed.wait())
                await asyncio.wait({task, passed}, return_when=asyncio.FIRST_COMPLETED)
                passed.cancel()
        finally:
            self.waiting -= 1
            task.cancel()
        if not task.done():
            raise asyncio.TimeoutError

    async def pass_when(self, waiting, seconds):
        """Let so many seconds pass when so many lookups wait."""
        end = time.monotonic() + BOUND
        while self.waiting < waiting:
            assert time.monotonic() < end, f"{self.waiting} lookups wait"
            await asyncio.sleep(0)
        self.clock.pass_(seconds)
        self._passed.set()
        self._passed = asyncio.Event()


class TestInAnEventLoop:
    @pytest.fixture
    def asked_in(self, monkeypatch):
        """Whether each attempt of a lookup ran in the event loop."""
        return attempts_in_the_loop(monkeypatch, RedshiftSecretsBackend)

    @pytest.fixture
    def loop_time(self, monkeypatch):
        return LoopTime(monkeypatch)

    def test_a_lookup_that_needs_io_runs_off_the_loop_and_one_from_memory_in_it(self, asked_in):
        backend = backend_of(AwsClient())
        assert asyncio.run(backend.aget_connection("analytics")).password == AWKWARD
        assert set(asked_in) == {False}
        asked_in.clear()
        assert asyncio.run(backend.aget_connection("analytics")).password == AWKWARD
        assert asked_in == [True]

    def test_the_loop_continues_while_aws_is_slow(self):
        aws = AwsClient()
        aws.hold = threading.Event()

        async def look_up_and_go_on():
            lookup = asyncio.create_task(backend_of(aws).aget_connection("analytics"))
            while not aws.entered.is_set():
                await asyncio.sleep(0)
            aws.hold.set()  # by the loop: were it blocked, this would never come
            return await lookup

        assert asyncio.run(look_up_and_go_on()).login == "IAM:etl"

    def test_a_conn_id_that_the_pattern_rules_out_costs_no_thread(self, asked_in):
        backend = backend_of(AwsClient(), connections_lookup_pattern="^rs_")
        assert asyncio.run(backend.aget_connection("analytics")) is None
        assert asked_in == [True]

    def test_a_refusal_is_the_same(self):
        aws = AwsClient()
        aws.mint_error = denied()
        with pytest.raises(Refusal, match="cannot be served"):
            used(asyncio.run(backend_of(aws).aget_connection("analytics")))

    def test_sixty_at_once_wait_for_silent_mints_without_threads_and_end_in_time(self, loop_time):
        names = [f"c{number}" for number in range(60)]
        aws = AwsClient(*(cluster(name, {"airflow:conn-id": name}) for name in names))
        backend = backend_of(aws)
        backend.get_connection("nobody")  # lists
        aws.hold = threading.Event()

        async def crowd():
            # What everything else in the process needs threads for shares the executor of the loop.
            asyncio.get_running_loop().run_in_executor = mock.Mock(side_effect=AssertionError)
            lookups = [asyncio.create_task(backend.aget_connection(name)) for name in names]
            await loop_time.pass_when(60, seconds=9.9)
            await loop_time.pass_when(60, seconds=0.1)
            return await asyncio.gather(*lookups, return_exceptions=True)

        try:
            outcomes = asyncio.run(asyncio.wait_for(crowd(), BOUND))
        finally:
            aws.hold.set()
        assert len(outcomes) == 60
        assert all(isinstance(outcome, (Refusal, RefusedConnection)) for outcome in outcomes)

    def test_the_time_counts_from_the_call_whatever_is_waited_for(self, loop_time):
        aws, minting, mints = AwsClient(), threading.Event(), threading.Event()
        aws.hold, aws.held_scopes = threading.Event(), {CLUSTERS}
        aws.mint = lambda _request: minting.set() or mints.wait(BOUND)
        backend = backend_of(aws, regions=["eu-west-1"], warehouses=["clusters"])

        async def look_up():
            lookup = asyncio.create_task(backend.aget_connection("analytics"))
            await loop_time.pass_when(1, seconds=9)
            aws.hold.set()
            while not minting.is_set():
                await asyncio.sleep(0)
            await loop_time.pass_when(1, seconds=1)
            return await lookup

        try:
            with pytest.raises(Refusal, match="Timed out after 10 s"):
                used(asyncio.run(asyncio.wait_for(look_up(), BOUND)))
        finally:
            mints.set()
