"""The task that a connection is looked up for, and its name in the warehouse's logs."""

from __future__ import annotations

import pytest

from redshift_secrets.airflow.task_context import application_name, task_context
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
