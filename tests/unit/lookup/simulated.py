"""Brokers and AWS in simulated time: silence of AWS and deadlines pass at once, the same each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redshift_secrets.cache.refresh import Refresher
from redshift_secrets.cache.tiers import Tier
from redshift_secrets.cache.workers import MustWait
from redshift_secrets.errors import AwsError
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.lookup.metrics import NoMetrics
from redshift_secrets.model import ConnectionFields, Scope, Warehouse
from redshift_secrets.settings import Settings
from tests.support.fakes import FakeAws
from tests.unit.cache.simulation import Simulation

SILENT_SECONDS = 40.0
"""After so long a client gives up on AWS."""


class SimulatedAws(FakeAws):
    """Answers at once, but for what is in `silent`: scopes, `mint` or `describe`."""

    def __init__(self, simulation: Simulation, warehouses: Sequence[Warehouse] = ()) -> None:
        super().__init__(simulation.clock, warehouses)  # type: ignore[arg-type]  # it only reads the clock
        self.simulation = simulation
        self.silent: set[Scope | str] = set()

    def _enter(self, name: str, scope: Scope | None = None) -> int:
        number = super()._enter(name, scope)
        if (scope or name) in self.silent:
            self.simulation.sleep(SILENT_SECONDS)
            raise AwsError(f"redshift:{name}", str(scope), "me", "TimedOut", "No answer.", "Check the network.", True)
        return number


class SimulatedSite:
    """A process with a broker; `waited` is how many seconds its last lookup took."""

    def __init__(self, aws: SimulatedAws, tiers: Sequence[Tier] = (), **settings: Any) -> None:
        self.aws = aws
        self.simulation = aws.simulation
        self.waited = 0.0
        self.refresher = Refresher(
            tiers,
            clock=self.simulation.clock,
            monotonic=self.simulation.monotonic,
            sleep=self.simulation.sleep,
            rand=lambda: 0.0,
        )
        self.refresher._workers = self.simulation  # type: ignore[assignment]
        self.broker = Broker(
            Settings.from_kwargs({"regions": ["eu-west-1"], **settings}),
            aws,
            self.refresher,
            mask=lambda _password, _expires_at: None,
            metrics=NoMetrics(),
        )

    def ask(self, conn_id: str = "analytics", team: str | None = None) -> ConnectionFields | None:
        """Return or raise what a lookup does, after as much time as it takes."""
        began = self.simulation.elapsed
        try:
            return self.simulation.run(lambda: self._look_up(conn_id, team))
        finally:
            self.waited = self.simulation.elapsed - began

    def _look_up(self, conn_id: str, team: str | None) -> ConnectionFields | None:
        answer = self.broker.remembered(conn_id, team, None)
        if answer is not None:
            return answer.fields
        lookup = self.broker.lookup()
        while True:
            try:
                return self.broker.attempt(conn_id, team, None, lookup)
            except MustWait as must:
                for run, until in must.waits:
                    self.simulation.wait(run, until)
