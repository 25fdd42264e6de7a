"""The fleet tier: one Redis or Valkey for all hosts, through redis-py.

A group is a hash, `<prefix>{<group>}`, of rows that are sealed before they leave this process; the lease on its refresh is
the key beside it, `<prefix>{<group>}:lease`. The braces keep both in one slot of a cluster. The mark of the last flush is
`<prefix>flushed`: its time, sealed like a row, since whoever could invent one would have all hosts forget what they have seen.

The end of a group is stored twice, so that no two clocks have to agree. The server counts down the time that was left by
the writer's clock, which makes the server's own clock irrelevant; and each row carries the moment itself under the seal,
which every reader compares with its own clock. The earlier of both counts. The row also carries the moment of writing: a
reader whose clock is behind that does not use it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from redshift_secrets.cache import get_logger
from redshift_secrets.cache.redis.client import RedisClient
from redshift_secrets.cache.redis.connections import redis_py
from redshift_secrets.cache.redis.errors import describe_error
from redshift_secrets.cache.store import CLOCKS_DIFFER_SECONDS, FreeLease, Lease

if TYPE_CHECKING:
    from redshift_secrets.cache.sealing import Seal
    from redshift_secrets.settings.redis_url import RedisAddress

log = get_logger(__name__)

_TIMES = struct.Struct(">dd")
"""When a row was written, and when it expires."""

_ACQUIRE = """
local left = redis.call('pttl', KEYS[1])
if left == -1 or left > tonumber(ARGV[2]) then
    redis.call('del', KEYS[1])
