"""The keeper of what is alive: one credential for each mint request, renewed at half of its life."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Protocol

from redshift_secrets.cache import CacheEntry, Deadline, Group, ProcessCache, Refreshed, Rows, SharedTiers
from redshift_secrets.errors import AwsError
from redshift_secrets.lookup.metrics import MINT_FAILURES, MINTS, Metrics, NoMetrics
from redshift_secrets.lookup.rows import credential_from_bytes, credential_to_bytes
from redshift_secrets.model import Credential, MintRequest

log = logging.getLogger(__name__)

_SPREAD = 0.1
_ROW = "credential"


class Minter(Protocol):
    """What this keeper needs of AWS; `aws.door.AwsClient` is the real one."""

    def mint(self, request: MintRequest) -> Credential:
        """Obtain a new credential."""


class Credentials:
    """Hands out credentials that live at least `min_validity_seconds` more, and `airflow_cache_ttl_seconds` where the asker
    keeps them that long.

    The latter is this process's own: what it keeps in the shared tiers has the ages that every process goes by.
    `on_secret` is told each password the moment it exists, so that logs can be kept clean of it. `clock` gives seconds
    since the epoch, `monotonic` seconds on a clock that never jumps, `rand` numbers from 0 to 1 to spread renewals.
    In the shared tiers a credential is kept under the name that `cache_key` gives its request.
    """

    def __init__(
        self,
        min_validity_seconds: int,
        aws: Minter,
        *,
        airflow_cache_ttl_seconds: int = 0,
        on_secret: Callable[[str], None],
        tiers: SharedTiers | None = None,
        cache_key: Callable[[MintRequest], str] = repr,
        metrics: Metrics | None = None,
        timeout_seconds: float = 10.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._min_validity_seconds = min_validity_seconds
        self._airflow_cache_ttl_seconds = airflow_cache_ttl_seconds
        self._aws = aws
        self._on_secret = on_secret
        self._tiers = tiers if tiers is not None else SharedTiers(clock=clock)
        self._group_of = cache_key
        self._metrics = metrics or NoMetrics()
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._monotonic = monotonic
        self._rand = rand
        self._cache: ProcessCache[MintRequest, Credential] = ProcessCache(_what, clock=clock, monotonic=monotonic)

    def found(self, request: MintRequest, deadline: Deadline) -> tuple[CacheEntry[Credential], str]:
        """Return a living credential, and the tier that had it: `process`, the name of the nearest shared one, or `aws` for
        a renewal. Raises what minting raises when there is none, `DeadlineError` when it is late."""
        group = self._group(request)
        before = self._cache.peek(request)
        recalled: list[CacheEntry[Credential]] = []

        def recall() -> CacheEntry[Credential] | None:
            shared = self._tiers.recall(group, counted=True)
            found = self._here(shared) if shared else None
            if found is None or self._clock() >= found.expires_at:
                return None
            recalled.append(found)
            return found

        aged = self._cache.aged(request, lambda: self._renew(request, group), deadline, recall)
        if before is not None and aged.value is before.value:
            return aged, "process"
        return aged, self._tiers.stores[0].name if aged in recalled else "aws"

    def recalled(self, request: MintRequest) -> CacheEntry[Credential] | None:
        """Return what the nearest shared tier has, without asking AWS."""
        return self._tiers.recall(self._group(request))

    def _renew(self, request: MintRequest, group: Group[Credential]) -> CacheEntry[Credential]:
        """Take what another process minted, or mint for all of them."""
        served = self._cache.peek(request)

        def good(aged: CacheEntry[Credential]) -> bool:
            here = self._here(aged)
            return self._clock() < (here.expires_at if served is None else here.stale_at)

        obtained = self._tiers.get_or_refresh(
            group,
            lambda: self._mint(request),
            good=good,
            meanwhile=served,
            deadline=Deadline(self._timeout_seconds, self._monotonic),
        )
        return self._here(obtained)

    def _mint(self, request: MintRequest) -> Refreshed[Credential]:
        try:
            credential = self._aws.mint(request)
        except AwsError as error:
            self._metrics.incr(MINT_FAILURES, tags={"code": error.code})
            raise
        self._metrics.incr(MINTS)
        self._on_secret(credential.password)
        log.info(
            "minted a credential for %s on %s, good for %d s", credential.user, request.arn, self._life(credential)
        )
        return Refreshed(self._aged(credential), lambda: {_ROW: credential_to_bytes(credential)})

    def _group(self, request: MintRequest) -> Group[Credential]:
        return Group(self._group_of(request), _what(request), (_ROW,), self._decode, lambda: (_ROW,))

    def _decode(self, rows: Rows) -> Credential | None:
        credential = credential_from_bytes(rows[_ROW]) if _ROW in rows else None
        if credential is not None:
            self._on_secret(credential.password)  # new to this process, whoever minted it
        return credential

    def _life(self, credential: Credential) -> float:
        return credential.expires_at - credential.minted_at

    def _aged(self, credential: Credential) -> CacheEntry[Credential]:
        half = self._life(credential) / 2
        expires_at = self._entry_expires_at(credential, self._min_validity_seconds)
        stale_at = credential.minted_at + half * (1 - _SPREAD * self._rand())
        return CacheEntry(credential, stale_at=min(stale_at, expires_at), expires_at=expires_at)

    def _here(self, aged: CacheEntry[Credential]) -> CacheEntry[Credential]:
        """Return the ages that hold in this process, whose asker may keep an answer longer than others' do."""
        expires_at = min(aged.expires_at, self._entry_expires_at(aged.value, self._airflow_cache_ttl_seconds))
        return CacheEntry(aged.value, stale_at=min(aged.stale_at, expires_at), expires_at=expires_at)

    def _entry_expires_at(self, credential: Credential, validity_seconds: int) -> float:
        expires_at = credential.expires_at - validity_seconds
        if expires_at > credential.minted_at:
            return expires_at
        # Airflow's own cache may ask for more validity than a short-lived credential ever has. Half of its life is
        # usable then, otherwise each lookup would be a mint.
        return credential.minted_at + self._life(credential) / 2


def _what(request: MintRequest) -> str:
    who = f"user {request.db_user}" if request.db_user else f"auth {request.auth}"
    return f"the credential of {who} on {request.kind} {request.identifier} ({request.account}, {request.region})"
