"""The keeper of what is alive: the credential row of section 6 of the design."""

from __future__ import annotations

import threading

import pytest
from msgspec.structs import fields, replace

from redshift_secrets.cache import SharedTiers
from redshift_secrets.errors import AwsError, DeadlineError
from redshift_secrets.lookup import spec as specs
from redshift_secrets.lookup.credentials import Credentials
from redshift_secrets.model import MintRequest
from redshift_secrets.settings.settings import Settings
from tests.support.fakes import FakeAws, cluster, denied, workgroup
from tests.support.helpers import Crowd, WatchedDeadline, all_refreshes_done, spent
from tests.unit.cache.test_shared import Memory

REQUEST = MintRequest(
    auth="db-user",
    arn="arn:aws:redshift:eu-west-1:123456789012:cluster:prod",
    kind="cluster",
    identifier="prod",
    account="123456789012",
    region="eu-west-1",
    role_arn=None,
    database="dev",
    db_user="etl",
    db_groups=("loaders",),
    auto_create=False,
    duration=3600,
    admin_secret_arn=None,
)

OTHER_VALUES = {
    "auth": "iam",
    "arn": REQUEST.arn + "2",
    "kind": "workgroup",
    "identifier": "prod2",
    "account": "210987654321",
    "region": "us-east-1",
    "role_arn": "arn:aws:iam::210987654321:role/reader",
    "database": "other",
    "db_user": "bi",
    "db_groups": ("loaders", "admins"),
    "auto_create": True,
    "duration": 900,
    "admin_secret_arn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:admin",
    "team": "bi",
}


@pytest.fixture
def aws(clock):
    return FakeAws(clock)


def keeper(aws, *, min_validity=300, rand=0.0, on_secret=lambda _secret: None, **more):
    return Credentials(min_validity, aws, on_secret=on_secret, clock=aws.clock, rand=lambda: rand, **more)


def password(credentials, request=REQUEST):
    """The password a lookup gets, once what it set off has landed."""
    credential = credentials.found(request, WatchedDeadline())[0].value
    all_refreshes_done()
    return credential.password


class TestAges:
    @pytest.mark.parametrize("duration", [900, 3600])
    def test_fresh_until_half_of_its_life_then_renewed_behind_the_lookup(self, aws, clock, duration):
        credentials, request = keeper(aws), replace(REQUEST, duration=duration)
        assert password(credentials, request) == "password-1"
        clock.pass_(duration / 2 - 0.001)
        assert password(credentials, request) == "password-1"
        assert aws.calls["mint"] == 1
        clock.pass_(0.001)
        assert password(credentials, request) == "password-1"
        assert aws.calls["mint"] == 2
        assert password(credentials, request) == "password-2"

    @pytest.mark.parametrize(
        ("duration", "min_validity", "usable_for"),
        [(3600, 300, 3300), (900, 300, 600), (3600, 0, 3600), (3600, 900, 2700), (3600, 3000, 600)],
    )
    def test_usable_until_it_would_live_less_than_min_validity(self, aws, clock, duration, min_validity, usable_for):
        credentials, request = keeper(aws, min_validity=min_validity), replace(REQUEST, duration=duration)
        password(credentials, request)
        aws.mint_error = denied()
        clock.pass_(usable_for - 0.001)
        assert password(credentials, request) == "password-1"
        clock.pass_(10)
        with pytest.raises(AwsError):
            password(credentials, request)

    def test_more_validity_than_a_life_has_does_not_make_every_lookup_a_mint(self, aws, clock):
        # Airflow's use_cache may ask for it with a tag airflow:duration = 900.
        credentials, request = keeper(aws, min_validity=900), replace(REQUEST, duration=900)
        for _ in range(10):
            assert password(credentials, request) == "password-1"
        clock.pass_(450)
        assert password(credentials, request) == "password-2"
        assert aws.calls["mint"] == 2

    @pytest.mark.parametrize(("rand", "fresh_for"), [(0.0, 1800), (0.5, 1710), (1.0, 1620)])
    def test_renewals_of_many_hosts_are_spread(self, aws, clock, rand, fresh_for):
        credentials = keeper(aws, rand=rand)
        password(credentials)
        clock.pass_(fresh_for - 0.001)
        password(credentials)
        assert aws.calls["mint"] == 1
        clock.pass_(0.001)
        password(credentials)
        assert aws.calls["mint"] == 2

    def test_what_aws_says_of_its_end_counts_not_what_was_asked_for(self, clock):
        class Stingy(FakeAws):
            def mint(self, request):
                return replace(super().mint(request), expires_at=self.clock() + 1000)

        aws = Stingy(clock)
        credentials = keeper(aws)
        password(credentials)
        clock.pass_(500)
        password(credentials)
        assert password(credentials) == "password-2"
        clock.pass_(700)
        assert password(credentials) == "password-3"


