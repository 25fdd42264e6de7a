"""docs/contract.md, "Looking a conn_id up", 3: nothing is decided, or remembered, on half of the knowledge."""

from __future__ import annotations

import logging

import pytest

from redshift_secrets.errors import AwsError, CannotServeError
from redshift_secrets.model import Scope
from tests.support.fakes import EPOCH, cluster, denied
from tests.support.memory_store import MemoryStore, tier
from tests.unit.cache.simulation import Simulation
from tests.unit.lookup.simulated import SimulatedAws, SimulatedSite

EAST, WEST = (Scope("cluster", region, None) for region in ("us-east-1", "us-west-2"))
CLAIM = {"airflow:conn-id": "analytics"}
PROD = cluster("prod", CLAIM, region="us-east-1", created_at=EPOCH - 2000)
# A snapshot restore copies tags.
COPY = cluster("prod-dr", CLAIM, region="us-west-2", created_at=EPOCH - 1000)
OTHER = cluster("other", {"airflow:conn-id": "other"}, region="us-west-2")
FAILED = AwsError("redshift:DescribeClusters", "every cluster", "me", "InternalFailure", "An error.", "Try again.")

TABLE = """
    EAST       seen before   claimed in   matches   returns

    silent     never         WEST         -         refusal: claims it, and whether another warehouse does is not known
    silent     never         WEST         matches   refusal: claims it, and whether another warehouse does is not known
    silent     never         nowhere      -         None
    silent     never         nowhere      matches   refusal: may be in what cannot
    failing    never         WEST         -         refusal: claims it, and whether another warehouse does is not known
    failing    never         WEST         matches   refusal: claims it, and whether another warehouse does is not known
    failing    never         nowhere      -         None
    failing    never         nowhere      matches   refusal: may be in what cannot
    denied     never         WEST         -         prod-dr
    denied     never         WEST         matches   prod-dr
    denied     never         nowhere      -         None
    denied     never         nowhere      matches   refusal: may be in what cannot

    silent     expired       WEST         -         refusal: claims it, and whether another warehouse does is not known
    failing    expired       WEST         -         refusal: claims it, and whether another warehouse does is not known
    denied     expired       WEST         -         prod-dr
    silent     expired       nowhere      -         None

    silent     stale         WEST         -         prod-dr
    failing    stale         WEST         -         prod-dr
    denied     stale         WEST         -         prod-dr
    silent     stale         EAST         -         prod
    failing    stale         EAST         matches   prod
    denied     stale         EAST         -         prod
    silent     stale         both         -         refusal: claimed by
    failing    stale         both         matches   refusal: claimed by
    denied     stale         both         -         refusal: claimed by
    silent     stale         nowhere      -         None
    silent     stale         nowhere      matches   refusal: no warehouse claims it
    failing    stale         nowhere      matches   refusal: no warehouse claims it
    failing    stale         nowhere      -         None
    denied     stale         nowhere      -         None
"""
"""What a new process returns while the clusters in us-east-1 cannot be listed and those in us-west-2 can; under
`on_conflict = oldest` the same, but for `claimed by`: the older one serves it.

seen before   `stale`: what was listed of us-east-1 an hour ago is known; `expired`: it is older than it may be
claimed in    by `prod` in EAST, by its copy in WEST, or by both
matches       `managed_conn_ids`
"""
ROWS = [tuple(part.strip() for part in line.split("   ") if part.strip()) for line in TABLE.splitlines()[3:] if line]
CLAIMS = {"WEST": [COPY], "EAST": [PROD], "both": [PROD, COPY], "nowhere": []}
SECONDS = {"never": None, "stale": 3600.0, "expired": 90_000.0}


@pytest.fixture
def simulation():
    simulation = Simulation()
    yield simulation
    simulation.close()


