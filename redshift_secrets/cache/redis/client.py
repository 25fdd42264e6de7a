"""Asking the fleet's server: bounded in time, quiet while it is away, whole in the child of a fork."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from redshift_secrets.cache import forks
from redshift_secrets.cache.redis.address import Connections, RedisAddress, redis_py
from redshift_secrets.cache.redis.errors import RedisTimeoutError, describe_error
from redshift_secrets.cache.single_flight import BackgroundCall

log = logging.getLogger(__name__)

T = TypeVar("T")

_LOOKS = 10
"""How often a call looks whether its patience is at an end."""


class RedisClient:
    """One Redis or Valkey (server, Sentinel or cluster) at `address`, asked by all threads of this process.

    `monotonic` returns seconds that never jump. A call takes `patience_seconds` at most; after one that failed, nothing
    is asked for `back_off_seconds`.
    """

    def __init__(
        self,
        address: RedisAddress,
        monotonic: Callable[[], float],
        patience_seconds: float,
        back_off_seconds: float,
    ) -> None:
        self.shown = address.shown
        self._address = address
        self._monotonic = monotonic
        self._patience = patience_seconds
        self._back_off = back_off_seconds
        self._lock = threading.Lock()
        self._client: Any = None
        self._connections = Connections()
        self._away = False
        self._ask_again_at = 0.0
        forks.reset_in_child(self)

    def reset_after_fork(self) -> None:
        """Called in the child: the connections are the parent's. That the server is away stays known."""
        self._lock = threading.Lock()
        # Nothing else holds the connections, so this closes the child's copies of the sockets and says no word on them.
        self._hang_up()

    def ask(self, work: Callable[[Any], T], otherwise: T, patience_seconds: float | None = None) -> T:
        """Return what `work` returns when given redis-py's client, or `otherwise` when there is no answer. Never raises."""
        if not self._may_ask():
            return otherwise
        try:
            value = self.call(work, patience_seconds)
        except Exception as error:
            self._gone(error)
            return otherwise
        self._answered()
        return value

    def call(self, work: Callable[[Any], T], patience_seconds: float | None = None) -> T:
        """The same without a memory of what went wrong: raises it, `RedisTimeoutError` when it takes too long.

        The work is done in a thread, which is left behind when it takes too long: no timeout of sockets bounds a call
        as a whole, with the look-up of the name, TLS, the login and every node on the way.

        Time in which that thread waits for a processor is not counted, where the system tells: on a machine that is as
        busy as when hundreds of tasks start together it is we who are slow and not the server, and taking it for away
        would send everyone to AWS at the worst moment.
        """
        redis_py()  # loaded before the count begins: it takes as long as many a call
        patience = patience_seconds or self._patience
        done = threading.Event()
        workers: list[int] = []

        def fly() -> T:
            workers.append(threading.get_native_id())
            return work(self._connected())

        flight = BackgroundCall("fleet tier", fly, lambda _landed: done.set())
        begun = time.monotonic()
        flight.start()
        while not done.wait(patience / _LOOKS):
            if time.monotonic() - begun - sum(map(_queued_seconds, workers)) >= patience:
                self._hang_up().cut()
                raise RedisTimeoutError(patience)
        if flight.error is not None:
            self._hang_up()  # other threads may still get their answers
            raise flight.error
        return flight.value  # type: ignore[return-value]  # set whenever there is no error

    def _may_ask(self) -> bool:
        with self._lock:
            if not self._away:
                return True
            now = self._monotonic()
            if now < self._ask_again_at:
                return False
            # This call finds out for everyone; the others go on without an answer meanwhile.
            self._ask_again_at = now + self._back_off
            return True

    def _gone(self, error: Exception) -> None:
        with self._lock:
            known, self._away = self._away, True
            self._ask_again_at = self._monotonic() + self._back_off
        if not known:
            log.warning(
                "fleet tier %s is away: %s. Lookups go on without it; it is asked again in %g s",
                self.shown,
                describe_error(error),
                self._back_off,
            )

    def _answered(self) -> None:
        with self._lock:
            was_away, self._away = self._away, False
        if was_away:
            log.info("fleet tier %s is back", self.shown)

    def _connected(self) -> Any:
        with self._lock:
            client, connections = self._client, self._connections
        if client is None:
            client = self._address.connect(self._wait_seconds(), connections)
            with self._lock:
                if self._connections is connections:
                    self._client = client = self._client or client
        return client

    def _wait_seconds(self) -> float:
        """The timeout of a single wait. With several hosts, one that is silent must leave time to ask the next; with
        one, it only has to end some time: `call` decides what is too long."""
        hosts = len(self._address.hosts)
        return self._patience / hosts if hosts > 1 else self._patience * 4

    def _hang_up(self) -> Connections:
        """Begin anew with the next call, and return the connections until now."""
        with self._lock:
            connections = self._connections
            self._client = None
            self._connections = Connections()
        return connections


def _queued_seconds(thread_id: int) -> float:
    """How long a thread of this process was ready to run and did not get a processor; 0 where Linux does not tell.

    https://docs.kernel.org/scheduler/sched-stats.html#proc-pid-schedstat
    """
    try:
        with open(f"/proc/self/task/{thread_id}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
