"""Credentials: when they are refreshed and expire, which requests share one, and that every password is masked."""

from __future__ import annotations

import threading

import pytest
from msgspec.structs import fields, replace

from redshift_secrets.cache.refresh import Refresher
from redshift_secrets.errors import AwsError, DeadlineError
from redshift_secrets.lookup.credentials import Credentials
from redshift_secrets.lookup.metrics import NoMetrics
from redshift_secrets.lookup.spec import build_spec
from redshift_secrets.model import MintRequest
from redshift_secrets.settings import Settings
from tests.support.fakes import EPOCH, FakeAws, cluster, denied, workgroup
from tests.support.helpers import BOUND, Crowd, all_refreshes_done, lookup, past_deadline, waiting
from tests.support.memory_store import MemoryStore, tier

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
    "db_roles": ("readers",),
    "session_role_arn": "arn:aws:iam::123456789012:role/airflow",
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
    "created_at": 1.0,
    "team": "bi",
}


@pytest.fixture
def aws(clock):
    return FakeAws(clock)


def make_credentials(
    aws,
    *,
    min_validity=300,
    rand=0.0,
    mask=lambda _password, _expires_at: None,
    tiers=(),
    airflow_cache_ttl_seconds=0,
    **settings,
):
    return Credentials(
        Settings.from_kwargs({"min_validity_seconds": min_validity, **settings}),
        aws,
        Refresher(tiers, clock=aws.clock, rand=lambda: rand),
        NoMetrics(),
        mask,
        airflow_cache_ttl_seconds,
    )


def get(credentials, request=REQUEST, asked=None):
    return waiting(lambda each: credentials.get(request, "analytics", each), asked).value


def password(credentials, request=REQUEST):
    """Return the password that a lookup gets, after any refresh that it started has ended."""
    credential = get(credentials, request)
    all_refreshes_done()
    return credential.password


class TestAges:
    @pytest.mark.parametrize("duration", [900, 3600])
    def test_it_is_fresh_for_half_of_its_validity_and_then_refreshed_behind_the_lookup(self, aws, clock, duration):
        credentials, request = make_credentials(aws), replace(REQUEST, duration=duration)
        assert password(credentials, request) == "password-1"
        clock.pass_(duration / 2 - 0.001)
        assert password(credentials, request) == "password-1"
        assert aws.calls["mint"] == 1
        clock.pass_(0.001)
        assert password(credentials, request) == "password-1"
        assert aws.calls["mint"] == 2
        assert password(credentials, request) == "password-2"

    @pytest.mark.parametrize(
        ("duration", "min_validity", "waits_after"),
        [(3600, 300, 3300), (900, 300, 600), (3600, 900, 2700), (3600, 3000, 600)],
    )
    def test_with_less_than_min_validity_seconds_left_a_lookup_waits_for_the_next_one(
        self, aws, clock, duration, min_validity, waits_after
    ):
        credentials, request = make_credentials(aws, min_validity=min_validity), replace(REQUEST, duration=duration)
        password(credentials, request)
        clock.pass_(waits_after - 0.001)
        assert password(credentials, request) == "password-1"
        all_refreshes_done()
        credentials = make_credentials(aws, min_validity=min_validity)
        password(credentials, request)
        clock.pass_(waits_after)
        assert password(credentials, request) == f"password-{aws.calls['mint']}"

    @pytest.mark.parametrize(("min_validity", "returned_for"), [(300, 3540), (0, 3600), (3000, 3540)])
    def test_while_aws_fails_it_is_returned_until_a_minute_before_it_expires(
        self, aws, clock, caplog, min_validity, returned_for
    ):
        credentials = make_credentials(aws, min_validity=min_validity)
        password(credentials)
        aws.mint_error = denied()
        clock.pass_(returned_for - 0.001)
        assert [password(credentials) for _ in range(3)] == ["password-1"] * 3
        assert aws.calls["mint"] == 2
        assert ("is still used" in caplog.text) == (min_validity > 0)
        clock.pass_(10)
        with pytest.raises(AwsError):
            password(credentials)

    def test_it_is_returned_at_once_to_all_but_the_first_lookup_while_aws_fails(self, aws, clock):
        credentials = make_credentials(aws)
        password(credentials)
        clock.pass_(3400)
        aws.mint_error = denied()
        waits = []
        for _ in range(3):
            asked = lookup()
            assert get(credentials, asked=asked).password == "password-1"
            waits.append(asked.tier)
        assert waits == ["aws", "process", "process"]

    def test_a_min_validity_above_the_duration_does_not_make_every_lookup_a_mint(self, aws, clock):
        # Airflow's use_cache with a tag airflow:duration = 900 comes to this.
        credentials, request = make_credentials(aws, min_validity=900), replace(REQUEST, duration=900)
        for _ in range(10):
            assert password(credentials, request) == "password-1"
        clock.pass_(450)
        assert password(credentials, request) == "password-2"
        assert aws.calls["mint"] == 2

    @pytest.mark.parametrize(("rand", "fresh_for"), [(0.0, 1800), (0.5, 1710), (1.0, 1620)])
    def test_refreshes_of_many_hosts_are_spread(self, aws, clock, rand, fresh_for):
        credentials = make_credentials(aws, rand=rand)
        password(credentials)
        clock.pass_(fresh_for - 0.001)
        password(credentials)
        assert aws.calls["mint"] == 1
        clock.pass_(0.001)
        password(credentials)
        assert aws.calls["mint"] == 2

    def test_the_expiry_is_that_of_aws_and_not_the_requested_one(self, clock):
        class ShortLived(FakeAws):
            def mint(self, request):
                return replace(super().mint(request), expires_at=self.clock() + 1000)

        aws = ShortLived(clock)
        credentials = make_credentials(aws)
        password(credentials)
        clock.pass_(500)
        password(credentials)
        assert password(credentials) == "password-2"
        clock.pass_(700)
        assert password(credentials) == "password-3"


