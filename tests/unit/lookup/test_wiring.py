"""One broker for each caller and configuration, and no call to AWS as another caller than the lookup is for."""

from __future__ import annotations

import base64
import threading

import pytest

from redshift_secrets.errors import CallerChangedError
from redshift_secrets.lookup import wiring
from redshift_secrets.settings import Settings
from tests.support.fakes import FakeAws, cluster
from tests.support.helpers import Crowd, Site, all_refreshes_done
from tests.support.memory_store import MemoryStore, tier

KEY = base64.urlsafe_b64encode(bytes(32)).decode()

CALLS = {
    "default_region": lambda client: client.default_region(),
    "list": lambda client: client.list(None, None),
    "describe": lambda client: client.describe(cluster()),
    "mint": lambda client: client.mint(None),
    "sts_identity": lambda client: client.sts_identity(),
}


@pytest.fixture
def environ():
    return {"HOME": "/nowhere", "AWS_PROFILE": "etl"}


def client_of(environ, created=None):
    client = wiring.LazyAwsClient(Settings(), wiring.caller_fingerprint(environ), environ=environ)
    client._created = created
    return client


@pytest.mark.parametrize("call", CALLS)
def test_once_the_environment_names_another_caller_no_call_is_made(environ, call):
    client = client_of(environ, created=object())  # on which every call would raise AttributeError
    with pytest.raises(AttributeError):
        CALLS[call](client)
    environ["AWS_PROFILE"] = "other"
    with pytest.raises(CallerChangedError, match="another AWS identity"):
        CALLS[call](client)


def test_nothing_is_stored_for_the_caller_that_was(environ, clock):
    aws, host = FakeAws(clock, [cluster()]), MemoryStore(clock)
    here = Site(clock, aws=client_of(environ, created=aws), tiers=[tier(host)])
    environ["AWS_PROFILE"] = "other"
    assert here.ask() is None
    all_refreshes_done()
    assert list(host.entries()) == []
    assert aws.calls == {}


def test_a_mint_for_the_caller_that_was_is_refused(environ, clock):
    aws, host = FakeAws(clock, [cluster()]), MemoryStore(clock)
    here = Site(clock, aws=client_of(environ, created=aws), tiers=[tier(host)])
    here.ask("other")
    stored = set(host.entries())
    environ["AWS_PROFILE"] = "other"
    assert str(CallerChangedError()) in here.refusal()
    all_refreshes_done()
    assert aws.calls["mint"] == 0
    assert set(host.entries()) == stored


class TestBrokers:
    @pytest.fixture
    def counted(self, monkeypatch):
        """How often the caller was determined."""
        found, determine = [], wiring.caller_fingerprint
        monkeypatch.setattr(wiring, "caller_fingerprint", lambda *args: found.append(1) or determine(*args))
        return found

    def test_each_caller_and_each_configuration_has_its_own(self, environ):
        created = []

        def get(settings_key):
            return wiring.get_or_create_broker(settings_key, lambda caller: created.append(caller) or object(), environ)

        one = get("a")
        assert get("a") is one
        assert get("b") is not one
        environ["AWS_PROFILE"] = "other"
        assert get("a") is not one
        assert len(created) == 3
        assert len(set(created)) == 2

    def test_an_existing_one_is_found_without_creating_it(self, environ):
        assert wiring.existing_broker("a", environ) is None
        broker = wiring.get_or_create_broker("a", lambda _caller: object(), environ)
        assert wiring.existing_broker("a", environ) is broker

    def test_the_caller_is_determined_once_for_a_broker_that_is_created(self, environ, counted):
        wiring.get_or_create_broker("a", lambda _caller: object(), environ)
        assert len(counted) == 1


class TestFleet:
    def test_one_process_asks_sts_for_all_of_its_host(self, tmp_path, clock):
        """Short tasks would otherwise load boto3 and ask before each look into the fleet store."""
        environ = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "secret"}
        asked = []

        class Sts:
            def sts_identity(self):
                asked.append("sts")
                return "arn:aws:sts::1:assumed-role/etl"

            def ask_identity(self):
                pytest.fail("the keys are in the environment: there are no others to look for")

            def expect(self, identity):
                pass

        def fleet_of_a_new_process(folder):
            cache = {"path": str(tmp_path / folder), "redis_url": "redis://nowhere", "key": KEY}
            settings = Settings.from_kwargs({"cache": cache})
            _host, fleet = wiring.create_tiers(
                settings, wiring.caller_fingerprint(environ), Sts(), airflow_keys=None, clock=clock, environ=environ
            )
            return fleet

        places = {fleet_of_a_new_process("host").place("catalog") for _ in range(3)}
        assert asked == ["sts"]
        assert places == {fleet_of_a_new_process("other-host").place("catalog")}
        assert asked == ["sts"] * 2

    @pytest.mark.parametrize(("host", "seconds"), [(True, 1.0), (False, 0.25)])
    def test_redis_is_given_up_later_where_only_refreshes_wait_for_it(
        self, tmp_path, clock, monkeypatch, host, seconds
    ):
        """One that gives it up asks AWS, beside those of all other hosts, and that takes longer."""
        created = []
        monkeypatch.setattr(
            "redshift_secrets.cache.redis.store.RedisStore",
            lambda *_args, patience_seconds, **_options: created.append(patience_seconds),
        )
        cache = {"path": str(tmp_path / "host"), "host": host, "redis_url": "redis://nowhere", "key": KEY}
        settings = Settings.from_kwargs({"cache": cache})
        aws = wiring.LazyAwsClient(settings, "caller")
        wiring.create_tiers(settings, "caller", aws, airflow_keys=None, clock=clock, environ={})
        assert created == [seconds]


def test_threads_that_come_first_at_the_same_time_share_one_client(environ, monkeypatch):
    """Each client reads megabytes of service models: 24 scopes that are listed at once would read them 24 times."""
    client, together = client_of(environ), threading.Barrier(4)

    class Created:
        def default_region(self):
            return self

    def create():
        together.wait(30)
        return Created()

    monkeypatch.setattr(client, "_new_client", create)
    answers = Crowd(4, client.default_region).outcomes()
    assert len(set(map(id, answers))) == 1
