"""What `policy` says of the caller that it is given."""

from __future__ import annotations

import json

import pytest
import typer

from redshift_secrets.cli import policy
from redshift_secrets.operations import policy as policies
from tests.support.fakes import cluster
from tests.unit.operations.planned import CALLER, plan


@pytest.mark.parametrize(
    ("given", "is_session"),
    [(CALLER, False), (f" {CALLER} ", False), ("arn:aws:sts::123456789012:assumed-role/airflow/i-0", True)],
)
def test_of_a_session_the_path_of_its_role_is_not_known(monkeypatch, capsys, given, is_session):
    monkeypatch.setattr(policy, "site_settings", lambda: None)
    monkeypatch.setattr(policies, "site_policies", lambda _settings, caller: plan(cluster(), caller=caller))
    with pytest.raises(typer.Exit):
        policy.policy(caller=given)
    printed, said = capsys.readouterr()
    assert json.loads(printed)[0]["identity"] == CALLER
    assert ("if it has a path, name it by its own ARN" in said) == is_session