class TestDeadline:
    def test_a_late_mint_ends_the_lookup_with_the_name_of_the_credential(self, aws):
        credentials = make_credentials(aws)
        aws.hold = threading.Event()
        with pytest.raises(
            DeadlineError, match=r"the credential of user etl on cluster prod \(123456789012, eu-west-1\)"
        ):
            get(credentials, asked=lookup(past_deadline()))
        aws.hold.set()
        all_refreshes_done()
        assert password(credentials) == "password-1"


class TestSharing:
    def test_every_field_of_a_request_is_tested_here(self):
        assert set(OTHER_VALUES) == {field.name for field in fields(MintRequest)}

    @pytest.mark.parametrize("name", OTHER_VALUES)
    def test_every_field_of_a_request_separates_credentials(self, aws, name):
        credentials = make_credentials(aws)
        other = replace(REQUEST, **{name: OTHER_VALUES[name]})
        assert password(credentials) == "password-1"
        assert password(credentials, other) == "password-2"
        assert password(credentials) == "password-1"
        assert aws.minted == [REQUEST, other]

    @pytest.mark.parametrize("warehouse", [cluster, workgroup])
    def test_conn_ids_with_the_same_login_share_a_credential(self, aws, warehouse):
        tags = {"airflow:conn-id": "a b", "airflow:conn-type/b": "postgres", "airflow:extra.sslmode/b": "require"}
        first, second = (MintRequest.of(build_spec(warehouse(tags=tags), conn_id, Settings())) for conn_id in "ab")
        credentials = make_credentials(aws)
        assert password(credentials, first) == password(credentials, second)
        assert aws.calls == {"mint": 1}

    @pytest.mark.parametrize(
        "tag", ["db-user/b = bi", "database/b = other", "db-groups/b = x", "auto-create/b = true", "duration/b = 900",
                "auth/b = iam", "auth/b = secret", "team/b = bi"]
    )  # fmt: skip
    def test_conn_ids_with_different_logins_do_not_share(self, aws, tag):
        name, _, value = tag.partition(" = ")
        tags = {"airflow:conn-id": "a b", "airflow:db-user": "etl", f"airflow:{name}": value}
        warehouse = cluster(tags=tags, admin_secret_arn="arn:aws:secretsmanager:eu-west-1:123456789012:secret:admin")
        settings = Settings(allow_admin_secret=True)
        credentials = make_credentials(aws)
        requests = [MintRequest.of(build_spec(warehouse, conn_id, settings)) for conn_id in "ab"]
        assert [password(credentials, request) for request in requests] == ["password-1", "password-2"]


