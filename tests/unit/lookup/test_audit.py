"""Which events of lookups an audit is told of."""

from __future__ import annotations

import pytest

from redshift_secrets.errors import AwsError, CannotServeError
from tests.support.fakes import cluster, denied
from tests.support.helpers import tagged


class RecordedAudit:
    """Implements `Audit`: what it was told, with texts instead of records."""

    def __init__(self):
        self.events: list[tuple[object, ...]] = []

    def minted(self, conn_id, request, credential):
        self.events.append(("minted", conn_id, request.arn, credential.user))

    def served(self, fields, warehouse_arn, credential, tier, team_name):
        self.events.append(("served", fields.conn_id, warehouse_arn, credential and credential.user, tier, team_name))

    def refused(self, conn_id, error, team_name):
        self.events.append(("refused", conn_id, error.warehouse_arn, getattr(error.cause, "code", None), team_name))

    def claim_changed(self, change):
        self.events.append(
            (change.kind, change.conn_id, *([each.arn for each in of] for of in (change.gained, change.lost)))
        )

    def flushed(self, conn_id, lines):
        self.events.append(("flushed", conn_id, lines))


class BrokenAudit:
    """An audit all of whose methods raise."""

    def __getattr__(self, name):
        def broken(*_arguments):
            raise KeyError(name)

        return broken


@pytest.fixture
def audit():
    return RecordedAudit()


ARN = cluster().arn


def test_a_mint_names_the_connection_it_was_for_and_each_connection_handed_out_is_one_event(site, audit):
    site = site(tagged(db_user="etl"), audit=audit)
    site.ask()
    site.ask(team="finance")
    site.ask()
    site.ask("smtp_default")
    assert audit.events == [
        ("minted", "analytics", ARN, "IAM:etl"),
        ("served", "analytics", ARN, "IAM:etl", "aws", None),
        ("served", "analytics", ARN, "IAM:etl", "process", "finance"),
        ("served", "analytics", ARN, "IAM:etl", "process", None),
    ]


def test_where_the_driver_mints_there_is_no_credential(site, audit):
    site(tagged(auth="connector", db_user="etl"), audit=audit).ask()
    assert audit.events == [("served", "analytics", ARN, None, "aws", None)]


def test_a_renewal_behind_a_lookup_is_a_mint_for_the_connection_that_was_looked_up(site, audit, clock):
    site = site(tagged(db_user="etl"), audit=audit)
    site.ask()
    clock.pass_(2000)
    site.ask()
    assert [event[:2] for event in audit.events] == [
        ("minted", "analytics"),
        ("served", "analytics"),
        ("served", "analytics"),
        ("minted", "analytics"),
    ]


def test_looking_whether_a_lookup_needs_io_is_no_lookup(site, audit):
    site = site(audit=audit)
    site.ask()
    before = list(audit.events)
    assert site.broker.peek("analytics", None, None) is not None
    assert audit.events == before


@pytest.mark.parametrize(
    ("error", "code"),
    [(denied("redshift:GetClusterCredentials"), "AccessDenied"), (KeyError("x"), None)],
)
def test_a_refusal_says_of_which_warehouse_it_is_and_what_caused_it(site, error, code):
    site = site()
    site.aws.mint_error = error
    with pytest.raises(CannotServeError) as caught:
        site.ask()
    assert caught.value.warehouse_arn == ARN
    assert getattr(caught.value.cause, "code", None) == code
    assert isinstance(caught.value.cause, AwsError) == (code is not None)


def test_claims_that_change_are_events_of_the_listing_that_has_found_them(site, audit, clock):
    site = site(audit=audit, db_user="etl")
    site.ask()
    audit.events.clear()
    site.aws.warehouses = [cluster("new"), cluster("other", {"airflow:conn-id": "reporting"})]
    clock.pass_(1000)
    site.ask()
    new, other = cluster("new").arn, cluster("other").arn
    assert [event for event in audit.events if event[0] not in ("minted", "served")] == [
        ("moved", "analytics", [new], [ARN]),
        ("appeared", "reporting", [other], []),
    ]
    site.aws.warehouses = []
    clock.pass_(1000)
    site.ask()
    assert audit.events[-2:] == [("vanished", "analytics", [], [new]), ("vanished", "reporting", [], [other])]


def test_an_audit_that_raises_changes_no_answer(site, clock):
    site = site(audit=BrokenAudit())
    assert [site.ask().login, site.ask().login] == ["IAMR:airflow"] * 2
    site.aws.warehouses = [cluster("new")]
    clock.pass_(1000)
    assert site.ask().host == cluster("new").host
