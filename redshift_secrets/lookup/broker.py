"""conn_id in, the fields of a Connection out. Follows docs/contract.md, "Looking a conn_id up"."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from redshift_secrets.cache import CacheEntry, Deadline, SharedStore, SharedTiers
from redshift_secrets.errors import (
    AwsError,
    CannotServeError,
    DeadlineError,
    PerDagCredentialsError,
    join_messages,
    known_error,
)
from redshift_secrets.lookup import connection_fields
from redshift_secrets.lookup.catalog import MISS_REFRESH_SECONDS, Catalog, WarehouseLister
from redshift_secrets.lookup.credentials import Credentials, Minter
from redshift_secrets.lookup.metrics import AGE_AT_USE, LOOKUPS, Lookup, Metrics, NoMetrics
from redshift_secrets.lookup.snapshot import Claims, Snapshot
from redshift_secrets.model import ConnectionFields, ConnectionSpec, Credential, MintRequest, TaskContext, Warehouse
from redshift_secrets.settings import Settings
from redshift_secrets.settings.db_user import is_per_dag, render

log = logging.getLogger(__name__)

_MAX_ANSWERS = 10_000


class Aws(WarehouseLister, Minter, Protocol):
    """Everything that lookups need of AWS."""


class _Answer(Struct, frozen=True):
    """What a lookup returned, and until when the next one may return the same: in seconds since the epoch, and on the
    monotonic clock, since the other one may be set back."""

    fields: ConnectionFields | None
    valid_until: float
    minted_at: float | None = None
    valid_until_monotonic: float = 0.0


class CachedConnection(Struct, frozen=True):
    """A connection of the catalog with its credential, if a tier has one."""

    spec: ConnectionSpec
    credential: CacheEntry[Credential] | None


class Broker:
    """Answers lookups for one configuration. Safe among threads, and in the child of a fork.

    `mask` is called with every password, and when it expires, the moment it exists. `airflow_cache_ttl_seconds` is how
    long Airflow may keep an answer, so that a password it gets is valid at least as long. `tiers` are shared with other
    processes; `cache_key` names what is kept there so that only the same caller with the same settings finds it. `clock`
    gives seconds since the epoch, `monotonic` seconds on a clock that never jumps, `rand` numbers from 0 to 1.
    """

    def __init__(
        self,
        settings: Settings,
        aws: Aws,
        *,
        mask: Callable[[str, float], None],
        airflow_cache_ttl_seconds: int = 0,
        tiers: SharedTiers | None = None,
        cache_key: Callable[[object], str] = repr,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._cache_key = cache_key
        self._metrics = metrics or NoMetrics()
        self._clock = clock
        self._monotonic = monotonic
        self._catalog = Catalog(
            settings,
            aws,
            tiers=tiers,
            group=cache_key("catalog"),
            metrics=metrics,
            clock=clock,
            monotonic=monotonic,
            rand=rand,
        )
        self._credentials = Credentials(
            settings.min_validity_seconds,
            aws,
            airflow_cache_ttl_seconds=airflow_cache_ttl_seconds,
            mask=mask,
            tiers=tiers,
            cache_key=cache_key,
            metrics=metrics,
            timeout_seconds=settings.aws_timeout_seconds,
            clock=clock,
            monotonic=monotonic,
            rand=rand,
        )
        self._answers: dict[tuple[str, str | None, TaskContext | None], _Answer] = {}
        self._reported_conflicts: set[tuple[str, str]] = set()
        self._reported_warnings: set[tuple[str, str]] = set()

    def connection(
        self, conn_id: str, team_name: str | None = None, task: TaskContext | None = None
    ) -> ConnectionFields | None:
        """Return the connection, or `None` for what is not managed. `task` is only used where the setting `db_user` names
        a database user for each DAG.

        Raises `CannotServeError` for a managed conn_id that cannot be served now. Ends within `aws_timeout_seconds`.
        """
        if not self._settings.matches(conn_id):
            return None
        asked = (conn_id, team_name, task)
        answer = self._answers.get(asked)
        tier = "process"
        if answer is None or not self._is_valid(answer):
            lookup = Lookup(self.deadline())
            try:
                answer = self._answer(*asked, lookup)
            except CannotServeError:
                self._metrics.incr(LOOKUPS, tags={"outcome": "refused", "tier": lookup.tier})
                raise
            tier = lookup.tier
            left = answer.valid_until - self._clock()
            answer = replace(answer, valid_until_monotonic=self._monotonic() + left)
            # One dictionary operation at a time needs no lock, and leaves nothing half done in the child of a fork.
            if len(self._answers) >= _MAX_ANSWERS:
                self._answers.clear()
            self._answers[asked] = answer
        if not isinstance(self._metrics, NoMetrics):
            self._count(answer, tier)
        return answer.fields

    def is_in_memory(self, conn_id: str, team_name: str | None = None, task: TaskContext | None = None) -> bool:
        """Whether `connection` would answer at this moment from the memory of this process, without any I/O."""
        answer = self._answers.get((conn_id, team_name, task))
        return answer is not None and self._is_valid(answer)

    def now(self) -> float:
        """Return seconds since the epoch, on the clock that decides what is still valid."""
        return self._clock()

    def deadline(self) -> Deadline:
        """Return the end of a lookup that begins now."""
        return Deadline(self._settings.aws_timeout_seconds, self._monotonic)

    def snapshot(self, deadline: Deadline) -> Snapshot:
        """Return everything that is known, for commands that list; raises `RedshiftSecretsError` when nothing is."""
        return self._catalog.snapshot(deadline)

    def specs(self, snapshot: Snapshot, conn_id: str) -> tuple[ConnectionSpec, ...]:
        """Return the spec of every warehouse that claims `conn_id`, whatever team it belongs to."""
        return self._catalog.specs(conn_id, snapshot.claims.get(conn_id, ()))

    def cached(self) -> tuple[CacheEntry[Snapshot] | None, list[CachedConnection]]:
        """Return what the nearest shared tier has: the catalog, and for each connection in it the credential."""
        snapshot = self._catalog.cached()
        if snapshot is None:
            return None, []
        specs = [spec for conn_id in sorted(snapshot.value.claims) for spec in self.specs(snapshot.value, conn_id)]
        return snapshot, [CachedConnection(spec, self._credentials.cached(MintRequest.of(spec))) for spec in specs]

    def flush(self, stores: Sequence[SharedStore], conn_id: str) -> bool:
        """Remove the credentials of one conn_id from the stores; `False` where the nearest tier does not know it.

        Raises `PerDagCredentialsError` where there is one for each DAG: there is no list of those.
        """
        snapshot = self._catalog.cached()
        specs = self.specs(snapshot.value, conn_id) if snapshot else ()
        if any(is_per_dag(spec) for spec in specs):
            raise PerDagCredentialsError(
                f"{conn_id!r} has a credential for each DAG, and there is no list of them: flush without a conn_id"
            )
        for spec in specs:
            for store in stores:
                store.clear(self._cache_key(MintRequest.of(spec)))
        return bool(specs)

    def _is_valid(self, answer: _Answer) -> bool:
        return self._clock() < answer.valid_until and self._monotonic() < answer.valid_until_monotonic

    def _count(self, answer: _Answer, tier: str) -> None:
        outcome = "missed" if answer.fields is None else "found"
        self._metrics.incr(LOOKUPS, tags={"outcome": outcome, "tier": tier})
        if answer.minted_at is not None:
            self._metrics.timing(AGE_AT_USE, timedelta(seconds=self._clock() - answer.minted_at))

    def _answer(self, conn_id: str, team_name: str | None, task: TaskContext | None, lookup: Lookup) -> _Answer:
        claims = self._claims(conn_id, lookup)
        if claims is None:
            return _Answer(None, valid_until=0)
        if not claims.value.warehouses and self._matches_configured_pattern(conn_id):
            claims = self._catalog.refresh_for_miss(claims, lookup)
        known = claims.value
        if not known.warehouses:
            self._refuse_if_unlisted(known)
            until = claims.stale_at
            if self._matches_configured_pattern(conn_id):
                until = min(until, known.meta.taken_at + MISS_REFRESH_SECONDS)
            return _Answer(None, until)
        # A team's connection answers only to that team; to others it is neither missing nor refused.
        found = self._catalog.specs(conn_id, known.warehouses)
        specs = [spec for spec in found if spec.team is None or spec.team == team_name]
        if not specs:
            return _Answer(None, claims.stale_at)
        # One that is being deleted claims nothing beside another one.
        spec = self._only([spec for spec in specs if not spec.warehouse.is_being_deleted] or specs)
        self._report_warnings(spec)
        return self._serve(spec, task or TaskContext(team=team_name), claims.stale_at, lookup)

    def _claims(self, conn_id: str, lookup: Lookup) -> CacheEntry[Claims] | None:
        try:
            return self._catalog.find(conn_id, lookup)
        except Exception as error:
            # Nothing is known at all. What the site's own pattern matches must not be looked for elsewhere; whether
            # anything else is managed is unknown. The failure itself was logged once, where it happened.
            if self._matches_configured_pattern(conn_id):
                raise CannotServeError(
                    f"connection {conn_id!r} matches connections_lookup_pattern and cannot be looked up:"
                    f" {known_error(error)}"
                ) from None
            return None

    def _matches_configured_pattern(self, conn_id: str) -> bool:
        return self._settings.connections_lookup_pattern is not None and self._settings.matches(conn_id)

    def _refuse_if_unlisted(self, claims: Claims) -> None:
        if claims.meta.unlisted_scopes and self._matches_configured_pattern(claims.conn_id):
            raise CannotServeError(
                f"connection {claims.conn_id!r} matches connections_lookup_pattern and was not found in what can be listed,"
                f" but it may be in what cannot: {join_messages(claims.meta.unlisted_scopes)}"
            )

    def _only(self, specs: Sequence[ConnectionSpec]) -> ConnectionSpec:
        if len(specs) == 1:
            return specs[0]
        first, second = specs[0], specs[1]
        names = " and ".join(str(spec.warehouse) for spec in specs)
        decided = self._settings.on_conflict == "oldest" and first.warehouse.created_at < second.warehouse.created_at
        if not decided:
            advice = "or set on_conflict = oldest so that the warehouse created first keeps it"
            if self._settings.on_conflict == "oldest":
                advice = "on_conflict = oldest cannot decide between warehouses that were created at the same moment"
            raise _refusal(first, f"it is claimed by {names}. Remove the tag from all but one, {advice}")
        if (first.conn_id, names) not in self._reported_conflicts:
            self._reported_conflicts.add((first.conn_id, names))
            log.error(
                "connection %r is claimed by %s; on_conflict = oldest gives it to %s",
                first.conn_id,
                names,
                first.warehouse,
            )
        return first

    def _report_warnings(self, spec: ConnectionSpec) -> None:
        """Log what is odd about the tags of a connection that is looked up, once, so that the task's log has it."""
        for warning in spec.warnings:
            if (spec.conn_id, warning) not in self._reported_warnings:
                self._reported_warnings.add((spec.conn_id, warning))
                log.warning("connection %r: %s", spec.conn_id, warning)

    def _serve(self, spec: ConnectionSpec, task: TaskContext, known_until: float, lookup: Lookup) -> _Answer:
        ready = self._ready(spec, lookup)
        if ready is not spec:
            known_until = 0  # the catalog is behind: what AWS was asked for directly is not kept
        address = ready.address
        if address is None:
            raise _refusal(ready, f"{ready.warehouse} has no endpoint {ready.endpoint!r} at this moment")
        ready = _with_db_user(task, ready)
        if ready.auth == "connector":
            return _Answer(connection_fields.for_connector(ready, address, self._settings.profile_name), known_until)
        entry = self._credential(ready, lookup)
        valid_until = entry.expires_at if entry.wait_at is None else entry.wait_at
        fields = connection_fields.with_credential(ready, address, entry.value, valid_until)
        return _Answer(fields, min(known_until, entry.stale_at), entry.value.minted_at)

    def _ready(self, spec: ConnectionSpec, lookup: Lookup) -> ConnectionSpec:
        """Return the spec of a warehouse that accepts logins; raises `CannotServeError` when it does not, or when the tags
        of the spec cannot work. Before it is refused for its state, AWS is asked whether that still holds."""
        if spec.errors:
            raise _refusal(spec, join_messages(spec.errors))
        if spec.warehouse.can_serve:
            return spec
        try:
            spec = self._catalog.describe(spec, lookup)
        except Exception as error:
            raise _refusal(spec, f"{spec.warehouse} was last seen {_state(spec)}, and: {known_error(error)}") from None
        if spec.errors:
            raise _refusal(spec, join_messages(spec.errors))
        if not spec.warehouse.can_serve:
            advice = _advice_on_state(spec.warehouse)
            raise _refusal(spec, f"{spec.warehouse} is {_state(spec)}. {advice}")
        return spec

    def _credential(self, spec: ConnectionSpec, lookup: Lookup) -> CacheEntry[Credential]:
        """Return a valid credential for a spec that mints; raises `CannotServeError`."""
        try:
            return self._credentials.get(MintRequest.of(spec), lookup)
        except DeadlineError as error:
            caller = spec.warehouse.role_arn or self._settings.role_arn or "the caller of this process"
            advice = "Try again; if this lasts, AWS throttles this account or cannot be reached from here"
            raise _refusal(spec, f"{error} Requested as {caller}. {advice}") from None
        except Exception as error:
            if isinstance(error, AwsError) and error.is_gone:
                self._catalog.refresh_behind()  # it was listed, so the catalog is behind
            raise _refusal(spec, str(known_error(error))) from None


def _with_db_user(task: TaskContext, spec: ConnectionSpec) -> ConnectionSpec:
    if not is_per_dag(spec):
        return spec
    try:
        return replace(spec, db_user=render(str(spec.db_user), task))
    except ValueError as error:
        raise _refusal(spec, f"{spec.sources['db_user']} {error}") from None


def _advice_on_state(warehouse: Warehouse) -> str:
    move = "move the tag to another warehouse"
    if warehouse.status.startswith("paus"):
        return f"Resume it, or {move}"
    if warehouse.is_being_deleted:
        return move.capitalize()
    return f"Wait until it is available, or {move}"


def _state(spec: ConnectionSpec) -> str:
    return spec.warehouse.status if spec.warehouse.host is not None else f"{spec.warehouse.status}, without an endpoint"


def _refusal(spec: ConnectionSpec, reason: str) -> CannotServeError:
    return CannotServeError(f"connection {spec.conn_id!r} cannot be served: {reason}")
