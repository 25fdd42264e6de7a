"""The task that a connection is looked up for, and its name in the warehouse's logs."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from redshift_secrets.airflow.connection import application_name
from redshift_secrets.airflow.task_context import process_kind, task_context, task_instance
from redshift_secrets.model import TaskContext


@pytest.mark.parametrize(
    ("environ", "team", "expected"),
    [
        ({}, None, TaskContext()),
        ({"AIRFLOW_CTX_DAG_ID": "sales"}, None, TaskContext("sales")),
        ({"AIRFLOW_CTX_DAG_ID": "sales", "AIRFLOW_CTX_TEAM_NAME": "bi"}, None, TaskContext("sales", "bi")),
        ({"AIRFLOW_CTX_DAG_ID": "sales", "AIRFLOW_CTX_TEAM_NAME": "bi"}, "etl", TaskContext("sales", "etl")),
        ({"AIRFLOW_CTX_DAG_ID": "", "AIRFLOW_CTX_TEAM_NAME": ""}, "", TaskContext()),
    ],
)
def test_dag_and_team_come_from_the_environment_and_the_lookups_team_comes_first(environ, team, expected):
    assert task_context(environ, team) == expected


def test_the_application_name_has_dag_and_task():
    environ = {"AIRFLOW_CTX_DAG_ID": "sales", "AIRFLOW_CTX_TASK_ID": "load.orders"}
    assert application_name(environ) == "airflow/sales/load.orders"


@pytest.mark.parametrize("environ", [{}, {"AIRFLOW_CTX_DAG_ID": "sales"}, {"AIRFLOW_CTX_TASK_ID": "load"}])
def test_outside_of_a_task_there_is_no_application_name(environ):
    assert application_name(environ) is None


def test_each_part_of_a_long_application_name_is_cut_and_other_characters_are_replaced():
    name = application_name({"AIRFLOW_CTX_DAG_ID": "d" * 250, "AIRFLOW_CTX_TASK_ID": "ünicode\n"})
    assert name == f"airflow/{'d' * 120}/?nicode?"


BY_CONTEXT = {"dag_id": "sales", "task_id": "load", "run_id": "run1", "map_index": 3, "try_number": 2}
ENVIRON = {
    "AIRFLOW_CTX_DAG_ID": "sales",
    "AIRFLOW_CTX_TASK_ID": "load",
    "AIRFLOW_CTX_DAG_RUN_ID": "run1",
    "AIRFLOW_CTX_TRY_NUMBER": "2",
}


@pytest.fixture(params=["airflow.sdk.definitions._internal.contextmanager", "airflow.models.taskinstance"])
def executing(request, monkeypatch):
    """Has Airflow, a new or an old one, execute a task instance."""

    def execute(**task):
        contexts = [{"ti": SimpleNamespace(**task)}]
        monkeypatch.setitem(sys.modules, request.param, SimpleNamespace(_CURRENT_CONTEXT=contexts))

    return execute


@pytest.fixture
def bind(monkeypatch):
    """Binds values to the log as Airflow 3 does; older ones have no structlog."""

    def bind(**bound):
        monkeypatch.setitem(sys.modules, "structlog.contextvars", SimpleNamespace(get_contextvars=lambda: bound))

    return bind


class TestTaskInstance:
    def test_outside_of_a_task_nothing_is_known(self):
        assert task_instance({}) == {}

    def test_the_context_that_airflow_executes_comes_first(self, executing, bind):
        executing(**BY_CONTEXT)
        bind(task_id="another")
        assert task_instance({"AIRFLOW_CTX_TASK_ID": "a third"}) == BY_CONTEXT

    def test_a_task_that_is_not_mapped_has_no_index(self, executing):
        executing(**{**BY_CONTEXT, "map_index": -1})
        assert task_instance({}) == {name: value for name, value in BY_CONTEXT.items() if name != "map_index"}

    def test_what_airflow_binds_to_the_log_comes_next(self, bind):
        bind(**{**BY_CONTEXT, "map_index": 0, "ti_id": "x"})
        assert task_instance({"AIRFLOW_CTX_TASK_ID": "another"}) == {**BY_CONTEXT, "map_index": 0}

    def test_else_it_is_the_environment(self, bind):
        bind(dag_id="of a listener")
        assert task_instance(ENVIRON) == {"dag_id": "sales", "task_id": "load", "run_id": "run1", "try_number": "2"}


class TestProcessKind:
    @pytest.mark.parametrize(
        ("arguments", "kind"),
        [
            (["/opt/venv/bin/airflow", "scheduler"], "scheduler"),
            (["/opt/venv/lib/airflow/__main__.py", "api-server", "--port", "1"], "api-server"),
            (["airflow", "connections", "add", "--conn-password", "hunter2"], "connections"),
            (["airflow"], "airflow"),
            (["/opt/venv/bin/redshift-secrets", "test", "analytics"], "redshift-secrets"),
            (["airflow", "a b\n" + "x" * 100], "a?b?" + "x" * 60),
            ([], ""),
            ([""], ""),
        ],
    )
    def test_it_is_the_command_and_nothing_else_of_the_command_line(self, arguments, kind):
        assert process_kind(arguments) == kind

    def test_a_process_that_executes_a_task_is_a_task_whatever_it_was_forked_from(self, executing):
        executing(**BY_CONTEXT)
        assert process_kind(["airflow", "scheduler"]) == "task"

    def test_before_it_executes_airflow_3_has_given_it_a_supervisor_as_it_does_a_triggerer(self, monkeypatch):
        runner = SimpleNamespace(SUPERVISOR_COMMS=None)
        monkeypatch.setitem(sys.modules, "airflow.sdk.execution_time.task_runner", runner)
        kinds = [process_kind(["airflow", name]) for name in ("celery", "triggerer", "dag-processor")]
        assert kinds == ["task", "triggerer", "dag-processor"]
