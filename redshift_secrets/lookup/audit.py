"""What a site can have written down of its connections: one event at a time, as docs/security.md, "Audit", has it.

Loaded for its types alone: a process whose site has no audit on does not need it.
"""

from __future__ import annotations

from typing import Protocol

from redshift_secrets.errors import CannotServeError
from redshift_secrets.lookup.listing import ClaimChange
from redshift_secrets.model import ConnectionFields, Credential, MintRequest, TaskContext


class Audit(Protocol):
    """Where events go. No method raises, none changes an answer, and none holds a lookup up."""

    def requested_by(self, name: str) -> Audit:
        """Return one whose events say who has asked for what they are about: a user of Airflow, or of the operating system."""

    def minted(self, conn_id: str, request: MintRequest, credential: Credential) -> None:
        """AWS minted a credential, first needed for `conn_id`; connections with an equal request share it."""

    def served(
        self,
        fields: ConnectionFields,
        warehouse_arn: str,
        credential: Credential | None,
        tier: str,
        team_name: str | None,
    ) -> None:
        """A connection was handed out. `credential` is `None` where the driver mints for itself, `tier` the farthest one that
        was asked for it, `team_name` the team that asked, where Airflow says."""

    def refused(self, conn_id: str, error: CannotServeError, team_name: str | None) -> None:
        """A managed conn_id could not be served."""

    def tested(
        self, conn_id: str, task: TaskContext, warehouse_arn: str | None, user: str | None, outcome: str
    ) -> None:
        """Somebody had a connection tested, as for this task. `user` is the one that was logged in, `None` where that failed."""

    def claim_changed(self, change: ClaimChange) -> None:
        """A new listing claims a conn_id for other warehouses than the one before."""

    def flushed(self, conn_id: str | None, lines: tuple[str, ...]) -> None:
        """The tiers that processes share were emptied, of one conn_id or of everything; `lines` say what was done."""
