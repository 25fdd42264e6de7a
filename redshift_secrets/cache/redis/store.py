"""The fleet tier: one Redis or Valkey for all hosts, through redis-py.

A group is a hash, `<prefix>{<group>}`, of rows that were sealed before they leave this process; the right to renew it is
the key beside it, `<prefix>{<group>}:claim`. The braces keep both in one slot of a cluster.

The end of a group is kept twice, so that no clock has to agree with another. The server counts down the time that was
left by the clock of the writer, which takes the server's own idea of the time out of it; and each row carries the moment
itself under the seal, which every reader holds against its own clock. The earlier of both counts. With it goes the moment
of writing: what seems to come from the future is left to those whose clock agrees.
"""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from redshift_secrets.cache import hits
from redshift_secrets.cache.hits import Hits
from redshift_secrets.cache.redis.address import RedisAddress, redis_py
from redshift_secrets.cache.redis.client import RedisClient
from redshift_secrets.cache.redis.errors import describe_error
from redshift_secrets.cache.store import CLOCKS_DIFFER_SECONDS

if TYPE_CHECKING:
    from redshift_secrets.cache.sealing import Seal

log = logging.getLogger(__name__)

T = TypeVar("T")

_TIMES = struct.Struct(">dd")
"""When a row was written, and its end."""

_FIELDS_A_COMMAND = 500
_SINCE, _MISSED = "since", "missed"
_HITS_SECONDS = 30 * 86_400
"""How long counts stay on the server after the last lookup."""
_SWEEP_SECONDS = 60.0
"""How long a flush of everything may go through the keys of a server that others use too."""


class _Row(NamedTuple):
    written_at: float
    expires_at: float
    payload: bytes


@dataclass(frozen=True)
class RedisStoreInfo:
    """What there is to say about the store, for people. `url` has neither user nor password nor options."""

    url: str
    key_fingerprint: str
    trouble: str | None
    """Why it cannot be reached; `None` when it answers."""
    groups: int | None
    """Groups under the prefix that were found within the patience."""
    groups_complete: bool
    memory_bytes: int | None
    """Memory in use by the server as a whole, where it tells."""


@dataclass(frozen=True)
class RedisLease:
    """The right to renew a group until its lease runs out. Without a token nobody was asked, and there is nothing to free."""

    _store: RedisStore = field(repr=False)
    _group: str
    _token: bytes = field(default=b"", repr=False)
    _pid: int = field(default_factory=os.getpid)

    def release(self) -> None:
        """Let others renew; does nothing in the child of a fork, where the right is the parent's."""
        if self._token and self._pid == os.getpid():
            self._store._release(self._group, self._token)


