"""Lookups while tags, clusters and AWS change, in two processes that share a store, against a model of allowed answers.

The model knows what AWS has answered, and when. So it knows which tags a lookup may go by, whose password it may return, and
when it may be refused. Time is simulated: a lookup that waits for silence takes no time.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from msgspec.structs import replace

from redshift_secrets.errors import AwsError, CannotServeError
from redshift_secrets.model import Credential, MintRequest, Scope, Warehouse
from tests.support.fakes import EPOCH, cluster, denied
from tests.support.memory_store import MemoryStore, tier
from tests.unit.cache.simulation import Simulation
from tests.unit.lookup.simulated import SILENT_SECONDS, SimulatedAws, SimulatedSite

EAST, WEST = SCOPES = tuple(Scope("cluster", region, None) for region in ("us-east-1", "us-west-2"))
REGIONS = {"blue": EAST, "green": EAST, "red": WEST}
CONN_ID = "analytics"
TTL, DAY = 300, 86_400
TRIED_AGAIN = SILENT_SECONDS + 65
"""So long after AWS has begun to answer, what could not be listed is listed by the next lookup: calls have ended, and the
longest pause after a failure."""
SETTLED = TRIED_AGAIN + 125
"""So long after that, no failure is remembered, and a lookup waits for what is stale."""
NUMBERS, TEAMS = st.integers(0, 1), st.sampled_from([None, "bi"])


class Listed(NamedTuple):
    """What AWS answered to a listing."""

    at: float
    warehouses: tuple[Warehouse, ...]


class Minted(NamedTuple):
    """A password that AWS gave, and the cluster that takes it."""

    arn: str
    created_at: float
    expires_at: float


class ModelledAws(SimulatedAws):
    """Remembers its answers. Whether it answers is in `state`, by scope and for `mint`, and since when in `since`."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(simulation)
        self.state: dict[Scope | str, str] = dict.fromkeys((*SCOPES, "mint"), "well")
        self.since: dict[Scope | str, float] = dict.fromkeys((*SCOPES, "mint"), EPOCH)
        self.left: dict[tuple[Scope | str, str], float] = {}
        self.answers: dict[Scope, list[Listed]] = {scope: [] for scope in SCOPES}
        self.passwords: dict[str, Minted] = {}
        self.numbers = itertools.count(1)

    def turn(self, what: Scope | str, state: str) -> None:
        if self.state[what] != state:
            self.left[what, self.state[what]] = self.clock()
            self.state[what], self.since[what] = state, self.clock()
        self.silent = {each for each, how in self.state.items() if how == "silent"}

    def list(self, scope: Scope, recall: Any) -> Sequence[Warehouse]:
        self._enter("list", scope)
        if self.state[scope] == "denied":
            raise denied()
        if self.state[scope] == "failing":
            raise AwsError("redshift:DescribeClusters", str(scope), "me", "InternalFailure", "An error.", "Wait.")
        found = tuple(w for w in self.warehouses if w.region == scope.region and CONN_ID in w.tags.get(TAG, ""))
        self.answers[scope].append(Listed(self.clock(), found))
        return found

    def mint(self, request: MintRequest) -> Credential:
        self._enter("mint")
        if self.state["mint"] == "failing":
            raise denied("redshift:GetClusterCredentialsWithIAM")
        current = next((w for w in self.warehouses if w.arn == request.arn), None)
        if current is None:
            raise AwsError("redshift:GetClusterCredentials", request.arn, "me", "ClusterNotFound", "Gone.", "Wait.")
        password, now = f"password-{next(self.numbers)}", self.clock()
        self.passwords[password] = Minted(request.arn, current.created_at, now + request.duration)
        return Credential("IAM:etl", password, now, now + request.duration, "me")


TAG, TEAM = "airflow:conn-id", "airflow:team"


