"""Keys of the host store: the first one seals, all of them open, and sites with different keys do not share."""

from __future__ import annotations

import json
import re

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.lookup.wiring import LazyAwsClient, create_broker, create_stores
from redshift_secrets.settings import Settings
from tests.support.fakes import FakeAws, cluster
from tests.support.helpers import all_refreshes_done

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))


@pytest.fixture
def aws(clock):
    return FakeAws(clock, [cluster()])


@pytest.fixture
def lookup(aws, tmp_path, clock):
    def lookup(*keys):
        """Return the password that a new process of a site with these keys gets."""
        settings = Settings.from_kwargs({"cache": json.dumps({"path": str(tmp_path / "store"), "key": ",".join(keys)})})
        stores = create_stores(settings, LazyAwsClient(settings), airflow_keys=None, clock=clock)
        broker = create_broker(settings, stores, mask=lambda *_: None, aws=aws, clock=clock)
        fields = broker.connection("analytics")
        all_refreshes_done()
        return fields.password

    return lookup


def test_replacing_a_key_costs_no_mint(lookup, aws, clock):
    first = lookup(OLD)
    assert [lookup(NEW, OLD), lookup(OLD), lookup(NEW, OLD)] == [first] * 3
    assert aws.calls["mint"] == 1
    clock.pass_(1900)
    lookup(NEW, OLD)  # starts a refresh, which seals with the new key
    second = lookup(NEW, OLD)
    assert second != first
    assert lookup(NEW) == second  # the old key is no longer needed
    assert aws.calls["mint"] == 2


def test_two_sites_with_different_keys_do_not_share(lookup, aws):
    one, other = lookup(OLD), lookup(OTHER)
    assert one != other
    assert [lookup(OLD), lookup(OTHER), lookup(OLD)] == [one, other, one]
    assert aws.calls["mint"] == 2


def test_no_key_is_in_the_store(lookup, tmp_path):
    lookup(NEW, OLD)
    content = b"".join(path.read_bytes() for path in (tmp_path / "store").iterdir())
    assert not re.search("|".join(map(re.escape, (OLD, NEW))).encode(), content)
