"""Credentials: one for each mint request, refreshed at half of its validity. Follows docs/contract.md, "Ages"."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from msgspec import MsgspecError, msgpack
from msgspec.structs import astuple, replace

from redshift_secrets.cache import get_logger
from redshift_secrets.cache.entry import Entry, Item
from redshift_secrets.cache.refresh import Refresher
from redshift_secrets.cache.store import Rows
from redshift_secrets.cache.workers import Lookup
from redshift_secrets.errors import AwsError, one_line
from redshift_secrets.lookup.metrics import MINT_FAILURES, MINTS, Metrics
from redshift_secrets.lookup.reasons import unanswered
from redshift_secrets.model import Credential, MintRequest, Scope, WarehouseKind, reveal
from redshift_secrets.settings import Settings

if TYPE_CHECKING:
    from redshift_secrets.cache.recall import Recall
    from redshift_secrets.lookup.audit import Audit

log = get_logger(__name__)

_SPREAD = 0.1
_LAST_SECONDS = 60.0
"""Validity that a credential must have left even where AWS cannot be asked for another one."""
_WAIT_AFTER = 3
"""After so many times `catalog_ttl_seconds` a lookup waits until an admin secret was read again, which may be rotated."""
_ROW = "credential"


class Minter(Protocol):
    """What credentials need of AWS; `aws.client.AwsClient` implements it."""

    def mint(self, request: MintRequest) -> Credential:
        """Return a new credential."""

    def unanswered(self, kind: WarehouseKind, region: str) -> Sequence[str]:
        """Return the endpoints that were asked about warehouses of a kind in a region and have not answered yet."""


class Credentials:
    """Returns credentials that are valid for at least `min_validity_seconds`, and for `airflow_cache_ttl_seconds` where
    Airflow keeps an answer that long.

    The latter is this process's own: what it puts into the shared tiers has the ages that every process goes by. `mask` is
    called with each password, and when it expires, the moment it exists, so that logs never show it.
    """

    def __init__(
        self,
        settings: Settings,
        aws: Minter,
        refresher: Refresher,
        metrics: Metrics,
        mask: Callable[[str, float], None],
        airflow_cache_ttl_seconds: int,
        audit: Audit | None = None,
    ) -> None:
        self._settings = settings
        self._aws = aws
        self._refresher = refresher
        self._metrics = metrics
        self._mask = mask
        self._airflow_cache_ttl_seconds = airflow_cache_ttl_seconds
        self._audit = audit

    def get(self, request: MintRequest, conn_id: str, lookup: Lookup) -> Entry[Credential]:
        """Return a valid credential, which `conn_id` is looked up for. Raises what minting raises when there is none,
        `DeadlineError` when it is late, and `MustWait` where the lookup has to wait."""
        return self._refresher.get_one(self._item(request, conn_id), lookup)

    def failing_since(self, request: MintRequest) -> float:
        """Return since when minting has failed each time, in seconds since the epoch; now where it has not."""
        return self._refresher.failing_since(name_of(request))

    def locate(self, requests: Sequence[MintRequest]) -> list[tuple[str, Entry[Credential]] | None]:
        """Return for each request the nearest tier that has its credential, and that without its password, without asking AWS."""
        found = self._refresher.locate([replace(self._item(each), decode=_without_password) for each in requests])
        return [
            (at[0], replace(at[1], value=replace(at[1].value, password=""))) if at is not None else None
            for at in map(found.get, map(name_of, requests))
        ]

    def _item(self, request: MintRequest, conn_id: str = "") -> Item[Credential]:
        def decode(rows: Rows) -> Credential | None:
            credential = _from_rows(rows)
            if credential is not None:
                self._mask_password(credential, request)  # new to this process, whichever one minted it
            return credential

        fetch = functools.partial(self._mint, request, conn_id)
        return Item(
            name_of(request),
            functools.partial(_describe, request),
            fetch,
            _to_rows,
            decode,
            (_ROW,),
            (_ROW,),
            self._here,
            unanswered=functools.partial(self._unanswered, request),
        )

    def _unanswered(self, request: MintRequest) -> str:
        scope = Scope(request.kind, request.region, request.role_arn)
        return unanswered(self._aws.unanswered(request.kind, request.region), scope, self._settings)

    def _mint(self, request: MintRequest, conn_id: str, _recall: Recall) -> Entry[Credential]:
        try:
            credential = self._aws.mint(request)
        except AwsError as error:
            self._metrics.incr(MINT_FAILURES, tags={"code": error.code})
            raise
        self._metrics.incr(MINTS)
        self._mask_password(credential, request)
        if self._audit is not None:
            with suppress(Exception):
                self._audit.minted(conn_id, request, credential)
        log.info(
            "minted a credential for %s on %s, valid for %d s",
            one_line(credential.user),
            request.arn,
            _validity(credential),
        )
        return self._aged(credential, request)

    def _mask_password(self, credential: Credential, request: MintRequest) -> None:
        # An admin password has no end of its own: it is only read again after a while.
        self._mask(credential.password, float("inf") if request.auth == "secret" else credential.expires_at)

    def _aged(self, credential: Credential, request: MintRequest) -> Entry[Credential]:
        made_at, spread = credential.minted_at, 1 - _SPREAD * self._refresher.rand()
        wait_at = self._usable_until(credential, self._settings.min_validity_seconds)
        stale_at = made_at + _validity(credential) / 2 * spread
        expires_at = max(wait_at, credential.expires_at - _LAST_SECONDS)
        if request.auth == "secret":
            # It may be rotated at any moment, so it is as old as the tags may be, no older.
            stale_at = min(stale_at, made_at + self._settings.catalog_ttl_seconds * spread)
            wait_at = min(wait_at, made_at + _WAIT_AFTER * self._settings.catalog_ttl_seconds)
        return Entry(credential, made_at, min(stale_at, wait_at), wait_at, expires_at)

    def _here(self, entry: Entry[Credential]) -> Entry[Credential]:
        """Return the entry with the ages that hold in this process, whose Airflow may keep an answer longer."""
        expires_at = min(entry.expires_at, self._usable_until(entry.value, self._airflow_cache_ttl_seconds))
        wait_at = min(entry.wait_at, expires_at)
        return Entry(entry.value, entry.made_at, min(entry.stale_at, wait_at), wait_at, expires_at)

    def _usable_until(self, credential: Credential, min_validity_seconds: int) -> float:
        usable_until = credential.expires_at - min_validity_seconds
        if usable_until > credential.minted_at:
            return usable_until
        # Airflow's own cache may ask for more validity than a short-lived credential ever has. Half of its validity is
        # used then, otherwise each lookup would be a mint.
        return credential.minted_at + _validity(credential) / 2


def name_of(request: MintRequest) -> str:
    """Return the name under which the credential of a request is cached."""
    return f"credential {json.dumps(astuple(request))}"


def _from_rows(rows: Rows) -> Credential | None:
    try:
        return Credential(**msgpack.decode(rows[_ROW]))
    except (KeyError, MsgspecError, TypeError):
        return None


def _without_password(rows: Rows) -> Credential | None:
    credential = _from_rows(rows)
    return replace(credential, password="") if credential is not None else None


def _to_rows(credential: Credential) -> Rows:
    # It holds the password: for sealing, not for anything else.
    return {_ROW: msgpack.encode(credential, enc_hook=reveal)}


def _validity(credential: Credential) -> float:
    return credential.expires_at - credential.minted_at


def _describe(request: MintRequest) -> str:
    user = f"user {request.db_user}" if request.db_user else f"auth {request.auth}"
    return one_line(
        f"the credential of {user} on {request.kind} {request.identifier} ({request.account}, {request.region})"
    )