class Lookups(RuleBasedStateMachine):
    """Rules change the world and look up; each lookup is checked against what the model allows."""

    def __init__(self) -> None:
        super().__init__()
        self.simulation = Simulation()
        self.aws = ModelledAws(self.simulation)
        self.store = MemoryStore(self.simulation.clock)
        self.flushed_at = float("-inf")
        self.gone: dict[str, list[float]] = {name: [] for name in REGIONS}

    def teardown(self) -> None:
        self.simulation.close()

    @initialize(
        pattern=st.booleans(),
        oldest=st.booleans(),
        tagged=st.sets(st.sampled_from(list(REGIONS))),
        states=st.tuples(*([st.sampled_from(["well", "well", "failing", "denied", "silent"])] * 2)),
    )
    def begin(self, pattern: bool, oldest: bool, tagged: set[str], states: tuple[str, str]) -> None:
        self.pattern, self.oldest = pattern, oldest
        self.settings = {
            "regions": ["us-east-1", "us-west-2"],
            "warehouses": ["clusters"],
            "on_conflict": "oldest" if oldest else "refuse",
            **({"managed_conn_ids": "^ana"} if pattern else {}),
        }
        self.aws.warehouses = []
        for name in REGIONS:
            self.aws.warehouses.append(self.create(name, {TAG: CONN_ID} if name in tagged else {}))
            self.simulation.pass_(1)
        for scope, state in zip(SCOPES, states, strict=True):
            self.aws.turn(scope, state)
        self.processes = [self.process(), self.process()]

    def process(self) -> SimulatedSite:
        return SimulatedSite(self.aws, [tier(self.store)], **self.settings)

    def create(self, name: str, tags: dict[str, str]) -> Warehouse:
        return cluster(name, tags, region=REGIONS[name].region, created_at=self.now() - 1)

    def now(self) -> float:
        return self.simulation.clock()

    # --- the world

    @rule(seconds=st.sampled_from([1, 6, 70, 120, TTL, 3 * TTL, 3400, 3590, 6 * 3600, DAY]), number=NUMBERS, team=TEAMS)
    def time_passes(self, seconds: int, number: int, team: str | None) -> None:
        self.simulation.pass_(seconds)
        self.look_up(number, team)

    @rule(scope=st.sampled_from(SCOPES), state=st.sampled_from(["well", "failing", "denied", "silent"]))
    def listings_turn(self, scope: Scope, state: str) -> None:
        self.aws.turn(scope, state)

    @rule(state=st.sampled_from(["well", "failing", "silent"]))
    def mints_turn(self, state: str) -> None:
        self.aws.turn("mint", state)

    @rule(
        state=st.sampled_from(["well", "failing", "silent"]),
        seconds=st.sampled_from([1700, 3250, 3530, 3545, 3590, 3700]),
        number=NUMBERS,
    )
    def a_password_gets_old(self, state: str, seconds: int, number: int) -> None:
        self.look_up(0, None)
        self.mints_turn(state)
        self.simulation.pass_(seconds)
        self.look_up(number, None)

    @rule(seconds=st.sampled_from([0, TRIED_AGAIN + 1, SETTLED + 1]))
    def aws_is_well(self, seconds: float) -> None:
        for what in (*SCOPES, "mint"):
            self.aws.turn(what, "well")
        self.simulation.pass_(seconds)

    @rule(name=st.sampled_from(list(REGIONS)))
    def the_tag_moves_to(self, name: str) -> None:
        self.aws.warehouses = [
            replace(w, tags={TAG: CONN_ID} if w.identifier == name else {}) for w in self.aws.warehouses
        ]

    @rule(name=st.sampled_from(list(REGIONS)), tags=st.sampled_from([{}, {TAG: CONN_ID}, {TAG: CONN_ID, TEAM: "bi"}]))
    def tags_change(self, name: str, tags: dict[str, str]) -> None:
        self.aws.warehouses = [replace(w, tags=tags) if w.identifier == name else w for w in self.aws.warehouses]

    @rule(name=st.sampled_from(list(REGIONS)))
    def a_cluster_is_deleted(self, name: str) -> None:
        self.aws.warehouses = [w for w in self.aws.warehouses if w.identifier != name]
        self.gone[name].append(self.now())

    @rule(name=st.sampled_from(list(REGIONS)), seconds=st.sampled_from([0, 3 * TTL]), number=NUMBERS)
    def a_cluster_is_restored_under_its_name(self, name: str, seconds: int, number: int) -> None:
        self.look_up(0, None)
        tags = next((dict(w.tags) for w in self.aws.warehouses if w.identifier == name), {TAG: CONN_ID})
        self.a_cluster_is_deleted(name)
        self.simulation.pass_(2)
        self.aws.warehouses.append(self.create(name, tags))
        self.simulation.pass_(seconds)
        self.look_up(number, None)

    @rule(number=NUMBERS)
    def a_process_ends_and_a_new_one_begins(self, number: int) -> None:
        self.processes[number] = self.process()

    @rule(number=NUMBERS, team=TEAMS)
    def somebody_flushes(self, number: int, team: str | None) -> None:
        self.store.clear()
        self.store.mark_flushed()
        self.flushed_at = self.now()
        self.simulation.pass_(6)
        self.look_up(number, team)

    # --- lookups

    @rule(number=NUMBERS, team=TEAMS)
    def look_up(self, number: int, team: str | None) -> None:
        process, began = self.processes[number], self.now()
        try:
            fields = process.ask(CONN_ID, team)
        except CannotServeError as error:
            fields, refusal = None, str(error)
        else:
            refusal = None
        assert process.waited <= 10, f"the lookup took {process.waited} s"
        allowed = self.allowed(began, team)
        if refusal is not None:
            assert "refused" in allowed or self.may_fail(allowed, began), f"refused: {refusal}; allowed: {allowed}"
        elif fields is None:
            assert None in allowed, f"None; allowed: {allowed}"
        else:
            self.check_connection(fields, allowed, began)

    def check_connection(self, fields: Any, allowed: set[Any], began: float) -> None:
        minted = self.aws.passwords[fields.password]
        name = fields.host.split(".")[0]
        incarnations = {created_at for each, created_at in filter(is_warehouse, allowed) if each == name}
        assert incarnations, f"served from {name}; allowed: {allowed}"
        assert minted.arn.endswith(f":{name}"), "the password of another warehouse"
        assert minted.created_at >= min(incarnations), "the password of a cluster that is gone"
        assert minted.expires_at - began > (300 if self.is_well("mint", began) else 60), "it expires too soon"

    def is_well(self, what: Scope | str, began: float) -> bool:
        return self.aws.state[what] == "well" and began - self.aws.since[what] > SETTLED

    def allowed(self, began: float, team: str | None) -> set[Any]:
        """Return the answers that what AWS has answered allows: `None`, `refused`, or the name of a warehouse and when it
        was created."""
        found = set()
        for views in itertools.product(*(self.views(scope, began) for scope in SCOPES)):
            found |= self.decide(views, team)
        return found

    def views(self, scope: Scope, began: float) -> list[tuple[Warehouse, ...] | str]:
        """Return what a lookup may take for listed of a scope, or why nothing is known of it."""
        well = self.is_well(scope, began)
        oldest = began - (3 * TTL if well else DAY) - 1
        if well:
            oldest = max(oldest, self.flushed_at - 1)
        views: list[Any] = [each.warehouses for each in self.aws.answers[scope] if each.at >= oldest]
        known = [each for each in self.aws.answers[scope] if max(began - DAY, self.flushed_at) < each.at <= began]
        tried = self.aws.state[scope] == "well" and began - self.aws.since[scope] > TRIED_AGAIN
        if not tried and not known:
            for view, states in (("denied", ["denied"]), ("silent", ["failing", "silent"])):
                left = max(self.aws.left.get((scope, state), 0) for state in states)
                if self.aws.state[scope] in states or began - left < SETTLED:
                    views.append(view)
        assert views, f"{scope} was not listed although it answers"
        return views

    def decide(self, views: Sequence[Any], team: str | None) -> set[Any]:
        unseen = [view for view in views if isinstance(view, str)]
        claims = [w for view in views if not isinstance(view, str) for w in view]
        if not claims:
            return {"refused"} if self.pattern else {None}
        claims = [w for w in claims if w.tags.get(TEAM) in (None, team)]
        if not claims:
            return {None}
        if "silent" in unseen:
            return {"refused"}
        oldest = min(claims, key=lambda w: w.created_at)
        if len(claims) > 1 and not (self.oldest and [w.created_at for w in claims].count(oldest.created_at) == 1):
            return {"refused"}
        return {(oldest.identifier, oldest.created_at)}

    def may_fail(self, allowed: set[Any], began: float) -> bool:
        """Whether a warehouse that may serve it may not have had a password to give."""
        names = {name for name, _ in filter(is_warehouse, allowed)}
        gone = any(began - SETTLED <= at for name in names for at in self.gone[name])
        missing = names - {w.identifier for w in self.aws.warehouses}
        return bool(names) and (not self.is_well("mint", began) or gone or bool(missing))


def is_warehouse(answer: Any) -> bool:
    return isinstance(answer, tuple)


TestLookups = Lookups.TestCase
TestLookups.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
