"""With teams on, the fleet store is for API servers and schedulers alone; docs/contract.md, "Ages"."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import subprocess
import sys
from types import ModuleType
from unittest import mock

import pytest
from cryptography.fernet import Fernet

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.airflow import configuration
from redshift_secrets.lookup import wiring
from redshift_secrets.operations.site import site_tiers
from tests.support.airflow_parts import from_airflow_3_2
from tests.support.helpers import forget_memory, in_child

pytestmark = [from_airflow_3_2, pytest.mark.attempt("read or replace another team's connections in the fleet store")]

API_SERVER = "airflow.api_fastapi.main"
RUNNER = "airflow.sdk.execution_time.task_runner"
KWARGS = {
    "regions": ["eu-west-1"],
    "cache": {"redis_url": "redis://127.0.0.1:1/0", "key": Fernet.generate_key().decode()},
}


@pytest.fixture(autouse=True)
def memory():
    forget_memory()
    yield
    forget_memory()


@pytest.fixture
def process(monkeypatch):
    """Have this process look like one of that kind."""

    def process(kind):
        monkeypatch.delitem(sys.modules, API_SERVER, raising=False)
        monkeypatch.delitem(sys.modules, RUNNER, raising=False)
        # Servers set it, and what they start inherits it.
        monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
        command, *facts = kind.split(", ")
        monkeypatch.setattr(sys, "argv", ["airflow", *command.split()])
        if "application" in facts:
            monkeypatch.setitem(sys.modules, API_SERVER, ModuleType(API_SERVER))
        if "supervised" in facts:
            runner = ModuleType(RUNNER)
            runner.SUPERVISOR_COMMS = None
            monkeypatch.setitem(sys.modules, RUNNER, runner)
        parent = object() if "started" in facts else None
        monkeypatch.setattr(multiprocessing, "parent_process", lambda: parent)

    return process


MAY = ["api-server, application", "-c from multiprocessing.spawn, application, started", "scheduler", "scheduler -D"]
MAY_NOT = [
    "scheduler, started",  # a worker of LocalExecutor, which is the supervisor of tasks
    "scheduler, started, supervised",  # a task of it
    "api-server, application, supervised",
    "celery worker",
    "celery worker, supervised",
    "dag-processor",
    "dag-processor, supervised",
    "triggerer",
    "triggerer, supervised",
    "kubernetes-executor-task",
    "dags test scheduler",
    "tasks run x",
    "connections get analytics",
    "",
]


def tiers_of(monkeypatch, multi_team, **kwargs):
    """Return the names of the tiers that a lookup of a new backend uses."""
    if multi_team is not None:
        monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", multi_team)
    backend = RedshiftSecretsBackend(**{**KWARGS, **kwargs})
    with mock.patch.object(wiring, "create_broker") as create_broker:
        backend.current_broker()
    return [tier.store.name for tier in create_broker.call_args.args[2]]


def errors(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("kind", MAY)
def test_with_teams_an_api_server_and_a_scheduler_use_it(process, monkeypatch, caplog, kind):
    process(kind)
    assert tiers_of(monkeypatch, "True") == ["host", "fleet"]
    assert errors(caplog) == []


@pytest.mark.parametrize("kind", MAY_NOT)
def test_with_teams_any_other_process_leaves_it_unused_and_says_so_once(process, monkeypatch, caplog, kind):
    process(kind)
    assert tiers_of(monkeypatch, "True") == ["host"]
    RedshiftSecretsBackend(**KWARGS).current_broker()
    (error,) = errors(caplog)
    assert "[core] multi_team is on" in error
    assert "127.0.0.1" not in error


@pytest.mark.parametrize("multi_team", ["False", None])
@pytest.mark.parametrize("kind", [*MAY, *MAY_NOT])
def test_without_teams_every_process_uses_it(process, monkeypatch, caplog, kind, multi_team):
    process(kind)
    assert tiers_of(monkeypatch, multi_team) == ["host", "fleet"]
    assert errors(caplog) == []


def test_without_a_fleet_store_there_is_nothing_to_say(process, monkeypatch, caplog):
    process("celery worker")
    assert tiers_of(monkeypatch, "True", cache={}) == ["host"]
    assert errors(caplog) == []


def test_a_process_that_may_not_use_it_opens_no_connection(process, monkeypatch, caplog):
    process("celery worker")
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    monkeypatch.setattr("redshift_secrets.cache.redis.client.connect", mock.Mock(side_effect=AssertionError))
    backend = RedshiftSecretsBackend(**KWARGS, aws_timeout_seconds=1)
    backend.get_connection("unknown")  # without AWS credentials
    assert "Redis" not in caplog.text


def test_the_child_of_a_scheduler_does_not_use_what_the_scheduler_has(process, monkeypatch):
    process("scheduler")
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    backend = RedshiftSecretsBackend(**KWARGS)
    of_scheduler = backend.current_broker()

    def child():
        process("scheduler, started, supervised")
        return backend._broker is None and backend.current_broker() is not of_scheduler

    assert in_child(child) is True
    assert backend.current_broker() is of_scheduler


def test_an_operator_reaches_it_from_a_shell(process, monkeypatch):
    process("")
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    assert [tier.store.name for tier in site_tiers(RedshiftSecretsBackend(**KWARGS).settings)] == ["host", "fleet"]


def test_a_process_without_a_configuration_of_airflow_has_no_teams(monkeypatch):
    monkeypatch.setattr(configuration, "conf", lambda: None)
    assert not configuration.has_teams()


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["scheduler"], "", True),
        ([], "import airflow.api_fastapi.main", True),
        (["triggerer"], "", False),
        (["scheduler"], "import airflow.sdk.execution_time.task_runner as r; r.SUPERVISOR_COMMS = None", False),
    ],
)
def test_in_a_new_interpreter(arguments, code, expected):
    # The names are Airflow's own: a version that renames them fails here.
    script = f"import sys, json, airflow.configuration\n{code}\nfrom redshift_secrets.airflow import configuration\n"
    script += "print(json.dumps(configuration.is_api_server_or_scheduler()))"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) is expected