class TestSingleFlight:
    def test_64_threads_asking_for_a_dead_credential_cause_one_mint(self, aws):
        credentials, deadline = keeper(aws), WatchedDeadline()
        aws.hold = threading.Event()
        crowd = Crowd(64, lambda: credentials.found(REQUEST, deadline)[0].value.password)
        deadline.await_waiting(64)
        aws.hold.set()
        assert crowd.outcomes() == ["password-1"] * 64
        assert aws.calls == {"mint": 1}

    def test_at_half_life_one_mints_behind_the_lookups_and_none_of_64_waits(self, aws, clock):
        credentials, deadline = keeper(aws), WatchedDeadline()
        password(credentials)
        clock.pass_(1800)
        aws.hold = threading.Event()
        assert (
            Crowd(64, lambda: credentials.found(REQUEST, deadline)[0].value.password).outcomes() == ["password-1"] * 64
        )
        assert deadline.waits == 0
        aws.hold.set()
        all_refreshes_done()
        assert aws.calls == {"mint": 2}
        assert password(credentials) == "password-2"

    def test_a_mint_that_is_late_ends_the_lookup_and_says_whose_credential_it_was(self, aws):
        credentials = keeper(aws)
        aws.hold = threading.Event()
        with pytest.raises(
            DeadlineError, match=r"the credential of user etl on cluster prod \(123456789012, eu-west-1\)"
        ):
            credentials.found(REQUEST, spent())
        aws.hold.set()
        all_refreshes_done()
        assert password(credentials) == "password-1"


class TestWhoShares:
    def test_every_field_of_a_request_is_tried_here(self):
        assert set(OTHER_VALUES) == {field.name for field in fields(MintRequest)}

    @pytest.mark.parametrize("name", OTHER_VALUES)
    def test_every_field_of_a_request_separates_credentials(self, aws, name):
        credentials = keeper(aws)
        other = replace(REQUEST, **{name: OTHER_VALUES[name]})
        assert password(credentials) == "password-1"
        assert password(credentials, other) == "password-2"
        assert password(credentials) == "password-1"
        assert aws.minted == [REQUEST, other]

    @pytest.mark.parametrize("warehouse", [cluster, workgroup])
    def test_conn_ids_that_log_in_alike_share_a_credential(self, aws, warehouse):
        tags = {"airflow:conn-id": "a b", "airflow:conn-type/b": "postgres", "airflow:extra.sslmode/b": "require"}
        first, second = (MintRequest.of(specs.build(warehouse(tags=tags), conn_id, Settings())) for conn_id in "ab")
        credentials = keeper(aws)
        assert password(credentials, first) == password(credentials, second)
        assert aws.calls == {"mint": 1}

    @pytest.mark.parametrize(
        "tag", ["db-user/b = bi", "database/b = other", "db-groups/b = x", "auto-create/b = true", "duration/b = 900",
                "auth/b = iam", "auth/b = secret", "team/b = bi"]
    )  # fmt: skip
    def test_conn_ids_that_differ_in_how_they_log_in_do_not_share(self, aws, tag):
        name, _, value = tag.partition(" = ")
        tags = {"airflow:conn-id": "a b", "airflow:db-user": "etl", f"airflow:{name}": value}
        warehouse = cluster(tags=tags, admin_secret_arn="arn:aws:secretsmanager:eu-west-1:123456789012:secret:admin")
        settings = Settings(allow_admin_secret=True)
        credentials = keeper(aws)
        got = [password(credentials, MintRequest.of(specs.build(warehouse, conn_id, settings))) for conn_id in "ab"]
        assert got == ["password-1", "password-2"]


