"""The site behind the page: the backend that this API server has, and what its connections were a moment ago."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

from redshift_secrets.airflow.configuration import configured_backends
from redshift_secrets.airflow.web import allowed
from redshift_secrets.backend import RedshiftSecretsBackend
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.lookup.inventory import Snapshot
from redshift_secrets.model import ConnectionSpec, TaskContext
from redshift_secrets.operations import caches
from redshift_secrets.operations.connect import Attempt, Step, connect
from redshift_secrets.operations.inspect import CredentialView
from redshift_secrets.operations.overview import Claim, Overview, credentials, make_claim, overview, without_hidden
from redshift_secrets.operations.site import site_audit, site_broker
from redshift_secrets.server_side import ServerSideBackend
from redshift_secrets.settings import Settings

_RIGHTS_KEPT_SECONDS = 5.0
"""How long it is remembered which connections a user may read, for whoever types and scrolls."""


class NotConfiguredError(Exception):
    """The configuration of this API server names no backend that resolves connections."""


class Site:
    """What the routes ask for. Its methods wait for stores and AWS, so they are called in threads."""

    def __init__(
        self,
        backends: Callable[[], Iterable[Any]] = configured_backends,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load_backends = backends
        self._monotonic = monotonic
        self._kept: tuple[Snapshot, Overview] | None = None
        self._building = threading.Lock()
        self._readable: dict[object, tuple[Overview, float, Sequence[Claim]]] = {}

    @cached_property
    def _backends(self) -> list[Any]:
        return list(self._load_backends())

    @cached_property
    def _backend(self) -> RedshiftSecretsBackend:
        for backend in self._backends:
            if isinstance(backend, RedshiftSecretsBackend):
                return backend
        raise NotConfiguredError

    @property
    def settings(self) -> Settings:
        """The settings of the backend. Raises `NotConfiguredError`."""
        return self._backend.settings

    @property
    def where_tested(self) -> str:
        """Where a test connects from, and whether that is also where tasks' connections are resolved."""
        here = f"Tested from this API server, {socket.gethostname()}"
        if any(isinstance(backend, ServerSideBackend) for backend in self._backends):
            return f"{here}, which resolves connections for the workers. Workers connect from their own network."
        return f"{here}. Workers resolve this connection themselves, with their own AWS credentials, and connect from their own network."

    def overview(self, *, refresh: bool = False) -> Overview:
        """Return all connections as lookups in this process know them, with `refresh` as AWS lists them now. Raises
        `NotConfiguredError`, `RedshiftSecretsError`."""
        broker, kept = self._broker(), self._kept
        last = kept[0] if kept is not None else None
        snapshot = broker.inventory.snapshot(since=broker.now() if refresh else float("-inf"), last=last)
        with self._building:  # whoever comes meanwhile gets that one: there may be 10,000
            if self._kept is None or not self._kept[0].is_made_of(snapshot.listings):
                self._kept = snapshot, overview(self.settings, broker, snapshot)
            return self._kept[1]

    def claim(self, conn_id: str, warehouse: str) -> Claim | None:
        """Return the claim of a conn_id by the warehouse with this ARN. Raises as `overview`."""
        found = (each for each in self.overview().claims if (each.conn_id, each.row.arn) == (conn_id, warehouse))
        return next(found, None)

    def readable(self, user: Any, of: Overview) -> Sequence[Claim]:
        """Return the claims that a user may read, asking the auth manager about each again after a while."""
        now, user_id = self._monotonic(), user.get_id()
        known = self._readable.get(user_id)
        if known is None or known[0] is not of or now >= known[1]:
            kept = {each: rights for each, rights in self._readable.items() if rights[0] is of and now < rights[1]}
            readable = without_hidden(allowed(user, "GET", of.claims), of.claims, self._rebuilt)
            known = of, now + _RIGHTS_KEPT_SECONDS, readable
            self._readable = {**kept, user_id: known}
        return known[2]

    def _rebuilt(self, claim: Claim, specs: Sequence[ConnectionSpec]) -> Claim:
        """The claim as it is among these alone."""
        if self._kept is None:
            return claim
        return make_claim(self.settings, self._broker(), claim.spec, specs, self._kept[0])

    def credentials(self, claims: Sequence[Claim]) -> list[CredentialView | None]:
        """Return for each claim the credential that some tier has."""
        return credentials(self._broker(), claims)

    def test(self, user: Any, claim: Claim, dag_id: str | None, on_step: Callable[[Step], None]) -> Attempt | None:
        """Connect as a task would, with a listing and a credential of its own, at the request of a user. Raises
        `RedshiftSecretsError`."""
        task = TaskContext(dag_id, claim.spec.team)
        # A client for each test would hold up every other route of this server while it reads the models of AWS's services.
        name = user.get_name()
        broker = site_broker(self.settings, aws=self._broker().aws, requested_by=name)
        return connect(broker, claim.spec.conn_id, task, on_step, site_audit(self.settings, name))

    def flush(self, user: Any, conn_id: str | None) -> caches.Flushed:
        """Empty the tiers that processes share, or remove one conn_id, and have this process forget what it remembers, at the
        request of a user."""
        flushed = caches.flush(self.settings, conn_id, requested_by=user.get_name())
        self._backend.forget()
        return flushed

    def _broker(self) -> Broker:
        return self._backend.current_broker()
