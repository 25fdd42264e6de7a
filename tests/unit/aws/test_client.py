"""How long a credential is valid: never longer than was asked for, and never into the past."""

from __future__ import annotations

import pytest

from redshift_secrets.aws import minting
from redshift_secrets.aws.client import AwsClient
from redshift_secrets.aws.sessions import Sessions
from redshift_secrets.errors import AwsError
from redshift_secrets.lookup.spec import build_spec
from redshift_secrets.model import Credential, MintRequest
from redshift_secrets.settings import Settings
from tests.support.fakes import EPOCH, Clock, cluster

YEAR_9999 = 253_402_300_799.0


@pytest.fixture
def mint(monkeypatch: pytest.MonkeyPatch):
    """Mints with an answer that expires at a moment of the test's choice, in seconds since the epoch."""
    settings = Settings.from_kwargs({"db_user": "etl", "duration_seconds": 900, "min_validity_seconds": 60})
    request = MintRequest.of(build_spec(cluster(), "analytics", settings))
    monkeypatch.setattr(Sessions, "identity", lambda *_args: "arn:aws:iam::1:role/x")

    def mint_until(expires_at: float, seconds: float = 0) -> Credential:
        clock = Clock()

        def answer(*_args: object) -> minting.Minted:
            clock.pass_(seconds)
            return "IAM:etl", "a-password", expires_at, "request-1"

        monkeypatch.setitem(minting.WAYS, ("db-user", "cluster"), ("redshift:GetClusterCredentials", answer))
        return AwsClient(settings, clock=clock).mint(request)

    return mint_until


@pytest.mark.parametrize(
    ("answered", "expires_at"),
    [(EPOCH + 900, EPOCH + 900), (EPOCH + 880, EPOCH + 880), (EPOCH + 901, EPOCH + 900), (YEAR_9999, EPOCH + 900)],
)
def test_a_credential_is_valid_for_at_most_as_long_as_was_asked_for(mint, answered: float, expires_at: float) -> None:
    minted = mint(answered)
    assert (minted.expires_at, minted.request_id) == (expires_at, "request-1")


@pytest.mark.parametrize("answered", [EPOCH, EPOCH - 1, 0.0])
def test_a_credential_that_has_expired_is_refused(mint, answered: float) -> None:
    with pytest.raises(AwsError, match=r"expired .* s ago by the clock of this host") as caught:
        mint(answered)
    assert (caught.value.code, caught.value.operation) == ("ExpiredCredential", "redshift:GetClusterCredentials")
    assert caught.value.request_id == "request-1"
    assert "a-password" not in str(caught.value)


def test_so_is_one_that_expires_while_the_answer_is_on_its_way(mint) -> None:
    assert mint(EPOCH + 2, seconds=1).expires_at == EPOCH + 2
    with pytest.raises(AwsError, match="expired 1 s ago by the clock of this host"):
        mint(EPOCH + 2, seconds=3)
