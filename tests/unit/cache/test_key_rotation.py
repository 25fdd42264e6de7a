"""Keys of the host's store: the first seals, all open, and Airflows with other keys do not disturb each other."""

from __future__ import annotations

import json
import re

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.lookup.wiring import LazyAwsClient, create_broker, create_stores
from redshift_secrets.settings.settings import Settings
from tests.support.fakes import FakeAws, cluster
from tests.support.helpers import all_refreshes_done

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))


@pytest.fixture
def aws(clock):
    return FakeAws(clock, [cluster()])


@pytest.fixture
def ask(aws, tmp_path, clock):
    def ask(*keys):
        """What a new process of a site with these keys is answered."""
        settings = Settings.from_kwargs({"cache": json.dumps({"path": str(tmp_path / "store"), "key": ",".join(keys)})})
        stores = create_stores(settings, LazyAwsClient(settings), airflow_keys=None, clock=clock)
        fields = create_broker(settings, stores, on_secret=lambda _: None, aws=aws, clock=clock).connection("analytics")
        all_refreshes_done()
        return fields.password

    return ask


def test_a_key_that_is_replaced_costs_no_mint(ask, aws, clock):
    first = ask(OLD)
    assert [ask(NEW, OLD), ask(OLD), ask(NEW, OLD)] == [first] * 3
    assert aws.calls["mint"] == 1
    clock.pass_(1900)
    ask(NEW, OLD)  # renews behind, under the new key
    renewed = ask(NEW, OLD)
    assert renewed != first
    assert ask(NEW) == renewed  # the old key may go
    assert aws.calls["mint"] == 2


def test_two_sites_with_keys_of_their_own_leave_each_other_alone(ask, aws):
    one, other = ask(OLD), ask(OTHER)
    assert one != other
    assert [ask(OLD), ask(OTHER), ask(OLD)] == [one, other, one]
    assert aws.calls["mint"] == 2


def test_no_key_is_in_the_store(ask, tmp_path):
    ask(NEW, OLD)
    content = b"".join(path.read_bytes() for path in (tmp_path / "store").iterdir())
    assert not re.search("|".join(map(re.escape, (OLD, NEW))).encode(), content)
