"""The audit of a backend as Airflow constructs it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time

import pytest

from redshift_secrets.airflow import refusals
from tests.support.airflow_parts import Refusal, used
from tests.support.fakes import Clock, FakeAws, cluster, denied
from tests.support.helpers import all_refreshes_done, in_child
from tests.unit.lookup.test_audit import BrokenAudit
from tests.unit.test_backend import backend_of, clean_maskers  # noqa: F401  # a fixture

pytestmark = pytest.mark.airflow


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


@pytest.fixture
def aws():
    return FakeAws(Clock(time.time()), [cluster()])


def events(path, *names):
    found = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [tuple(event.get(name) for name in names) for event in found]


def refused(backend, conn_id="analytics", team_name=None):
    with pytest.raises(Refusal) as caught:
        used(backend.get_connection(conn_id, team_name))
    return str(caught.value)


def test_a_task_leaves_a_mint_and_a_line_for_each_connection_and_no_password(path, aws, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "sales")
    monkeypatch.setenv("AIRFLOW_CTX_TASK_ID", "load")
    backend = backend_of(aws, audit=str(path))
    found = [backend.get_connection("analytics") for _ in range(3)]
    backend.get_connection("smtp_default")
    assert events(path, "event", "tier", "dag_id", "task_id") == [
        ("minted", None, None, None),
        ("served", "aws", "sales", "load"),
        ("served", "process", "sales", "load"),
        ("served", "process", "sales", "load"),
    ]
    assert len(set(events(path, "password"))) == 1
    assert found[0].password not in path.read_text("utf-8")


def test_a_lookup_in_an_event_loop_is_one_line_too(path, aws):
    backend = backend_of(aws, audit=str(path))

    async def look_up():
        for _ in range(2):
            await backend.aget_connection("analytics")

    asyncio.run(look_up())
    all_refreshes_done()
    assert sorted(events(path, "event", "tier")) == [("minted", None), ("served", "aws"), ("served", "process")]


def test_each_way_of_being_refused_is_a_line_with_the_team_that_asked(path, aws):
    aws.mint_error = denied("redshift:GetClusterCredentials")
    backend = backend_of(aws, audit=str(path))
    message = refused(backend, team_name="finance")
    assert events(path, "event", "conn_id", "code", "team", "message") == [
        ("refused", "analytics", "AccessDenied", "finance", message)
    ]
    backend.get_connection(f"{refusals.EXPLAIN_PREFIX}analytics", "finance")
    (line,) = path.read_text("utf-8").splitlines()  # the same refusal, which is only counted
    assert json.loads(line)["conn_id"] == "analytics"


def test_what_cannot_be_looked_up_at_all_is_a_refusal_too(path, aws):
    backend = backend_of(aws, audit=str(path), managed_conn_ids="^analytics$")
    backend._create_broker = None
    backend._settings_key = "there is none"
    assert "cannot be looked up" in refused(backend)
    assert events(path, "event", "conn_id", "warehouse") == [("refused", "analytics", None)]


def test_an_audit_that_raises_changes_no_answer(aws):
    aws.mint_error = denied("redshift:GetClusterCredentials")
    backend = backend_of(aws)
    backend._audit = BrokenAudit()
    assert "AccessDenied" in refused(backend)


def test_an_audit_that_cannot_be_had_changes_no_answer(path, aws, monkeypatch, caplog):
    monkeypatch.setattr("redshift_secrets.lookup.wiring.audit_key", None)
    backend = backend_of(aws, audit=str(path))
    assert backend.get_connection("analytics").login == "IAMR:airflow"
    assert "there is no audit: an unexpected TypeError" in caplog.messages


def test_a_child_that_is_forked_after_a_lookup_writes_its_own_lines(path, aws):
    backend = backend_of(aws, audit=str(path))
    backend.get_connection("analytics")
    child = in_child(lambda: (backend.get_connection("analytics"), __import__("os").getpid())[1])
    *_, (event, tier, pid) = events(path, "event", "tier", "pid")
    assert (event, tier, pid) == ("served", "process", child)


def test_a_site_without_an_audit_loads_none_of_it():
    script = (
        "import sys, redshift_secrets.backend;"
        "print([name for name in sys.modules if name.startswith('redshift_secrets') and 'audit' in name])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
