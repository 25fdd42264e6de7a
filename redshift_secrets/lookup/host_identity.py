"""The identity that AWS knows processes of this host by.

Where it comes from a metadata service, neither variables nor files show which one it is, and it changes when the instance
profile is exchanged; and in the fleet, it is all that tells callers apart. So STS is asked, by one process of the host for all
of them.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from contextlib import suppress

from redshift_secrets.cache.entry import Entry, Failure, Item
from redshift_secrets.cache.recall import Recall
from redshift_secrets.cache.store import Rows
from redshift_secrets.cache.tiers import Tier, Tiers
from redshift_secrets.cache.workers import Deadline, Workers
from redshift_secrets.errors import AwsError, CallerChangedError

_RETRY_SECONDS = 5.0
"""How long this process does not ask again where another one is asking, or has been for too long."""
_ROW = "arn"


class HostIdentity:
    """The identity, kept in the host store, and in this process, for at most `kept_seconds` after STS was asked. From half of
    that on, whoever needs it has STS asked again behind its back, so that nobody waits for STS on a host in use.

    `tier` is the host store for processes with the same variables and files. `ask` returns what STS answers, for
    credentials that the metadata service gives now where they come from there, `None` where it does not answer. `expect` is
    called with what another process found out or this one, and may raise `CallerChangedError`. `timeout_seconds` is how long
    an answer is waited for.
    """

    def __init__(
        self,
        tier: Tier,
        ask: Callable[[], str | None],
        expect: Callable[[str], None],
        timeout_seconds: float,
        kept_seconds: float,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._tier = tier
        self._tiers = Tiers((tier,), timeout_seconds, clock, monotonic, sleep, rand)
        self._ask = ask
        self._expect = expect
        self._clock = clock
        self._monotonic = monotonic
        self._deadline = functools.partial(Deadline, timeout_seconds, monotonic)
        self._kept_seconds = kept_seconds
        self._workers = Workers(1)
        self._known: tuple[str | None, float] = (None, float("-inf"))
        self._item = Item(
            "identity", lambda: "the AWS identity of this host", self._fetch, _encode, _decode, (_ROW,), (_ROW,)
        )

    def knows_identity(self) -> bool:
        """Whether `sts_identity` returns at once."""
        return self._monotonic() < self._known[1]

    def sts_identity(self) -> str | None:
        """Return the ARN, the same for all sessions of a role; `None` where STS does not answer. Raises what `expect` raises."""
        if not self.knows_identity():
            found = self._tiers.read([self._item], self._tier).get(self._item.name)
            answer = found or self._tiers.refresh(self._item, None, float("-inf"), self._deadline())[0]
            if isinstance(answer, Entry):
                self._expect(answer.value)
                now = self._clock()
                if now >= answer.stale_at:
                    self._ask_behind()
                self._keep(answer.value, min(max(answer.stale_at - now, _RETRY_SECONDS), answer.expires_at - now))
            else:
                self._keep(None, answer.retry_at - self._clock() if isinstance(answer, Failure) else _RETRY_SECONDS)
        return self._known[0]

    def forget(self) -> None:
        """Have this host ask again: a call was made as another identity."""
        place = self._tier.place(self._item.name)
        if place is not None:
            self._tier.store.clear(place)

    def _keep(self, identity: str | None, seconds: float) -> None:
        self._known = identity, self._monotonic() + min(seconds, self._kept_seconds)

    def _ask_behind(self) -> None:
        with suppress(RuntimeError):  # there is no thread, and still time
            self._workers.submit(self._refresh)

    def _refresh(self) -> None:
        with suppress(CallerChangedError):  # the next call of this process says so
            self._tiers.refresh(self._item, None, float("-inf"), None)

    def _fetch(self, _recall: Recall) -> Entry[str]:
        now = self._clock()
        identity = self._ask()
        if identity is None:
            raise AwsError(
                "sts:GetCallerIdentity", "this account", "the default AWS identity of this process", "NotConfirmed",
                "STS does not confirm the identity.", "Let this host reach STS.", host_only=True,
            )  # fmt: skip
        until = now + self._kept_seconds
        return Entry(identity, now, now + self._kept_seconds / 2, until, until)


def _encode(identity: str) -> Rows:
    return {_ROW: identity.encode()}


def _decode(rows: Rows) -> str | None:
    return rows[_ROW].decode() if _ROW in rows else None
