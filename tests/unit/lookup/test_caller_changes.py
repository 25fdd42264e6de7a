"""A process that becomes another caller: nothing that AWS answers then is cached for the one before."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import pytest

from redshift_secrets.errors import CallerChangedError
from redshift_secrets.lookup import wiring
from redshift_secrets.lookup.caller import caller_fingerprint
from redshift_secrets.lookup.wiring import LazyAwsClient, create_tiers
from redshift_secrets.settings import Settings

pytestmark = pytest.mark.attempt("get a password that was minted for another caller")

ETL, BI = "arn:aws:sts::1:assumed-role/etl", "arn:aws:sts::1:assumed-role/bi"
KEYS = {"AWS_ACCESS_KEY_ID": "1", "AWS_SECRET_ACCESS_KEY": "s"}
INSTANCE = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}
CALLS = {
    "list": lambda client: client.list(None, None),
    "describe": lambda client: client.describe(None),
    "mint": lambda client: client.mint(None),
}


class World:
    """AWS, whose credentials belong to `identity`; `during_call` is called in the middle of each call."""

    def __init__(self) -> None:
        self.identity: str | None = ETL
        self.created = 0
        self.during_call = lambda: None

    def client(self, _settings: Settings, *, clock: Any) -> Client:
        self.created += 1
        return Client(self)


class Client:
    """An `AwsClient`, which keeps the credentials that it was created with."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.identity = world.identity

    def sts_identity(self) -> str | None:
        return self.identity

    def knows_identity(self) -> bool:
        return True

    def list(self, _scope: Any, _recall: Any) -> str:
        self.world.during_call()
        return "listed"

    def describe(self, _warehouse: Any) -> str:
        self.world.during_call()
        return "described"

    def mint(self, _request: Any, caller: str | None) -> str:
        self.world.during_call()
        if caller not in (None, self.identity):
            raise CallerChangedError()
        return f"minted as {self.identity}"


@pytest.fixture
def world(monkeypatch):
    world = World()
    monkeypatch.setattr("redshift_secrets.aws.client.AwsClient", world.client)
    return world


def client_for(environ, settings=None):
    return LazyAwsClient(settings or Settings(), caller_fingerprint(environ), environ=environ)


@pytest.mark.parametrize("call", CALLS)
class TestTheEnvironment:
    def test_that_names_another_caller_ends_calls(self, world, call):
        environ = dict(KEYS)
        client = client_for(environ)
        CALLS[call](client)
        environ["AWS_ACCESS_KEY_ID"] = "2"
        with pytest.raises(CallerChangedError):
            CALLS[call](client)

    def test_that_changes_in_the_middle_of_a_call_makes_its_answer_void(self, world, call):
        environ = dict(KEYS)
        client = client_for(environ)
        world.during_call = lambda: environ.update(AWS_ACCESS_KEY_ID="2")
        with pytest.raises(CallerChangedError):
            CALLS[call](client)

    def test_an_identity_that_changes_makes_its_answer_void_and_ends_calls(self, world, call):
        client = client_for(KEYS)
        assert client.sts_identity() == ETL
        CALLS[call](client)
        client._created.identity = BI
        with pytest.raises(CallerChangedError):
            CALLS[call](client)
        client._created.identity = ETL
        with pytest.raises(CallerChangedError):
            CALLS[call](client)

    def test_where_nothing_is_cached_by_identity_it_may_change(self, world, call):
        client = client_for(KEYS)
        CALLS[call](client)
        client._created.identity = BI
        CALLS[call](client)


def test_an_environment_that_names_another_caller_says_nothing_of_this_host(world):
    environ = dict(INSTANCE)
    client = client_for(environ)
    client.on_change = lambda: pytest.fail("the identity of the host is forgotten")
    environ["AWS_PROFILE"] = "other"
    with pytest.raises(CallerChangedError):
        CALLS["mint"](client)


@pytest.mark.parametrize("call", CALLS)
def test_a_token_of_a_login_that_botocore_renews_in_a_call_does_not_end_it(world, tmp_path, call):
    (tmp_path / "config").write_text("[default]\nsso_session = corp")
    token = tmp_path / ".aws/sso/cache" / f"{hashlib.sha1(b'corp').hexdigest()}.json"
    token.parent.mkdir(parents=True)
    environ = {"HOME": str(tmp_path), "AWS_CONFIG_FILE": str(tmp_path / "config")}
    client, before = client_for(environ), caller_fingerprint(environ)
    world.during_call = lambda: token.write_text("renewed")
    CALLS[call](client)
    CALLS[call](client)
    assert caller_fingerprint(environ) != before  # the next lookup does not know that it is the same person