end
return redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
"""
"""Takes the lease. One without an end, or with a later one than a lease can have, was put there by somebody else."""

_FIELDS_PER_COMMAND = 500
_FLUSH_SECONDS = 60.0
"""The patience of a flush of everything, which goes through all keys of a server that others may use too."""
_FLUSH_MARK_KEPT_SECONDS = 30 * 86400
_FLUSHED, _MARK = "flushed", "mark"
_FLUSHED_AT = struct.Struct(">d")


class _Row(NamedTuple):
    written_at: float
    expires_at: float
    payload: bytes


@dataclass(frozen=True)
class RedisStoreInfo:
    """A description of the store for people. `url` has neither user nor password nor options."""

    url: str
    key_fingerprint: str
    trouble: str | None
    """Why it cannot be reached; `None` when it answers."""
    groups: int | None
    """The number of groups under the prefix, as far as they were found within the patience."""


@dataclass(frozen=True)
class RedisLease:
    """The right to refresh a group, until it is released or expires. In the child of a fork, where it is the parent's, it
    does nothing."""

    _store: RedisStore = field(repr=False)
    _group: str
    _token: bytes = field(repr=False)
    _pid: int = field(default_factory=os.getpid)

    def renew(self) -> None:
        """Make it last as long as a new one, unless it has expired."""
        self._run_script("LUA_REACQUIRE_SCRIPT")

    def release(self) -> None:
        """Let others refresh."""
        self._run_script("LUA_RELEASE_SCRIPT")

    def _run_script(self, name: str) -> None:
        if self._pid == os.getpid():
            self._store._run_script(name, self._group, self._token)


class RedisStore:
    """Rows for all hosts, see `store.SharedStore`. A store that is unavailable costs its patience once per back-off.

    `clock` returns seconds since the epoch; `monotonic` seconds that never jump. A call takes `patience_seconds` in total,
    with all connecting, logging in and redirecting on the way. The time it takes to load redis-py, once in a process, is not
    counted.
    """

    name = "fleet"
    across_hosts = True

    def __init__(
        self,
        address: RedisAddress,
        seal: Seal,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
        prefix: str = "redshift-secrets:",
        patience_seconds: float = 0.25,
        back_off_seconds: float = 30.0,
        lease_seconds: float = 10.0,
    ) -> None:
        self._client = RedisClient(address, monotonic, patience_seconds, back_off_seconds)
        self._seal = seal
        self._clock = clock
        self._prefix = prefix
        self._flush_key = f"{prefix}{_FLUSHED}"
        self._newest_mark: float | None = None
        self._lease_ms = int(lease_seconds * 1000)
        self._logged: set[str] = set()

    def __repr__(self) -> str:
        return f"RedisStore({self._client.shown!r})"

    def read(self, wanted: Mapping[str, Sequence[str]]) -> dict[str, dict[str, bytes]]:
        """See `SharedStore.read`; one pipeline of HMGETs, each of which sees its group as a whole."""
        named = {group: names for group, names in wanted.items() if names}
        nothing: dict[str, dict[str, bytes]] = {}
        found = self._client.run(lambda client: self._hashes(client, named), nothing) if named else nothing
        return {group: self._unexpired(group, found.get(group, {})) for group in wanted}

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

        self._client.run(write, False)

    def try_lock(self, group: str) -> Lease | None:
        """See `SharedStore.try_lock`; a lease that is not released expires."""
        token = secrets.token_hex(16).encode()

        def acquire(client: Any) -> bool:
            return bool(client.eval(_ACQUIRE, 1, self._lease_key(group), token, self._lease_ms))

        acquired = self._client.run(acquire, None)
        if acquired is None:
            return FreeLease()
        return RedisLease(self, group, token) if acquired else None

    def is_taken(self, group: str) -> bool:
        """See `SharedStore`. To ask takes a round trip, in which the entry itself can be read."""
        return False

    def _run_script(self, name: str, group: str, token: bytes) -> None:
        """Run a script of redis-py's Lock, which changes the lease only if it still has this token.

        The Lock itself would keep the parent's client in the child of a fork: its class refers to the first client it was
        given.
        """

        def run(client: Any) -> Any:
            script = getattr(redis_py().lock.Lock, name)
            try:
                return client.eval(script, 1, self._lease_key(group), token, self._lease_ms)
            except redis_py().ResponseError as error:
                if _is_wrong_type(error):
                    return None  # something else wrote the key, so the lease has ended
                raise

        self._client.run(run, None)

    def clear(self, group: str | None = None) -> str | None:
        """See `SharedStore.clear`. Leases remain, whose holders are refreshing, and so does the mark of the last flush."""
        if group is not None:
            key = self._key(group)
            return self._client.why_not(lambda client: client.delete(key))
        return self._client.why_not(
            lambda client: sum(client.delete(key) for key in self._groups(client)), _FLUSH_SECONDS
        )

    def mark_flushed(self) -> str | None:
        """See `SharedStore.mark_flushed`; one GET and one SET. A server without room for it can still remove what it has."""

        def write(client: Any) -> None:
            # At least a second after the last one, which a host with another clock may have made.
            moment = max(self._clock(), (self._read_mark(client) or 0.0) + 1.0)
            mark = self._seal.seal(_FLUSHED, _MARK, _FLUSHED_AT.pack(moment))
            client.set(self._flush_key, mark, ex=_FLUSH_MARK_KEPT_SECONDS)

        return self._client.why_not(write, pauses=False)

    def flush_mark(self) -> str | None:
        """See `SharedStore.flush_mark`; one GET. An older mark than before was put back, and is none."""
        found = self._client.run(self._read_mark, None)
        if found is not None and (self._newest_mark is None or found > self._newest_mark):
            self._newest_mark = found
        return None if self._newest_mark is None else f"{self._newest_mark:017.6f}"

    def describe(self) -> RedisStoreInfo:
        """Describe the store; the server is asked even if it was unavailable a moment ago."""
        found: set[bytes] = set()
        trouble = None
        try:
            self._client.call(lambda client: client.ping())
        except Exception as error:
            trouble = describe_error(error)
        else:
            with contextlib.suppress(Exception):  # what was found within the patience counts
                self._client.call(lambda client: found.update(self._groups(client)))
        return RedisStoreInfo(self._client.shown, self._seal.fingerprint, trouble, None if trouble else len(found))

    # --- rows and keys

    def _key(self, group: str) -> str:
        return f"{self._prefix}{{{group}}}"

    def _lease_key(self, group: str) -> str:
        return f"{self._key(group)}:lease"

    def _groups(self, client: Any) -> Iterator[bytes]:
        """The keys of all groups: only these end with a brace."""
        literally = "".join(f"\\{char}" if char in "*?[]^\\" else char for char in self._prefix)
        yield from client.scan_iter(match=f"{literally}{{*}}", count=1000)

    def _hashes(self, client: Any, named: Mapping[str, Sequence[str]]) -> dict[str, dict[str, bytes]]:
        """The sealed rows of each group. An error of one group is raised only if no other group could be read."""
        pipeline = client.pipeline(transaction=False)
        for group, names in named.items():
            pipeline.hmget(self._key(group), list(names))
        answers = pipeline.execute(raise_on_error=False)
        found: dict[str, dict[str, bytes]] = {}
        errors: list[Exception] = []
        for (group, names), answer in zip(named.items(), answers, strict=True):
            try:
                found[group] = _sealed_rows(names, answer)
            except Exception as error:
                errors.append(error)
        if errors and not found:
            raise errors[0]
        if errors:
            self._warn_once("Redis at %s cannot read some of its keys: %s", describe_error(errors[0]))
        return found

    def _read_mark(self, client: Any) -> float | None:
        """Return when the store was last flushed, in seconds since the epoch; `None` for a mark that is not sealed with one of the
        keys."""
        redis = redis_py()
        try:
            mark = client.get(self._flush_key)
        except redis.ResponseError as error:
            if _is_wrong_type(error):
                return None
            raise
        if not isinstance(mark, bytes | None):
            raise redis.exceptions.InvalidResponse
        opened = None if mark is None else self._seal.open(_FLUSHED, _MARK, mark)
        if opened is None or len(opened) != _FLUSHED_AT.size:
            return None
        moment: float = _FLUSHED_AT.unpack(opened)[0]
        return moment

    def _unexpired(self, group: str, sealed: Mapping[str, bytes]) -> dict[str, bytes]:
        opened = {name: row for name in sealed if (row := self._opened(group, name, sealed[name])) is not None}
        if len(opened) < len(sealed):
            self._warn_once(
                "Redis at %s has rows that the key %s does not open: another host uses another key, or something else wrote"
                " them. These rows are ignored",
                self._seal.fingerprint,
            )
        now = self._clock()
        early = max((row.written_at - now for row in opened.values()), default=0.0)
        if early > CLOCKS_DIFFER_SECONDS:
            self._warn_once(
                "Redis at %s has rows written %.0f s in the future: the clock of this host or of another one is wrong. These"
                " rows are ignored",
                early,
            )
            return {}
        return {name: row.payload for name, row in opened.items() if now < row.expires_at}

    def _opened(self, group: str, name: str, sealed: bytes) -> _Row | None:
        plain = self._seal.open(group, name, sealed)
        if plain is None or len(plain) < _TIMES.size:
            return None
        written_at, expires_at = _TIMES.unpack_from(plain)
        return _Row(written_at, expires_at, plain[_TIMES.size :])

    def _warn_once(self, message: str, *details: object) -> None:
        if message not in self._logged:
            self._logged.add(message)
            log.warning(message, self._client.shown, *details)


def _sealed_rows(names: Sequence[str], answer: Any) -> dict[str, bytes]:
    """The rows in the answer to HMGET. Raises what is wrong with the answer."""
    if isinstance(answer, Exception):
        if _is_wrong_type(answer):
            return {}
        raise answer
    values = answer if isinstance(answer, list) else []
    if len(values) != len(names) or not all(isinstance(value, bytes | None) for value in values):
        raise redis_py().exceptions.InvalidResponse
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


def _is_wrong_type(error: Exception) -> bool:
    """Whether something else wrote the key; the next write replaces it."""
    # Redis before 7 puts the name of a script in front of it.
    return isinstance(error, redis_py().ResponseError) and "WRONGTYPE" in str(error)


def _chunks(rows: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    left = iter(rows.items())
    while some := dict(itertools.islice(left, _FIELDS_PER_COMMAND)):
        yield some
