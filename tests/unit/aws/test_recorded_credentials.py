"""Keys that have to be renewed are asked for once for all threads, and what cannot be keys is told as that."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.credentials import Credentials, DeferredRefreshableCredentials
from botocore.exceptions import ConnectTimeoutError

from redshift_secrets.aws.errors import translate_errors
from redshift_secrets.aws.exchanges import Exchange, exchanges
from redshift_secrets.aws.recorded_credentials import RecordedCredentials
from redshift_secrets.errors import AwsError
from tests.support.fakes import Clock
from tests.support.helpers import BOUND

STS = "https://sts.eu-west-1.amazonaws.com"


class Role:
    """A role that is assumed when keys are asked for: `error` is what comes instead; `hold` keeps it waiting."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.expires_in = 3600
        self.assumed = 0
        self.hold = threading.Event()
        self.hold.set()
        self.entered = threading.Event()

    def __call__(self) -> dict[str, str]:
        self.assumed += 1
        self.entered.set()
        assert self.hold.wait(BOUND)
        exchanges.repeat(Exchange("sts:AssumeRole", STS, "eu-west-1", None))
        if self.error is not None:
            raise self.error
        until = datetime.now(timezone.utc) + timedelta(seconds=self.expires_in)
        return {"access_key": "ASIA", "secret_key": "s", "token": "t", "expiry_time": until.isoformat()}


@pytest.fixture
def role() -> Role:
    return Role()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(0)
    monkeypatch.setattr(RecordedCredentials, "monotonic", staticmethod(clock))
    return clock


@pytest.fixture
def credentials(role: Role, now: Clock) -> RecordedCredentials:
    return RecordedCredentials(DeferredRefreshableCredentials(refresh_using=role, method="assume-role"))


def failure(credentials: RecordedCredentials) -> AwsError:
    with pytest.raises(AwsError) as caught, translate_errors("redshift:DescribeClusters", "every cluster", "me"):
        credentials.get_frozen_credentials()
    return caught.value


def test_what_cannot_be_renewed_is_asked_for_once_for_all_threads(role: Role, credentials: RecordedCredentials) -> None:
    role.error = ConnectTimeoutError(endpoint_url=STS)
    role.hold.clear()
    with ThreadPoolExecutor(8) as pool:
        failures = [pool.submit(failure, credentials) for _ in range(8)]
        assert role.entered.wait(BOUND)
        role.hold.set()
        errors = [each.result(BOUND) for each in failures]
    assert role.assumed == 1
    assert {(error.code, error.operation) for error in errors} == {("TimedOut", "sts:AssumeRole")}
    assert all(STS in error.reason for error in errors)


def test_it_is_asked_for_again_after_a_pause(role: Role, credentials: RecordedCredentials, now: Clock) -> None:
    role.error = ConnectTimeoutError(endpoint_url=STS)
    for _ in range(3):
        failure(credentials)
    now.pass_(4.9)
    failure(credentials)
    assert role.assumed == 1
    now.pass_(0.2)
    role.error = None
    assert credentials.get_frozen_credentials().access_key == "ASIA"
    assert credentials.get_frozen_credentials().access_key == "ASIA"
    assert role.assumed == 2


def test_keys_that_have_expired_when_they_come_are_told_as_that(role: Role, credentials: RecordedCredentials) -> None:
    role.expires_in = -60
    error = failure(credentials)
    assert (error.code, error.operation, error.host_only) == ("NoCredentials", "sts:AssumeRole", True)
    assert error.reason.endswith("the AWS credentials that this process was just given have expired.")
    assert error.advice.startswith("Check that clock")


@pytest.mark.parametrize(
    ("changes", "which", "wrong"),
    [
        ({"access_key": "AKIA\n"}, "access key ID", "has a space, a line break"),
        ({"secret_key": " secret-word"}, "secret access key", "has a space, a line break"),
        ({"token": "a\nsecret-word"}, "session token", "has a space, a line break"),
        ({"token": "secret-w\u00f6rd"}, "session token", "has a space, a line break"),
        ({"access_key": 5}, "access key ID", "is no text"),
    ],
)
def test_what_cannot_be_keys(changes: dict[str, Any], which: str, wrong: str) -> None:
    keys = SimpleNamespace(**{"access_key": "AKIA", "secret_key": "s", "token": None, **changes})
    error = failure(RecordedCredentials(SimpleNamespace(get_frozen_credentials=lambda: keys, method="env")))
    assert error.code == "NoCredentials"
    assert f"the {which} of the AWS credentials from env {wrong}" in error.reason
    assert "secret-w" not in str(error)


def test_any_other_sign_may_be_in_them() -> None:
    given = Credentials("AK/IA", "a+b/c=", "~!t")
    assert RecordedCredentials(given).get_frozen_credentials().token == "~!t"