def test_an_identity_that_sts_does_not_confirm_any_more_does_not_end_a_listing(world):
    client = client_for(KEYS)
    client.sts_identity()
    client._created.identity = None
    assert CALLS["list"](client) == "listed"


def test_the_next_lookup_gets_another_broker(world):
    settings, caller = Settings(), caller_fingerprint(KEYS)
    created = []

    def create(_caller):
        created.append(LazyAwsClient(settings, caller, environ=KEYS))
        return created[-1]

    get = functools.partial(wiring.get_or_create_broker, "settings", create, KEYS)
    others = wiring.get_or_create_broker("settings", create, {**KEYS, "AWS_PROFILE": "other"})
    before = get()
    assert get() is before
    before.expect(ETL)
    before.expect(ETL)
    with pytest.raises(CallerChangedError):
        before.expect(BI)
    assert get() is created[-1] is not before
    assert wiring.existing_broker("settings", {**KEYS, "AWS_PROFILE": "other"}) is others


def test_credentials_are_looked_for_anew_to_find_out_who_the_host_is(world):
    client = client_for(INSTANCE)
    assert client.ask_identity() == ETL
    assert (CALLS["mint"](client), world.created) == (f"minted as {ETL}", 1)
    world.identity = BI
    assert client.ask_identity() == BI
    assert CALLS["mint"](client) == f"minted as {ETL}"  # still signed with the keys that it has
    client.expect(BI)
    with pytest.raises(CallerChangedError):
        CALLS["mint"](client)


def test_the_identity_of_another_environment_is_not_asked_for(world):
    environ = dict(INSTANCE)
    client = client_for(environ)
    environ["AWS_PROFILE"] = "other"
    with pytest.raises(CallerChangedError):
        client.ask_identity()
    assert world.created == 0


class TestTiers:
    """As whom a process uses the host store."""

    @pytest.fixture
    def tier(self, tmp_path, world):
        def of(environ, **settings):
            configured = Settings.from_kwargs({"cache": {"path": str(tmp_path / "store")}, **settings})
            aws = client_for(environ, configured)
            (tier,) = create_tiers(configured, caller_fingerprint(environ), aws, airflow_keys=None, environ=environ)
            return tier

        return of

    def test_with_keys_nothing_is_asked(self, tier, world):
        place = tier(KEYS).place("x")
        world.identity = BI
        assert tier(KEYS).place("x") == place
        assert tier({**KEYS, "AWS_ACCESS_KEY_ID": "2"}).place("x") != place
        assert (tier(KEYS).ready, world.created) == (True, 0)

    def test_with_the_metadata_service_one_process_asks_sts(self, tier, world):
        first = tier(INSTANCE)
        assert not first.ready
        place = first.place("x")
        assert first.ready
        world.identity = BI
        assert (tier(INSTANCE).place("x"), world.created) == (place, 1)

    def test_a_call_that_is_made_as_another_identity_has_the_host_ask_again(self, tier, world, tmp_path):
        place = tier(INSTANCE).place("x")
        world.identity = BI
        settings = Settings.from_kwargs({"cache": {"path": str(tmp_path / "store")}})
        aws = client_for(INSTANCE, settings)
        (found,) = create_tiers(settings, caller_fingerprint(INSTANCE), aws, airflow_keys=None, environ=INSTANCE)
        assert found.place("x") == place
        with pytest.raises(CallerChangedError):
            aws.mint(None)
        assert tier(INSTANCE).place("x") != place

    def test_another_instance_profile_has_another_place(self, tier, tmp_path, world):
        places = {tier(INSTANCE, cache={"path": str(tmp_path / "etl")}).place("x")}
        world.identity = BI
        places.add(tier(INSTANCE, cache={"path": str(tmp_path / "bi")}).place("x"))
        assert len(places) == 2
        world.identity = None
        assert tier(INSTANCE, cache={"path": str(tmp_path / "none")}).place("x") is None

    def test_with_a_program_each_process_asks_sts(self, tier, world, tmp_path):
        (tmp_path / "config").write_text("[profile a]\ncredential_process = give-me --keys-of $TENANT")
        environ = {"AWS_CONFIG_FILE": str(tmp_path / "config")}
        first = tier(environ, profile_name="a")
        assert not first.ready
        place = first.place("x")
        assert first.ready
        assert (tier(environ, profile_name="a").place("x"), world.created) == (place, 2)
        world.identity = BI
        assert tier(environ, profile_name="a").place("x") != place
