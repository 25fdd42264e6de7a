"""The identity that a credential was minted as is that of the keys that signed the request, whatever keys come after."""

from __future__ import annotations

import datetime
import threading
import types
from typing import Any

import pytest
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import ClientError
from dateutil.tz import tzutc

from redshift_secrets.aws import minting
from redshift_secrets.aws.client import AwsClient
from redshift_secrets.aws.recorded_credentials import RecordedCredentials
from redshift_secrets.aws.sessions import Sessions
from redshift_secrets.errors import AwsError, CallerChangedError
from redshift_secrets.lookup.spec import build_spec
from redshift_secrets.model import Credential, MintRequest
from redshift_secrets.settings import Settings
from tests.support.fakes import EPOCH, Clock, cluster

REGION = "eu-west-1"
HIGH = "arn:aws:sts::123456789012:assumed-role/high/i-1"
LOW = "arn:aws:sts::123456789012:assumed-role/low/i-1"
OTHER_ROLE = "arn:aws:iam::210987654321:role/remote"


class Keys:
    """The credentials of an instance: `key` is what the metadata service gives, valid for an hour. `arns` says whose a key
    is; STS answers nothing for one that is not there. `asked` has the keys that STS was asked with."""

    def __init__(self) -> None:
        self.key = "K1"
        self.now = datetime.datetime.fromtimestamp(EPOCH, tzutc())
        self.arns = {"K1": HIGH}
        self.asked: list[str] = []
        self.fetched = 0
        self.credentials = RefreshableCredentials(
            "K1",
            "s",
            "t",
            self.now + datetime.timedelta(hours=1),
            self._fetch,
            "iam-role",
            time_fetcher=lambda: self.now,
        )

    def _fetch(self) -> dict[str, Any]:
        self.fetched += 1
        expiry = (self.now + datetime.timedelta(hours=1)).isoformat()
        return {"access_key": self.key, "secret_key": "s", "token": "t", "expiry_time": expiry}

    def replace(self, key: str, arn: str | None) -> None:
        """Have the key expire, and another one take its place."""
        self.now += datetime.timedelta(minutes=61)
        self.key = key
        if arn is not None:
            self.arns[key] = arn

    def sts(self, keys: Any) -> Any:
        def get_caller_identity() -> dict[str, str]:
            self.asked.append(keys.access_key)
            return {"Arn": self.arns[keys.access_key]} if keys.access_key in self.arns else {}

        return types.SimpleNamespace(get_caller_identity=get_caller_identity)


@pytest.fixture
def keys(monkeypatch):
    keys = Keys()
    monkeypatch.setattr("redshift_secrets.aws.sessions.ForkSafeSession._credentials", None, raising=False)
    monkeypatch.setattr(
        "redshift_secrets.aws.sessions.create_credential_resolver",
        lambda *_arguments, **_options: types.SimpleNamespace(
            load_credentials=lambda: keys.credentials, get_provider=lambda _name: types.SimpleNamespace(), providers=[]
        ),
    )
    monkeypatch.setattr(
        Sessions, "_create_client", lambda _self, _service, _region, _role, _config, of=None: keys.sts(of)
    )
    return keys


@pytest.fixture
def clock():
    return Clock(0)


@pytest.fixture
def sessions(keys, clock):
    return Sessions(Settings.from_kwargs({"regions": [REGION]}), monotonic=clock)


def sign(sessions):
    """Sign a call as the base identity, as botocore does."""
    return sessions._session(None).get_credentials().get_frozen_credentials().access_key


class TestRecordedCredentials:
    def test_each_thread_has_the_keys_that_it_signed_with(self, keys):
        recorded = RecordedCredentials(keys.credentials)
        assert recorded.used is None
        recorded.get_frozen_credentials()
        keys.replace("K2", LOW)
        other = threading.Thread(target=recorded.get_frozen_credentials)
        other.start()
        other.join()
        assert (recorded.used.access_key, recorded.current.access_key) == ("K1", "K2")

    def test_keys_that_have_expired_are_nobodys_and_no_others_are_fetched(self, keys):
        recorded = RecordedCredentials(keys.credentials)
        assert recorded.current is None
        recorded.get_frozen_credentials()
        keys.now += datetime.timedelta(minutes=59)
        assert recorded.current.access_key == "K1"
        keys.now += datetime.timedelta(minutes=2)
        assert recorded.current is None
        assert keys.fetched == 0

    def test_keys_that_do_not_expire(self):
        recorded = RecordedCredentials(Credentials("K", "s", method="env"))
        recorded.get_frozen_credentials()
        assert (recorded.current.access_key, recorded.method, recorded.access_key) == ("K", "env", "K")