class TestSecrecy:
    def test_a_password_is_masked_before_it_is_returned(self, aws):
        masked, masking, go_on = [], threading.Event(), threading.Event()

        def mask(password, _expires_at):
            masking.set()
            assert go_on.wait(BOUND)
            masked.append(password)

        credentials = make_credentials(aws, mask=mask)
        crowd = Crowd(4, lambda: (get(credentials).password, list(masked)))
        assert masking.wait(BOUND)
        with pytest.raises(DeadlineError):
            get(credentials, asked=lookup(past_deadline()))
        go_on.set()
        all_refreshes_done()
        answers = [outcome for outcome in crowd.outcomes() if not isinstance(outcome, DeadlineError)]
        assert all(outcome == ("password-1", ["password-1"]) for outcome in answers)
        assert get(credentials).password == "password-1"

    def test_each_new_password_is_masked_once_until_it_expires(self, aws, clock):
        masked = []
        credentials = make_credentials(aws, mask=lambda *arguments: masked.append(arguments))
        for _ in range(3):
            for _ in range(5):
                password(credentials)
            clock.pass_(3600)
        assert masked == [(f"password-{number}", EPOCH + number * 3600) for number in (1, 2, 3)]

    @pytest.mark.parametrize(
        ("auth", "masked_until"), [("db-user", EPOCH + 900), ("iam", EPOCH + 900), ("secret", float("inf"))]
    )
    def test_an_admin_password_is_masked_for_good_also_when_it_is_read_from_a_store(
        self, aws, clock, auth, masked_until
    ):
        # Secrets Manager may return the same password again, so it has no expiry of its own.
        request, tiers = replace(REQUEST, auth=auth, duration=900), [tier(MemoryStore(clock))]

        def masked_in_a_new_process():
            masked = set()
            password(make_credentials(aws, tiers=tiers, mask=lambda *arguments: masked.add(arguments)), request)
            return masked

        assert [masked_in_a_new_process() for _ in range(2)] == [{("password-1", masked_until)}] * 2
        assert aws.calls["mint"] == 1

    def test_a_command_that_looks_into_a_store_gets_no_password_so_that_none_has_to_be_masked(self, aws, clock):
        tiers, masked = [tier(MemoryStore(clock))], []
        password(make_credentials(aws, tiers=tiers))
        credentials = make_credentials(aws, tiers=tiers, mask=lambda *arguments: masked.append(arguments))
        ((where, entry),) = credentials.locate([REQUEST])
        assert (where, entry.value.password, entry.value.expires_at) == ("host", "", EPOCH + 3600)
        assert masked == []

    def test_a_password_that_cannot_be_masked_is_not_returned(self, aws):
        def broken(_password, _expires_at):
            raise ImportError("no masker")

        credentials = make_credentials(aws, mask=broken)
        for _ in range(2):
            with pytest.raises(ImportError, match="no masker"):
                password(credentials)

    def test_no_password_is_in_a_log_or_a_repr(self, aws, clock, caplog):
        caplog.set_level("DEBUG")
        credentials = make_credentials(aws)
        password(credentials)
        clock.pass_(1800)
        aws.mint_error = denied("redshift:GetClusterCredentials")
        password(credentials)
        assert "minted a credential" in caplog.text
        assert "could not be refreshed" in caplog.text
        assert "password-1" not in caplog.text
        assert "password-1" not in repr(get(credentials))
