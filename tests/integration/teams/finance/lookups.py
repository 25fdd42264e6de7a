"""The Airflow DAG of the team finance."""

from __future__ import annotations

from tests.integration.teams.lookups import create_dag

dag = create_dag("finance")