class TestIdentity:
    def test_sts_is_asked_once_for_a_key(self, sessions, keys):
        assert not sessions.identity_is_known
        assert [sessions.sts_identity(REGION), sessions.sts_identity(REGION)] == [HIGH, HIGH]
        assert sessions.identity_is_known
        assert sessions.expected_identity(None) == HIGH
        assert keys.asked == ["K1"]

    def test_another_key_may_be_anothers(self, sessions, keys):
        sessions.sts_identity(REGION)
        keys.replace("K2", LOW)
        assert not sessions.identity_is_known
        assert sessions.expected_identity(None) == "the default AWS identity of this process"
        assert sessions.sts_identity(REGION) == LOW
        assert sessions.identity_is_known
        assert keys.asked == ["K1", "K2"]

    def test_a_key_that_was_replaced_while_a_call_was_signed_is_noticed(self, sessions, keys):
        sessions.sts_identity(REGION)
        keys.replace("K2", LOW)
        assert sign(sessions) == "K2"
        assert not sessions.identity_is_known
        assert sessions.sts_identity(REGION) == LOW

    def test_the_same_identity_with_another_key(self, sessions, keys):
        sessions.sts_identity(REGION)
        keys.replace("K2", HIGH)
        assert sessions.sts_identity(REGION) == HIGH

    def test_without_an_answer_a_new_key_is_not_taken_for_the_old_ones(self, sessions, keys, clock):
        sessions.sts_identity(REGION)
        keys.replace("K2", None)
        assert sessions.sts_identity(REGION) is None
        assert sessions.identity(REGION, None) == "the default AWS identity of this process"
        assert keys.asked == ["K1", "K2"]
        keys.arns["K2"] = LOW
        clock.pass_(60)
        assert sessions.sts_identity(REGION) == LOW

    def test_a_child_asks_for_itself(self, sessions, keys):
        sessions.sts_identity(REGION)
        sessions.reset_after_fork()
        assert not sessions.identity_is_known
        assert sessions.sts_identity(REGION) == HIGH
        assert keys.asked == ["K1", "K1"]

    def test_nothing_was_signed_yet(self, sessions):
        assert sessions.signed_with() is None


@pytest.mark.attempt("get a password that was minted for another caller")
class TestMint:
    @pytest.fixture
    def client(self, keys, monkeypatch):
        settings = Settings.from_kwargs({"regions": [REGION], "db_user": "etl"})
        client = AwsClient(settings, clock=Clock())

        def mint(_client, request, _now):
            password = "of a role" if request.role_arn else f"of {keys.arns.get(sign(client._sessions))}"
            keys.after_mint()
            return "IAM:etl", password, EPOCH + 900, None

        monkeypatch.setitem(minting.WAYS, ("db-user", "cluster"), ("redshift:GetClusterCredentials", mint))
        keys.after_mint = lambda: None
        return client

    def mint(self, client, caller=None, role_arn=None) -> Credential:
        request = MintRequest.of(build_spec(cluster(role_arn=role_arn), "analytics", client._settings))
        return client.mint(request, caller)

    def test_a_credential_is_labelled_with_the_identity_that_signed(self, client, keys):
        labels = {self.mint(client).minted_by}
        keys.replace("K2", LOW)
        credential = self.mint(client)
        assert (labels, credential.minted_by, credential.password) == ({HIGH}, LOW, f"of {LOW}")

    def test_keys_that_are_replaced_right_after_the_call_do_not_count(self, client, keys):
        keys.after_mint = lambda: (keys.replace("K2", LOW), sign_elsewhere(client))
        credential = self.mint(client)
        assert (credential.minted_by, credential.password, keys.asked) == (HIGH, f"of {HIGH}", ["K1"])

    def test_without_an_answer_of_sts_the_label_names_nobody(self, client, keys):
        client.sts_identity()
        keys.replace("K2", None)
        assert self.mint(client).minted_by == "the default AWS identity of this process"

    def test_the_caller_that_is_expected(self, client):
        caller = client.sts_identity()
        assert caller == HIGH.rpartition("/")[0]
        assert self.mint(client, caller).minted_by == HIGH

    def test_a_credential_of_another_caller_is_not_returned(self, client, keys):
        caller = client.sts_identity()
        keys.replace("K2", LOW)
        with pytest.raises(CallerChangedError):
            self.mint(client, caller)
        assert self.mint(client, client.sts_identity()).minted_by == LOW

    def test_another_session_of_the_same_role_is_the_same_caller(self, client, keys):
        caller = client.sts_identity()
        keys.replace("K2", HIGH.replace("i-1", "i-2"))
        assert self.mint(client, caller).password == f"of {HIGH.replace('i-1', 'i-2')}"

    def test_a_credential_of_nobody_knows_whom_is_not_returned(self, client, keys):
        caller = client.sts_identity()
        keys.replace("K2", None)
        with pytest.raises(AwsError, match="STS does not confirm") as caught:
            self.mint(client, caller)
        assert (caught.value.code, caught.value.host_only) == ("NotConfirmed", True)

    def test_who_was_denied_is_whose_keys_signed(self, client, keys):
        def deny():
            keys.replace("K2", LOW)
            sign_elsewhere(client)
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetClusterCredentials")

        keys.after_mint = deny
        with pytest.raises(AwsError) as caught:
            self.mint(client)
        assert caught.value.identity == HIGH

    def test_a_role_that_another_caller_assumes(self, client, keys):
        caller = client.sts_identity()
        self.mint(client, caller)
        assert self.mint(client, caller, OTHER_ROLE).minted_by == OTHER_ROLE
        keys.replace("K2", LOW)
        with pytest.raises(CallerChangedError):
            self.mint(client, caller, OTHER_ROLE)


def sign_elsewhere(client):
    """Have another thread sign a call."""
    thread = threading.Thread(target=sign, args=(client._sessions,))
    thread.start()
    thread.join()
