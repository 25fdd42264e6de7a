"""The keeper of what is alive: one credential for each mint request, renewed at half of its life."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Protocol

from redshift_secrets.cache import Aged, AgedCache, Deadline
from redshift_secrets.model import Credential, MintRequest

log = logging.getLogger(__name__)

_SPREAD = 0.1


class Minter(Protocol):
    """What this keeper needs of AWS; `aws.door.Aws` is the real one."""

    def mint(self, request: MintRequest) -> Credential:
        """Obtain a new credential."""


class Credentials:
    """Hands out credentials that live at least `min_validity_seconds` more.

    `on_secret` is told each password the moment it exists, so that logs can be kept clean of it. `clock` gives seconds
    since the epoch, `rand` numbers from 0 to 1 to spread renewals.
    """

    def __init__(
        self,
        min_validity_seconds: int,
        aws: Minter,
        *,
        on_secret: Callable[[str], None],
        clock: Callable[[], float] = time.time,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._min_validity_seconds = min_validity_seconds
        self._aws = aws
        self._on_secret = on_secret
        self._clock = clock
        self._rand = rand
        self._cache: AgedCache[MintRequest, Credential] = AgedCache(_what, clock=clock)

    def get(self, request: MintRequest, deadline: Deadline) -> Credential:
        """Return a living credential; raises what minting raises when there is none, `DeadlineError` when it is late."""
        return self._cache.get(request, lambda: self._mint(request), deadline)

    def _mint(self, request: MintRequest) -> Aged[Credential]:
        credential = self._aws.mint(request)
        self._on_secret(credential.password)
        log.info(
            "minted a credential for %s on %s, good for %d s", credential.user, request.arn, self._life(credential)
        )
        return self._aged(credential)

    def _life(self, credential: Credential) -> float:
        return credential.expires_at - credential.minted_at

    def _aged(self, credential: Credential) -> Aged[Credential]:
        half = self._life(credential) / 2
        usable_until = credential.expires_at - self._min_validity_seconds
        if usable_until <= credential.minted_at:
            # Airflow's own cache may ask for more validity than a short-lived credential ever has. Half of its life is
            # usable then, otherwise each lookup would be a mint.
            usable_until = credential.minted_at + half
        fresh_until = credential.minted_at + half * (1 - _SPREAD * self._rand())
        return Aged(credential, fresh_until=min(fresh_until, usable_until), usable_until=usable_until)


def _what(request: MintRequest) -> str:
    who = f"user {request.db_user}" if request.db_user else f"auth {request.auth}"
    return f"the credential of {who} on {request.kind} {request.identifier} ({request.account}, {request.region})"