class RedisStore:
    """Rows for all hosts, see `store.SharedStore`. A store that is away costs its patience once for each back-off.

    `url` as in `RedisAddress`. `clock` returns seconds since the epoch; `monotonic` seconds that never jump. A call waits
    `patience_seconds` in total, whatever there is to connect, to log in or to ask on the way. The time it takes to load
    redis-py, once in a process, is not counted.
    """

    name = "fleet"
    ready = True

    def __init__(
        self,
        url: str,
        seal: Seal,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
        prefix: str = "redshift-secrets:",
        patience_seconds: float = 0.25,
        back_off_seconds: float = 30.0,
        lease_seconds: float = 10.0,
    ) -> None:
        """Raises `ValueError` for a URL that cannot be; it does not repeat the URL."""
        address = RedisAddress.of(url)
        self._server = RedisClient(address, monotonic, patience_seconds, back_off_seconds)
        self._seal = seal
        self._clock = clock
        self._prefix = prefix
        self._lease = lease_seconds
        self._told: set[str] = set()

    @staticmethod
    def check_url(url: str) -> None:
        """Raise `ValueError`, which does not repeat the URL, for one that cannot be; nothing is loaded or opened."""
        RedisAddress.of(url)

    def __repr__(self) -> str:
        return f"RedisStore({self._server.shown!r})"

    def read(self, group: str, names: Sequence[str]) -> dict[str, bytes]:
        """See `SharedStore.read`; one HMGET."""
        if not names:
            return {}
        nothing: list[bytes | None] = [None] * len(names)
        found = self._server.ask(lambda client: _hash_values(client, self._key(group), names), nothing)
        sealed = {name: row for name, row in zip(names, found, strict=True) if row is not None}
        opened = {name: row for name in sealed if (row := self._opened(group, name, sealed[name])) is not None}
        if len(opened) < len(sealed):
            self._tell_of_foreign_rows()
        now = self._clock()
        early = max((row.written_at - now for row in opened.values()), default=0.0)
        if early > CLOCKS_DIFFER_SECONDS:
            self._tell_of_clocks(early)
            return {}
        return {name: row.payload for name, row in opened.items() if now < row.expires_at}

    def replace(self, group: str, rows: Mapping[str, bytes], expires_at: float) -> None:
        """See `SharedStore.replace`; one MULTI, which readers see as a whole or not at all."""
        now = self._clock()
        times = _TIMES.pack(now, expires_at)
        sealed = {name: self._seal.seal(group, name, times + payload) for name, payload in rows.items()}
        left_ms = int((expires_at - now) * 1000)

        def write(client: Any) -> bool:
            pipeline = client.pipeline(transaction=True)
            pipeline.delete(self._key(group))
            if left_ms > 0 and sealed:
                for some in _chunks(sealed):
                    pipeline.hset(self._key(group), mapping=some)
                pipeline.pexpire(self._key(group), left_ms)
            pipeline.execute()
            return True

        self._server.ask(write, False)

    def claim(self, group: str) -> RedisLease | None:
        """See `SharedStore.claim`; it ends with the lease where it is not released."""
        token = secrets.token_hex(16).encode()

        def acquire(client: Any) -> bool:
            return bool(client.set(self._claim_key(group), token, nx=True, px=int(self._lease * 1000)))

        mine = self._server.ask(acquire, None)
        if mine is None:
            return RedisLease(self, group)
        return RedisLease(self, group, token) if mine else None

    def _release(self, group: str, token: bytes) -> None:
        def release(client: Any) -> Any:
            # The script deletes the key only if it still has our token. redis-py's Lock itself would keep a client of
            # the parent alive in the child of a fork: it holds the first one it saw in its class.
            return client.eval(redis_py().lock.Lock.LUA_RELEASE_SCRIPT, 1, self._claim_key(group), token)

        self._server.ask(release, None)

    def clear(self, group: str | None = None) -> None:
        """See `SharedStore.clear`. Claims are left alone: who has one is renewing."""
        if group is not None:
            key = self._key(group)
            self._server.ask(lambda client: client.delete(key), 0)
        else:
            self._server.ask(lambda client: sum(client.delete(key) for key in self._groups(client)), 0, _SWEEP_SECONDS)
            self._server.ask(lambda client: client.delete(self._hits_key), 0)

    def count(self, group: str, found: bool) -> None:
        """See `SharedStore.count`; one round trip. Where the server's access rules forbid it, nothing is counted."""
        field = hits.key(group).hex() if found else _MISSED

        def add(client: Any) -> None:
            pipeline = client.pipeline(transaction=False)
            pipeline.hsetnx(self._hits_key, _SINCE, int(self._clock()))
            pipeline.hincrby(self._hits_key, field, 1)
            pipeline.expire(self._hits_key, _HITS_SECONDS)
            try:
                pipeline.execute()
            except redis_py().ResponseError:
                pass

        self._server.ask(add, None)

    def hits(self) -> Hits:
        """See `SharedStore.hits`."""
        nothing: dict[bytes, bytes] = {}
        try:
            found = self._server.ask(lambda client: client.hgetall(self._hits_key), nothing)
            counts = {name.decode(): int(count) for name, count in found.items()}
            since, missed = counts.pop(_SINCE, None), counts.pop(_MISSED, 0)
            return Hits(since, missed, {bytes.fromhex(name): count for name, count in counts.items()})
        except ValueError:
            return Hits()  # somebody else's

    def describe(self) -> RedisStoreInfo:
        """Return what there is to say about the store; it is asked even when it was away a moment ago."""
        try:
            self._server.call(lambda client: client.ping())
        except Exception as error:
            return RedisStoreInfo(self._server.shown, self._seal.fingerprint, describe_error(error), None, False, None)
        found: set[bytes] = set()

        def look(client: Any) -> bool:
            found.update(self._groups(client))
            return True

        complete = self._quietly(look)
        memory = self._quietly(lambda client: int(client.info("memory")["used_memory"]))
        return RedisStoreInfo(self._server.shown, self._seal.fingerprint, None, len(found), complete is True, memory)

    def _quietly(self, work: Callable[[Any], T]) -> T | None:
        try:
            return self._server.call(work)
        except Exception:
            return None

    # --- rows and keys

    def _key(self, group: str) -> str:
        return f"{self._prefix}{{{group}}}"

    @property
    def _hits_key(self) -> str:
        return f"{self._prefix}hits"

    def _claim_key(self, group: str) -> str:
        return f"{self._key(group)}:claim"

    def _groups(self, client: Any) -> Iterator[bytes]:
        """The keys of all groups. Only they end with a brace, claims do not."""
        literally = "".join(f"\\{char}" if char in "*?[]^\\" else char for char in self._prefix)
        yield from client.scan_iter(match=f"{literally}{{*}}", count=1000)

    def _opened(self, group: str, name: str, sealed: bytes) -> _Row | None:
        plain = self._seal.open(group, name, sealed)
        if plain is None or len(plain) < _TIMES.size:
            return None
        written_at, expires_at = _TIMES.unpack_from(plain)
        return _Row(written_at, expires_at, plain[_TIMES.size :])

    def _tell_of_clocks(self, seconds: float) -> None:
        if "clocks" not in self._told:
            self._told.add("clocks")
            log.warning(
                "fleet tier %s has rows that were written %.0f s from now: the clock of this host or of another one is "
                "wrong. They are not used",
                self._server.shown,
                seconds,
            )

    def _tell_of_foreign_rows(self) -> None:
        if "foreign rows" not in self._told:
            self._told.add("foreign rows")
            log.warning(
                "fleet tier %s has rows that the key %s does not open: another host seals with another key, or "
                "somebody else wrote them. They are not used",
                self._server.shown,
                self._seal.fingerprint,
            )


def _hash_values(client: Any, key: str, names: Sequence[str]) -> list[bytes | None]:
    redis = redis_py()
    try:
        values: list[bytes | None] = client.hmget(key, list(names))
    except redis.ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            return [None] * len(names)  # somebody else's key in our place; the next `replace` puts it right
        raise
    if len(values) != len(names) or not all(isinstance(value, bytes) for value in values if value is not None):
        raise redis.exceptions.InvalidResponse
    return values


def _chunks(rows: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    left = iter(rows.items())
    while some := dict(itertools.islice(left, _FIELDS_A_COMMAND)):
        yield some
