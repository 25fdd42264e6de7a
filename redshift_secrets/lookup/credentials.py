"""Credentials: one for each mint request, refreshed at half of its validity. Follows docs/contract.md, "Ages"."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable
from typing import Protocol

from msgspec.structs import asdict

from redshift_secrets.cache import CacheEntry, Deadline, Group, ProcessCache, Refreshed, Rows, SharedTiers
from redshift_secrets.errors import AwsError, DeadlineError
from redshift_secrets.lookup.metrics import MINT_FAILURES, MINTS, Lookup, Metrics, NoMetrics
from redshift_secrets.model import Credential, MintRequest

log = logging.getLogger(__name__)

_SPREAD = 0.1
_LAST_SECONDS = 60.0
"""Validity that a credential must have left even where AWS cannot be asked for another one."""
_ROW = "credential"


class Minter(Protocol):
    """What credentials need of AWS; `aws.client.AwsClient` implements it."""

    def mint(self, request: MintRequest) -> Credential:
        """Return a new credential."""


class Credentials:
    """Returns credentials that are valid for at least `min_validity_seconds`, and for `airflow_cache_ttl_seconds` where
    Airflow keeps an answer that long.

    The latter is this process's own: what it puts into the shared tiers has the deadlines that every process goes by.
    `mask` is called with each password, and when it expires, the moment it exists, so that logs never show it. `clock`
    gives seconds since the epoch, `monotonic` seconds on a clock that never jumps, `rand` numbers from 0 to 1 to spread
    refreshes. In the shared tiers a credential is kept under the key that `cache_key` gives its request.
    """

    def __init__(
        self,
        min_validity_seconds: int,
        aws: Minter,
        *,
        airflow_cache_ttl_seconds: int = 0,
        mask: Callable[[str, float], None],
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
        self._mask = mask
        self._tiers = tiers if tiers is not None else SharedTiers(clock=clock)
        self._cache_key = cache_key
        self._metrics = metrics or NoMetrics()
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._monotonic = monotonic
        self._rand = rand
        self._cache: ProcessCache[MintRequest, Credential] = ProcessCache(_describe, clock=clock, monotonic=monotonic)

    def get(self, request: MintRequest, lookup: Lookup) -> CacheEntry[Credential]:
        """Return a valid credential. Raises what minting raises when there is none, `DeadlineError` when it is late."""
        group = self._group(request)

        def look_in_store() -> CacheEntry[Credential] | None:
            shared = self._tiers.get(group)
            found = self._for_this_process(shared) if shared else None
            if found is None or self._clock() >= found.expires_at:
                return None
            lookup.reached(self._tiers.stores[0].name)
            return found

        try:
            return self._cache.get(
                request, lambda: self._refresh(request, group), lookup.deadline, lookup.waits, look_in_store
            )
        except DeadlineError as error:
            self._tiers.report_time_out(group, error)
            raise

    def cached(self, request: MintRequest) -> CacheEntry[Credential] | None:
        """Return what the nearest shared tier has, without asking AWS."""
        return self._tiers.get(self._group(request))

    def _refresh(self, request: MintRequest, group: Group[Credential]) -> CacheEntry[Credential]:
        """Take what another process minted, or mint for all of them."""
        served = self._cache.peek(request)
        waits = self._must_wait(served)

        def accept(entry: CacheEntry[Credential]) -> bool:
            here = self._for_this_process(entry)
            return not self._must_wait(here) if waits else self._clock() < here.stale_at

        return self._for_this_process(
            self._tiers.get_or_refresh(
                group,
                lambda: self._mint(request),
                accept=accept,
                stale_value=None if waits else served,
                deadline=Deadline(self._timeout_seconds, self._monotonic),
            )
        )

    def _mint(self, request: MintRequest) -> Refreshed[Credential]:
        try:
            credential = self._aws.mint(request)
        except AwsError as error:
            self._metrics.incr(MINT_FAILURES, tags={"code": error.code})
            raise
        self._metrics.incr(MINTS)
        self._mask_password(credential, request)
        log.info(
            "minted a credential for %s on %s, valid for %d s", credential.user, request.arn, _validity(credential)
        )
        return Refreshed(self._entry(credential), lambda: {_ROW: credential_to_bytes(credential)})

    def _group(self, request: MintRequest) -> Group[Credential]:
        def decode(rows: Rows) -> Credential | None:
            credential = credential_from_bytes(rows[_ROW]) if _ROW in rows else None
            if credential is not None:
                self._mask_password(credential, request)  # new to this process, whichever one minted it
            return credential

        return Group(self._cache_key(request), _describe(request), (_ROW,), decode, lambda: (_ROW,))

    def _mask_password(self, credential: Credential, request: MintRequest) -> None:
        # An admin password has no end of its own: it is only read again after a while.
        self._mask(credential.password, float("inf") if request.auth == "secret" else credential.expires_at)

    def _entry(self, credential: Credential) -> CacheEntry[Credential]:
        half = _validity(credential) / 2
        wait_at = self._usable_until(credential, self._min_validity_seconds)
        stale_at = credential.minted_at + half * (1 - _SPREAD * self._rand())
        expires_at = max(wait_at, credential.expires_at - _LAST_SECONDS)
        return CacheEntry(credential, min(stale_at, wait_at), expires_at, wait_at)

    def _for_this_process(self, entry: CacheEntry[Credential]) -> CacheEntry[Credential]:
        """Return the entry with the deadlines that hold in this process, whose Airflow may keep an answer longer."""
        expires_at = min(entry.expires_at, self._usable_until(entry.value, self._airflow_cache_ttl_seconds))
        wait_at = expires_at if entry.wait_at is None else min(entry.wait_at, expires_at)
        return CacheEntry(entry.value, min(entry.stale_at, wait_at), expires_at, wait_at)

    def _usable_until(self, credential: Credential, min_validity_seconds: int) -> float:
        usable_until = credential.expires_at - min_validity_seconds
        if usable_until > credential.minted_at:
            return usable_until
        # Airflow's own cache may ask for more validity than a short-lived credential ever has. Half of its validity is
        # used then, otherwise each lookup would be a mint.
        return credential.minted_at + _validity(credential) / 2

    def _must_wait(self, entry: CacheEntry[Credential] | None) -> bool:
        return entry is None or (entry.wait_at is not None and self._clock() >= entry.wait_at)


def credential_to_bytes(credential: Credential) -> bytes:
    """Encode a credential as JSON. It holds the password: for sealing, not for anything else."""
    return json.dumps(asdict(credential)).encode()


def credential_from_bytes(content: bytes) -> Credential | None:
    """Decode what `credential_to_bytes` encoded; `None` for anything else."""
    try:
        return Credential(**json.loads(content))
    except (TypeError, ValueError):
        return None


def _validity(credential: Credential) -> float:
    return credential.expires_at - credential.minted_at


def _describe(request: MintRequest) -> str:
    user = f"user {request.db_user}" if request.db_user else f"auth {request.auth}"
    return f"the credential of {user} on {request.kind} {request.identifier} ({request.account}, {request.region})"
