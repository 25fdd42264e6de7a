"""The Airflow DAG of the team marketing."""

from __future__ import annotations

from tests.integration.teams.lookups import create_dag

dag = create_dag("marketing")
