"""One cause is told once, with what it holds for."""

from __future__ import annotations

import logging

import pytest

from redshift_secrets.cache.refresh import Refresher
from redshift_secrets.errors import AwsError, DeadlineError, ExhaustedError, RedshiftSecretsError
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.lookup.metrics import NoMetrics
from redshift_secrets.lookup.reasons import causes, unanswered
from redshift_secrets.model import Scope
from redshift_secrets.settings import Settings
from tests.support.fakes import Clock, FakeAws, cluster
from tests.support.helpers import all_refreshes_done

REGIONS = ("eu-west-1", "eu-west-2", "us-east-1")
ROLES = (None, *(f"arn:aws:iam::{number}:role/r" for number in range(3)))
SCOPES = [Scope(kind, region, role) for role in ROLES for region in REGIONS for kind in ("cluster", "workgroup")]


def error(scope: Scope, code: str, host_only: bool = False) -> AwsError:
    action = "redshift:DescribeClusters" if scope.kind == "cluster" else "redshift-serverless:ListWorkgroups"
    return AwsError(action, f"everything in {scope.region}", "me", code, "So it is.", "Do it.", host_only)


def test_expired_credentials_of_24_listings_are_one_sentence() -> None:
    (told,) = causes([(scope, error(scope, "ExpiredToken", True)) for scope in SCOPES])
    assert told.startswith("24 listings in 4 accounts (clusters in eu-west-1, Serverless workgroups in eu-west-1, ")
    assert "and 20 more) for one reason: redshift:DescribeClusters on everything in eu-west-1" in told
    assert len(told) < 500


def test_what_may_not_be_done_is_told_for_each_operation() -> None:
    told = causes([(scope, error(scope, "AccessDenied")) for scope in SCOPES])
    assert ["DescribeClusters" in each for each in told] == [True, False]
    assert all("12 listings in 4 accounts" in each for each in told)


@pytest.mark.parametrize(
    "cause",
    [
        DeadlineError("the list", 10, "https://x (redshift:DescribeClusters) did not answer"),
        ExhaustedError("memory"),
        error(SCOPES[0], "TimedOut", True),
    ],
    ids=lambda cause: type(cause).__name__,
)
def test_what_is_wrong_with_this_host_is_one_cause(cause: RedshiftSecretsError) -> None:
    assert len(causes([(scope, cause) for scope in SCOPES])) == 1


def test_two_causes_are_two_and_one_scope_is_named_alone() -> None:
    first, second, *_ = SCOPES
    told = causes([(first, error(first, "Throttling")), (second, DeadlineError("the list", 10))])
    assert [each.partition(":")[0] for each in told] == [str(first), str(second)]
    assert len(causes([(first, ExhaustedError("memory")), (second, ExhaustedError("threads"))])) == 2


class Here:
    def __init__(self, **settings: object) -> None:
        self.clock = Clock()
        self.aws = FakeAws(self.clock, [cluster()])
        refresher = Refresher(clock=self.clock, monotonic=self.clock, rand=lambda: 0.0)
        self.broker = Broker(
            Settings.from_kwargs({"regions": list(REGIONS), **settings}),
            self.aws,
            refresher,
            mask=lambda _password, _expires_at: None,
            metrics=NoMetrics(),
        )

    def fail(self, code: str = "ExpiredToken") -> None:
        self.aws.failing = {scope: error(scope, code, True) for scope in SCOPES}


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "redshift_secrets")
    return caplog


def test_a_lookup_that_fails_says_why_once(lines: pytest.LogCaptureFixture) -> None:
    here = Here()
    here.fail()
    assert here.broker.connection("analytics") is None
    (line,) = lines.messages
    assert "6 listings" in line
    assert line.count("(ExpiredToken)") == 1


def test_listings_that_fail_behind_lookups_are_one_line_and_then_a_count(lines: pytest.LogCaptureFixture) -> None:
    here = Here()
    here.broker.connection("analytics")
    lines.clear()
    here.fail()
    here.clock.pass_(400)
    here.broker.connection("analytics")
    all_refreshes_done()
    told = [line for line in lines.messages if "could not be refreshed" in line]
    assert len(told) == 1
    here.clock.pass_(61)
    here.broker.connection("analytics")
    all_refreshes_done()
    assert any(" more in 61 s, for the list of " in line for line in lines.messages)


class TestConnectionsThatAreServed:
    def test_leave_one_line_with_user_tier_and_minutes(self, lines: pytest.LogCaptureFixture) -> None:
        here = Here()
        for _ in range(3):
            here.broker.connection("analytics")
        served = [line for line in lines.messages if "is served" in line]
        assert served == [
            "connection 'analytics' is served: cluster prod (account 123456789012, eu-west-1), user IAMR:airflow, from AWS,"
            " valid for 60 min"
        ]

    def test_leave_another_one_for_another_credential(self, lines: pytest.LogCaptureFixture) -> None:
        here = Here()
        here.broker.connection("analytics")
        here.clock.pass_(3500)
        here.broker.connection("analytics")
        assert len([line for line in lines.messages if "is served" in line]) == 2

    def test_leave_one_in_the_log_of_a_child_that_finds_it_in_memory(self, lines: pytest.LogCaptureFixture) -> None:
        here = Here()
        here.broker.connection("analytics")
        lines.clear()
        here.broker.reset_after_fork()
        here.broker.connection("analytics")
        here.broker.connection("analytics")
        (line,) = (line for line in lines.messages if "is served" in line)
        assert "from memory, valid for 60 min" in line

    def test_never_have_the_password_in_it(self, lines: pytest.LogCaptureFixture) -> None:
        found = Here().broker.connection("analytics")
        assert found is not None
        assert str.__str__(found.password) not in lines.text  # type: ignore[arg-type]


def test_a_source_of_credentials_that_takes_its_time_is_not_told_as_aws() -> None:
    source = "the AWS credentials of this process, from a credential_process"
    told = str(DeadlineError("the list", 10, unanswered(["https://x (redshift:y)", source], SCOPES[0], Settings())))
    assert told == (
        f"Timed out after 10 s (aws_timeout_seconds) waiting for the list: {source}, did not come. See why that takes so long, as this OS"
        " user; AWS itself was not asked yet. The refresh continues in the background."
    )
    assert "AWS did not answer in eu-west-1" in unanswered([], SCOPES[0], Settings())
