"""Credentials of other processes, of processes whose Airflow keeps them, and of admins, which may be rotated."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.support.fakes import FakeAws, denied
from tests.support.memory_store import MemoryStore, tier
from tests.unit.lookup.test_credentials import REQUEST, get, make_credentials, password


@pytest.fixture
def aws(clock):
    return FakeAws(clock)


class TestStore:
    @pytest.mark.parametrize(
        "content", [b"", b"\xff", b"\xc0", b"\x90", b"\x80", b'{"user": "x"}', b"\x81\xa4user\xa1x"]
    )
    def test_a_row_that_carries_no_credential_is_a_miss(self, aws, clock, content):
        store = MemoryStore(clock)
        password(make_credentials(aws, tiers=[tier(store)]))
        (group,) = store.entries()
        rows, *times = store.groups[group]
        ages = rows["credential"][:32]
        store.groups[group] = ({"credential": ages + content}, *times)
        assert password(make_credentials(aws, tiers=[tier(store)])) == "password-2"

    def test_every_field_of_a_credential_survives_a_store(self, aws, clock):
        tiers = [tier(MemoryStore(clock))]
        minted = get(make_credentials(aws, tiers=tiers))
        assert get(make_credentials(aws, tiers=tiers)) == minted
        assert aws.calls["mint"] == 1


class TestAdminSecret:
    """Its password may be rotated at any moment, and Secrets Manager gives it no expiry: it is as old as tags may be."""

    TTL = 300
    SECRET = replace(REQUEST, auth="secret")

    def test_it_is_read_again_behind_the_lookup_after_the_ttl_of_the_catalog(self, aws, clock):
        credentials = make_credentials(aws)
        assert password(credentials, self.SECRET) == "password-1"
        clock.pass_(self.TTL - 0.001)
        assert password(credentials, self.SECRET) == "password-1"
        assert aws.calls["mint"] == 1
        clock.pass_(0.001)
        assert password(credentials, self.SECRET) == "password-1"
        assert password(credentials, self.SECRET) == "password-2"

    def test_after_three_times_that_a_lookup_waits_for_it(self, aws, clock):
        credentials = make_credentials(aws)
        password(credentials, self.SECRET)
        clock.pass_(3 * self.TTL)
        assert password(credentials, self.SECRET) == "password-2"

    def test_where_it_cannot_be_read_the_old_one_is_used(self, aws, clock):
        credentials = make_credentials(aws)
        password(credentials, self.SECRET)
        aws.mint_error = denied("secretsmanager:GetSecretValue")
        clock.pass_(3000)
        assert password(credentials, self.SECRET) == "password-1"

    def test_it_follows_the_setting(self, aws, clock):
        credentials = make_credentials(aws, catalog_ttl_seconds=60)
        password(credentials, self.SECRET)
        clock.pass_(180)
        assert password(credentials, self.SECRET) == "password-2"

    def test_no_other_credential_is_minted_more_often_for_it(self, aws, clock):
        credentials = make_credentials(aws)
        password(credentials)
        clock.pass_(3 * self.TTL)
        password(credentials)
        assert aws.calls["mint"] == 1


class TestAirflowCacheTtl:
    """Airflow's DAG processor caches connections, its tasks do not; both share a host."""

    @pytest.fixture
    def tiers(self, clock):
        return [tier(MemoryStore(clock))]

    def test_a_credential_of_another_process_that_expires_too_soon_is_not_used(self, aws, clock, tiers):
        assert password(make_credentials(aws, tiers=tiers)) == "password-1"
        clock.pass_(2400)
        caching = make_credentials(aws, tiers=tiers, airflow_cache_ttl_seconds=1200)
        assert password(caching) == "password-2"
        assert password(make_credentials(aws, tiers=tiers)) == "password-2"
        assert aws.calls["mint"] == 2

    def test_a_credential_of_another_process_that_is_valid_for_long_enough_is_used(self, aws, clock, tiers):
        password(make_credentials(aws, tiers=tiers))
        clock.pass_(1799)
        assert password(make_credentials(aws, tiers=tiers, airflow_cache_ttl_seconds=1200)) == "password-1"

    def test_processes_that_do_not_cache_use_it_as_long_as_before(self, aws, clock, tiers):
        assert password(make_credentials(aws, tiers=tiers, airflow_cache_ttl_seconds=3590)) == "password-1"
        clock.pass_(1799)
        assert password(make_credentials(aws, tiers=tiers)) == "password-1"
        assert aws.calls["mint"] == 1

    def test_a_ttl_above_the_validity_counts_as_half_of_the_validity(self, aws, clock, tiers):
        caching = make_credentials(aws, tiers=tiers, airflow_cache_ttl_seconds=4000)
        assert password(caching) == "password-1"
        clock.pass_(1799)
        assert password(caching) == "password-1"
        clock.pass_(1)
        assert password(caching) == "password-2"
