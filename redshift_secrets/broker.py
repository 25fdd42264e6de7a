"""conn_id in, the fields of a Connection out. Reads like section 4 of the design."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from redshift_secrets import connections
from redshift_secrets.cache import Deadline
from redshift_secrets.catalog import Catalog, Lister, Snapshot
from redshift_secrets.credentials import Credentials, Minter
from redshift_secrets.errors import CannotServeError, DeadlineError, RedshiftSecretsError
from redshift_secrets.model import ConnectionFields, ConnectionSpec, Credential, MintRequest
from redshift_secrets.settings import Settings

log = logging.getLogger(__name__)


class AwsDoor(Lister, Minter, Protocol):
    """Everything the two keepers need of AWS."""


class Broker:
    """Answers lookups for one configuration. Safe among threads, and in the child of a fork.

    `on_secret` is told every password the moment it exists. `answers_kept_seconds` is how long the asker may keep an
    answer, so that a password it is given lives at least as long. `clock` gives seconds since the epoch, `monotonic` seconds
    on a clock that never jumps, `rand` numbers from 0 to 1.
    """

    def __init__(
        self,
        settings: Settings,
        aws: AwsDoor,
        *,
        on_secret: Callable[[str], None],
        answers_kept_seconds: int = 0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._catalog = Catalog(settings, aws, clock=clock, monotonic=monotonic, rand=rand)
        min_validity = max(settings.min_validity_seconds, answers_kept_seconds)
        self._credentials = Credentials(min_validity, aws, on_secret=on_secret, clock=clock, rand=rand)
        self._reported_conflicts: set[tuple[str, str]] = set()
        self._reported_warnings: set[tuple[str, str]] = set()

    def connection(self, conn_id: str, team_name: str | None = None) -> ConnectionFields | None:
        """Return the connection, or `None` for what is not ours.

        Raises `CannotServeError` for what is ours and cannot be served now. Ends within `aws_timeout_seconds`.
        """
        if not self._settings.matches(conn_id):
            return None
        deadline = self.deadline()
        snapshot = self._snapshot(conn_id, deadline)
        if snapshot is None:
            return None
        claims = self.specs(snapshot, conn_id)
        if not claims and self._must_be_ours(conn_id):
            snapshot = self._catalog.renewed_for_miss(snapshot, deadline)
            claims = self.specs(snapshot, conn_id)
        if not claims:
            self._refuse_if_unseen(snapshot, conn_id)
        # A team's connection answers only to that team; to others it is neither missing nor refused.
        specs = [spec for spec in claims if spec.team is None or spec.team == team_name]
        if not specs:
            return None
        spec = self._only(specs)
        self._report_warnings(spec)
        return self.serve(spec, deadline)

    def deadline(self) -> Deadline:
        """The end of a lookup that begins now."""
        return Deadline(self._settings.aws_timeout_seconds, self._monotonic)

    def snapshot(self, deadline: Deadline) -> Snapshot:
        """Return everything that is known, for those who list; raises `RedshiftSecretsError` when nothing is."""
        return self._catalog.snapshot(deadline)

    def specs(self, snapshot: Snapshot, conn_id: str) -> tuple[ConnectionSpec, ...]:
        """Return the spec of every warehouse that claims `conn_id`, whatever team it belongs to."""
        return self._catalog.specs(snapshot, conn_id)

    def serve(self, spec: ConnectionSpec, deadline: Deadline) -> ConnectionFields:
        """Return the connection of a spec; raises `CannotServeError`."""
        spec = self.ready(spec, deadline)
        address = spec.address
        if address is None:
            raise _refusal(spec, f"{spec.warehouse} has no endpoint {spec.endpoint!r} at this moment")
        if spec.auth == "connector":
            return connections.for_connector(spec, address, self._settings.profile_name)
        return connections.with_credential(spec, address, self.credential(spec, deadline))

    def ready(self, spec: ConnectionSpec, deadline: Deadline) -> ConnectionSpec:
        """Return the spec of a warehouse that takes logins; raises `CannotServeError` when it does not, or when the
        tags of the spec cannot work. Before it is refused for its state, AWS is asked whether that still holds."""
        if spec.errors:
            raise _refusal(spec, "; ".join(spec.errors))
        if spec.warehouse.can_serve:
            return spec
        try:
            spec = self._catalog.look(spec, deadline)
        except Exception as error:
            raise _refusal(spec, f"{spec.warehouse} was last seen {_state(spec)}, and: {_known(error)}") from None
        if spec.errors:
            raise _refusal(spec, "; ".join(spec.errors))
        if not spec.warehouse.can_serve:
            advice = "Resume it" if spec.warehouse.status.startswith("paus") else "Wait until it is available"
            raise _refusal(spec, f"{spec.warehouse} is {_state(spec)}. {advice}, or move the tag to another warehouse")
        return spec

    def credential(self, spec: ConnectionSpec, deadline: Deadline) -> Credential:
        """Return a living credential for a spec that mints; raises `CannotServeError`."""
        try:
            return self._credentials.get(MintRequest.of(spec), deadline)
        except DeadlineError as error:
            role = spec.warehouse.role_arn or self._settings.role_arn
            advice = "Try again; if this lasts, AWS throttles this account or cannot be reached from here"
            raise _refusal(spec, f"{error}, as {role or 'the identity Airflow runs as'}. {advice}") from None
        except Exception as error:
            raise _refusal(spec, _known(error)) from None

    def _snapshot(self, conn_id: str, deadline: Deadline) -> Snapshot | None:
        try:
            return self._catalog.snapshot(deadline)
        except Exception as error:
            # Nothing is known at all. What the site's own pattern calls ours must not be looked for elsewhere; of
            # anything else we cannot say that it is. The failure itself was logged once, where it happened.
            if self._must_be_ours(conn_id):
                raise CannotServeError(
                    f"connection {conn_id!r} matches connections_lookup_pattern and cannot be looked up: {_known(error)}"
                ) from None
            return None

    def _must_be_ours(self, conn_id: str) -> bool:
        return self._settings.connections_lookup_pattern is not None and self._settings.matches(conn_id)

    def _refuse_if_unseen(self, snapshot: Snapshot, conn_id: str) -> None:
        if snapshot.unseen and self._must_be_ours(conn_id):
            reasons = "; ".join(f"{listing.scope}: {listing.error}" for listing in snapshot.unseen)
            raise CannotServeError(
                f"connection {conn_id!r} matches connections_lookup_pattern and was not found in what can be listed, but"
                f" it may be in what cannot: {reasons}"
            )

    def _report_warnings(self, spec: ConnectionSpec) -> None:
        """Log what is odd about the tags of a connection that is asked for, once, so that the task's log has it."""
        for warning in spec.warnings:
            if (spec.conn_id, warning) not in self._reported_warnings:
                self._reported_warnings.add((spec.conn_id, warning))
                log.warning("connection %r: %s", spec.conn_id, warning)

    def _only(self, specs: Sequence[ConnectionSpec]) -> ConnectionSpec:
        if len(specs) == 1:
            return specs[0]
        first, second = specs[0], specs[1]
        names = " and ".join(str(spec.warehouse) for spec in specs)
        decided = self._settings.on_conflict == "oldest" and first.warehouse.created_at < second.warehouse.created_at
        if not decided:
            advice = "or set on_conflict = oldest to let the warehouse that was created first keep it"
            if self._settings.on_conflict == "oldest":
                advice = "on_conflict = oldest cannot decide between warehouses that were created at the same moment"
            raise _refusal(first, f"it is claimed by {names}. Take the tag off all but one, {advice}")
        if (first.conn_id, names) not in self._reported_conflicts:
            self._reported_conflicts.add((first.conn_id, names))
            log.error(
                "connection %r is claimed by %s; on_conflict = oldest gives it to %s",
                first.conn_id,
                names,
                first.warehouse,
            )
        return first


def _state(spec: ConnectionSpec) -> str:
    return spec.warehouse.status if spec.warehouse.host is not None else f"{spec.warehouse.status}, without an endpoint"


def _known(error: Exception) -> str:
    # Whatever goes wrong, Airflow must not go on to an old password. The text of an error that is not ours may hold
    # anything, so only its kind is told.
    if isinstance(error, RedshiftSecretsError):
        return str(error)
    return f"an unexpected {type(error).__name__}. This is a fault of redshift-secrets or its set-up, please report it"


def _refusal(spec: ConnectionSpec, reason: str) -> CannotServeError:
    return CannotServeError(f"connection {spec.conn_id!r} cannot be served: {reason}")
