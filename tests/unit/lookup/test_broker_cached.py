"""What a broker returns of the nearest tier without asking AWS, and how it flushes one conn_id."""

from __future__ import annotations

import pytest

from redshift_secrets.cache import SharedTiers
from redshift_secrets.errors import PerDagCredentialsError
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.settings import Settings
from tests.support.fakes import EPOCH, FakeAws, cluster
from tests.support.helpers import all_refreshes_done
from tests.unit.cache.test_shared import Memory


class Stored(Memory):
    def clear(self, group=None):
        self.groups.pop(group, None)


@pytest.fixture
def host(clock):
    return Stored(clock)


@pytest.fixture
def aws(clock):
    return FakeAws(clock, [cluster(tags={"airflow:conn-id": "b a"}), cluster("bi", {"airflow:conn-id": "bi"})])


@pytest.fixture
def new_process(aws, host):
    def new_process(**settings):
        return Broker(
            Settings.from_kwargs(settings),
            aws,
            mask=lambda _password, _expires_at: None,
            tiers=SharedTiers([host], clock=aws.clock),
            clock=aws.clock,
            rand=lambda: 0.0,
        )

    return new_process


def look_up(broker, conn_id):
    password = broker.connection(conn_id).password
    all_refreshes_done()
    return password


def test_an_empty_tier_has_no_catalog_and_no_connections(new_process, aws):
    assert new_process().cached() == (None, [])
    assert aws.calls == {}


def test_it_returns_the_catalog_with_its_deadlines_and_the_credential_of_each_connection(new_process, aws):
    look_up(new_process(), "a")
    aws.calls.clear()
    snapshot, connections = new_process().cached()
    assert (snapshot.stale_at, set(snapshot.value.claims)) == (EPOCH + 300, {"a", "b", "bi"})
    found = [(each.spec.conn_id, each.credential and each.credential.value.password) for each in connections]
    assert found == [("a", "password-1"), ("b", "password-1"), ("bi", None)]
    assert aws.calls == {}


def test_flushing_a_conn_id_removes_its_credential_and_no_other(new_process, host, aws):
    process = new_process(db_user="etl")
    assert [look_up(process, conn_id) for conn_id in ("a", "bi")] == ["password-1", "password-2"]
    assert new_process(db_user="etl").flush([host], "a")
    assert [look_up(new_process(db_user="etl"), conn_id) for conn_id in ("bi", "a")] == ["password-2", "password-3"]
    assert aws.calls["list"] == 2


def test_flushing_an_unknown_conn_id_removes_nothing(new_process, host):
    assert not new_process().flush([host], "a")
    look_up(new_process(), "a")
    groups = dict(host.groups)
    assert not new_process().flush([host], "unknown")
    assert host.groups == groups


def test_a_conn_id_with_a_credential_for_each_dag_cannot_be_flushed_alone(new_process, host):
    process = new_process(db_user="dag_{dag_id}")
    process.snapshot(process.deadline())
    all_refreshes_done()
    with pytest.raises(PerDagCredentialsError, match="'a' has a credential for each DAG"):
        new_process(db_user="dag_{dag_id}").flush([host], "a")
