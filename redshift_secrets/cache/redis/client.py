"""Calls to one Redis or Valkey: bounded in time, paused after a failure, safe in the child of a fork."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from redshift_secrets.cache import forks, get_logger
from redshift_secrets.cache.redis.connections import Connections, connect, redis_py
from redshift_secrets.cache.redis.errors import RedisTimeoutError, describe_error
from redshift_secrets.cache.redis.threads import CallThreads

if TYPE_CHECKING:
    from redshift_secrets.settings.redis_url import RedisAddress

log = get_logger(__name__)

T = TypeVar("T")

_CHECKS_PER_CALL = 10
"""How often a call checks whether its patience is used up."""

_threads = CallThreads()


class RedisClient:
    """One Redis or Valkey (server, Sentinel or cluster) at `address`, used by all threads of this process.

    `monotonic` returns seconds that never jump. A call takes `patience_seconds` at most; after one that failed, the next
    attempt is made `back_off_seconds` later.
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
        self._unavailable = False
        self._trouble = ""
        self._retry_at = 0.0
        forks.reset_in_child(self)

    def reset_after_fork(self) -> None:
        """Called in the child: the connections belong to the parent. A server that is unavailable remains so."""
        self._lock = threading.Lock()
        # Nothing else refers to the connections, so this closes the child's copies of the sockets and sends nothing on them.
        self._drop_connections()

    def run(self, command: Callable[[Any], T], default: T, patience_seconds: float | None = None) -> T:
        """Return what `command` returns when given redis-py's client, or `default` when it fails. Never raises."""
        if not self._may_try():
            return default
        try:
            value = self.call(command, patience_seconds)
        except Exception as error:
            self._record_failure(error)
            return default
        self._record_success()
        return value

    def why_not(
        self, command: Callable[[Any], object], patience_seconds: float | None = None, *, pauses: bool = True
    ) -> str | None:
        """Run a command. Return why that failed, or why it is not tried now; `None` where it was done. Where it fails and `pauses` is
        false, other commands are tried all the same."""
        if not self._may_try():
            return self._trouble
        try:
            self.call(command, patience_seconds)
        except Exception as error:
            if pauses:
                self._record_failure(error)
            return describe_error(error)
        self._record_success()
        return None

    def call(self, command: Callable[[Any], T], patience_seconds: float | None = None) -> T:
        """Return what `command` returns or raise what it raises, `RedisTimeoutError` when it takes too long. Neither pauses
        after a failure nor remembers one.

        The command runs in another thread, which is left behind when it takes too long: no socket timeout bounds a call as
        a whole, with name resolution, TLS, login and every node on the way.

        Time in which that thread waits for a processor is not counted, where the system reports it: on a machine as busy as
        when hundreds of tasks start together, this process is slow and not the server, and to take the server for
        unavailable would send everyone to AWS at the worst moment.
        """
        redis_py()  # loaded before the time starts: that takes as long as many calls
        patience = patience_seconds or self._patience
        started = self._monotonic()
        running = _threads.start(lambda: command(self._connected()))
        while not running.done.wait(patience / _CHECKS_PER_CALL):
            if self._monotonic() - started - running.queued_seconds() >= patience:
                self._drop_connections().interrupt()
                raise RedisTimeoutError(patience)
        if running.error is not None:
            self._drop_connections()  # without interrupting them: other threads may still get their answers
            raise running.error
        return running.value  # type: ignore[return-value]  # set whenever there is no error

    def _may_try(self) -> bool:
        with self._lock:
            if not self._unavailable:
                return True
            now = self._monotonic()
            if now < self._retry_at:
                return False
            # This call finds out for all threads; the others continue with their defaults meanwhile.
            self._retry_at = now + self._back_off
            return True

    def _record_failure(self, error: Exception) -> None:
        with self._lock:
            known, self._unavailable = self._unavailable, True
            self._retry_at = self._monotonic() + self._back_off
            self._trouble = describe_error(error)
        if not known:
            log.warning(
                "Redis at %s is unavailable: %s. Lookups continue without it; next attempt in %g s",
                self.shown,
                self._trouble,
                self._back_off,
            )

    def _record_success(self) -> None:
        with self._lock:
            was_unavailable, self._unavailable = self._unavailable, False
        if was_unavailable:
            log.info("Redis at %s is available again", self.shown)

    def _connected(self) -> Any:
        with self._lock:
            client, connections = self._client, self._connections
        if client is None:
            client = connect(self._address, self._socket_timeout(), connections)
            with self._lock:
                if self._connections is connections:
                    self._client = client = self._client or client
        return client

    def _socket_timeout(self) -> float:
        """The timeout of a single wait. With several hosts, a silent one must leave time to ask the next; with one host it
        only has to end eventually, since `call` decides what is too long."""
        hosts = len(self._address.hosts)
        return self._patience / hosts if hosts > 1 else self._patience * 4

    def _drop_connections(self) -> Connections:
        """Have the next call connect again, and return the connections until now."""
        with self._lock:
            connections = self._connections
            self._client = None
            self._connections = Connections()
        return connections