class TestSecrecy:
    def test_a_password_is_told_to_on_secret_before_anyone_gets_it(self, aws):
        told, telling, go_on = [], threading.Event(), threading.Event()

        def on_secret(secret):
            telling.set()
            assert go_on.wait(30)
            told.append(secret)

        credentials = keeper(aws, on_secret=on_secret)
        crowd = Crowd(4, lambda: (credentials.found(REQUEST, WatchedDeadline())[0].value.password, list(told)))
        assert telling.wait(30)
        with pytest.raises(DeadlineError):
            credentials.found(REQUEST, spent())
        go_on.set()
        all_refreshes_done()
        answers = [outcome for outcome in crowd.outcomes() if not isinstance(outcome, DeadlineError)]
        assert all(outcome == ("password-1", ["password-1"]) for outcome in answers)
        assert credentials.found(REQUEST, WatchedDeadline())[0].value.password == "password-1"

    def test_each_new_password_is_told_once(self, aws, clock):
        told = []
        credentials = keeper(aws, on_secret=told.append)
        for _ in range(3):
            for _ in range(5):
                password(credentials)
            clock.pass_(3600)
        assert told == ["password-1", "password-2", "password-3"]

    def test_nobody_gets_a_password_that_could_not_be_told(self, aws):
        def broken(_secret):
            raise ImportError("no masker")

        credentials = keeper(aws, on_secret=broken)
        for _ in range(2):
            with pytest.raises(ImportError, match="no masker"):
                password(credentials)

    def test_no_password_is_in_a_log_or_a_repr(self, aws, clock, caplog):
        caplog.set_level("DEBUG")
        credentials = keeper(aws)
        password(credentials)
        clock.pass_(1800)
        aws.mint_error = denied("redshift:GetClusterCredentials")
        password(credentials)
        assert "minted a credential" in caplog.text
        assert "could not be renewed" in caplog.text
        assert "password-1" not in caplog.text
        assert "password-1" not in repr(credentials.found(REQUEST, WatchedDeadline())[0].value)


class TestProcessesWhoseAskersKeepAnswers:
    """Airflow's DAG processor keeps what it was answered, its tasks do not; both share a host."""

    @pytest.fixture
    def tiers(self, clock):
        return SharedTiers([Memory(clock)], clock=clock)

    def test_what_another_process_minted_is_passed_over_when_it_dies_too_soon(self, aws, clock, tiers):
        assert password(keeper(aws, tiers=tiers)) == "password-1"
        clock.pass_(2400)
        keeps = keeper(aws, tiers=tiers, airflow_cache_ttl_seconds=1200)
        assert password(keeps) == "password-2"
        assert password(keeper(aws, tiers=tiers)) == "password-2"
        assert aws.calls["mint"] == 2

    def test_what_lives_long_enough_is_taken(self, aws, clock, tiers):
        password(keeper(aws, tiers=tiers))
        clock.pass_(1799)
        assert password(keeper(aws, tiers=tiers, airflow_cache_ttl_seconds=1200)) == "password-1"

    def test_the_others_go_by_their_own_ages(self, aws, clock, tiers):
        assert password(keeper(aws, tiers=tiers, airflow_cache_ttl_seconds=3590)) == "password-1"
        clock.pass_(1799)
        assert password(keeper(aws, tiers=tiers)) == "password-1"
        assert aws.calls["mint"] == 1

    def test_more_than_a_life_is_half_of_it(self, aws, clock, tiers):
        keeps = keeper(aws, tiers=tiers, airflow_cache_ttl_seconds=4000)
        assert password(keeps) == "password-1"
        clock.pass_(1799)
        assert password(keeps) == "password-1"
        clock.pass_(1)
        assert password(keeps) == "password-2"
