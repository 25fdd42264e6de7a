"""From the moment a claim is known, nothing but a Connection or a refusal comes out; docs/contract.md, "Looking a conn_id up"."""

from __future__ import annotations

import pytest

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.airflow import connection, refusals
from redshift_secrets.lookup import connection_fields
from tests.support.helpers import Site

pytestmark = pytest.mark.usefixtures("no_final_refusals")

SECRET = "text of somebody else's error: hunter2-hunter2"


def fails(*_args, **_kwargs):
    raise RuntimeError(SECRET)


@pytest.fixture
def no_final_refusals(monkeypatch):
    """Refusals come as objects, as before Airflow 3.2.2."""
    monkeypatch.setattr(refusals, "authoritative_refusal", lambda: None)


@pytest.fixture
def backend(clock, monkeypatch):
    backend = RedshiftSecretsBackend(regions=["eu-west-1"])
    broker = Site(clock).broker
    monkeypatch.setattr(backend, "current_broker", lambda: broker)
    return backend


@pytest.mark.parametrize(
    "part", [(connection_fields, "with_credential"), (connection, "build"), (connection, "application_name")]
)
def test_an_unexpected_exception_is_a_refusal_that_shows_only_its_kind(backend, monkeypatch, part):
    monkeypatch.setattr(*part, fails)
    refused = backend.get_connection("analytics")
    assert isinstance(refused, refusals.RefusedConnection)
    with pytest.raises(Exception, match="RuntimeError") as caught:
        _ = refused.host
    assert "analytics" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_what_is_no_exception_passes(backend, monkeypatch):
    """Airflow's own time-out of a task is one."""

    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(connection, "build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        backend.get_connection("analytics")