class Place:
    """A host whose processes are all new, with AWS in two regions."""

    def __init__(self, simulation, warehouses, **settings):
        self.simulation = simulation
        self.aws = SimulatedAws(simulation, [OTHER, *warehouses])
        self.store = MemoryStore(simulation.clock)
        self.settings = {"regions": ["us-east-1", "us-west-2"], "warehouses": ["clusters"], **settings}

    def ask(self, process=None):
        """Return the cluster, `None` or the refusal that a new process gets, which may take 10 s."""
        process = process or SimulatedSite(self.aws, [tier(self.store)], **self.settings)
        try:
            fields = process.ask()
        except CannotServeError as error:
            return str(error)
        finally:
            assert process.waited <= 10
        return fields and fields.host.split(".")[0]

    def break_east(self, how):
        if how == "silent":
            self.aws.silent.add(EAST)
        else:
            self.aws.failing[EAST] = denied() if how == "denied" else FAILED

    def mend_east(self):
        self.aws.silent.clear()
        self.aws.failing.clear()


def settings_of(matches, on_conflict):
    return {"on_conflict": on_conflict, **({"managed_conn_ids": "^ana"} if matches == "matches" else {})}


@pytest.mark.parametrize("on_conflict", ["refuse", "oldest"])
@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_what_is_returned_while_a_scope_cannot_be_listed(simulation, row, on_conflict, caplog):
    how, seen, claimed, matches, returns = row
    place = Place(simulation, CLAIMS[claimed], **settings_of(matches, on_conflict))
    if SECONDS[seen] is not None:
        place.ask()
        simulation.pass_(SECONDS[seen])
    place.break_east(how)
    place.aws.calls.clear()
    caplog.clear()
    # The one that finds it out, one of those that know, and one that comes when it is tried again.
    answers = [place.ask(), place.ask()]
    simulation.pass_(61)
    answers.append(place.ask())
    if returns.startswith("refusal: ") and not (returns.endswith("claimed by") and on_conflict == "oldest"):
        for answer in answers:
            assert returns.removeprefix("refusal: ") in str(answer)
            assert ("us-east-1" in answer) or "prod" in answer
    else:
        assert answers == [{"None": None, "refusal: claimed by": "prod"}.get(returns, returns)] * 3
    assert place.aws.calls["mint"] == 0 or answers[0] in ("prod", "prod-dr")
    if seen == "never" and answers[0] == "prod-dr":
        warning = next(r.getMessage() for r in caplog.records if "whether another" in r.getMessage())
        assert warning.startswith("connection 'analytics': whether another warehouse than cluster prod-dr")
        assert "clusters in us-east-1" in warning
    if seen == "never" and answers[0] is None:
        errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
        assert len(errors) == 3, "one in each process"
        assert all("clusters in us-east-1" in each for each in errors)


@pytest.mark.parametrize(
    ("claimed", "on_conflict", "returns"),
    [
        ("WEST", "refuse", "prod-dr"),
        ("EAST", "refuse", "prod"),
        ("EAST", "oldest", "prod"),
        ("both", "refuse", "claimed by cluster prod "),
        ("both", "oldest", "prod"),
        ("nowhere", "refuse", "no warehouse claims it"),
    ],
)
@pytest.mark.parametrize("matches", ["-", "matches"])
@pytest.mark.parametrize("how", ["silent", "failing", "denied"])
def test_when_the_scope_answers_nothing_of_before_is_remembered(
    simulation, how, matches, claimed, on_conflict, returns
):
    place = Place(simulation, CLAIMS[claimed], **settings_of(matches, on_conflict))
    running = SimulatedSite(place.aws, [tier(place.store)], **place.settings)
    place.break_east(how)
    for process in (None, running):
        place.ask(process)
    place.mend_east()
    simulation.pass_(50)  # by then it was given up on what did not answer, and the pause after that is over
    for process in (running, None):
        answer = place.ask(process)
        if claimed == "nowhere" and matches == "-":
            assert answer is None
        else:
            assert answer == returns or (" " in returns and returns in answer)


def test_a_lookup_waits_for_a_scope_that_was_never_seen_although_it_has_found_a_claim(simulation):
    place = Place(simulation, [PROD, COPY])
    process = SimulatedSite(place.aws, **place.settings)
    place.aws.silent.add(EAST)
    assert "is not known" in place.ask(process)
    assert process.waited == 10
    assert "is not known" in place.ask(process)
    assert process.waited == 0, "the next one knows"


def test_a_conn_id_of_another_team_is_not_managed_whatever_cannot_be_listed(simulation):
    place = Place(simulation, [cluster("prod-dr", {**CLAIM, "airflow:team": "bi"}, region="us-west-2")])
    place.break_east("failing")
    assert place.ask() is None
