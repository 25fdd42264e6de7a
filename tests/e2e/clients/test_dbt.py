"""dbt as Cosmos sets it up from the Connection, and as it runs: in another environment, since it needs another driver."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
from cosmos.profiles import RedshiftUserPasswordProfileMapping, get_automatic_profile_mapping

from redshift_secrets.local.stand_in import StandIn
from tests.e2e.clients.rows import QUERY, Row, client

DBT = Path(sys.prefix) / "dbt" / "bin" / "dbt"
PROFILE_ARGS = {"schema": "marts", "threads": 2}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A minimal project with a table, a view on it and a test."""
    files = {
        "dbt_project.yml": "name: sales\nprofile: warehouse\nmodel-paths: [models]\n",
        "models/orders.sql": "{{ config(materialized='table') }} SELECT 1 AS id, 10 AS amount UNION ALL SELECT 2, 20\n",
        "models/totals.sql": "{{ config(materialized='view') }} SELECT sum(amount) AS total FROM {{ ref('orders') }}\n",
        "models/login.sql": f"{{{{ config(materialized='table') }}}} {QUERY}\n",
        "models/schema.yml": "models:\n  - name: orders\n    columns:\n      - name: id\n        data_tests: [unique]\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def dbt(project: Path, command: str, environment: dict[str, str]) -> str:
    assert DBT.exists(), f"{DBT} is missing; `make test` installs it"
    done = subprocess.run(
        [DBT, "--no-use-colors", command, "--profiles-dir", str(project), "--project-dir", str(project)],
        env={**os.environ, **environment, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(done.stdout + done.stderr)
    return done.stdout


@client("Cosmos, `RedshiftUserPasswordProfileMapping`")
def test_cosmos_profile_mapping(row: Row, running: StandIn) -> None:
    mapping = get_automatic_profile_mapping("analytics", PROFILE_ARGS)
    assert isinstance(mapping, RedshiftUserPasswordProfileMapping)
    contents = mapping.get_profile_file_contents("warehouse", "prod")
    profile = yaml.safe_load(contents)["warehouse"]["outputs"]["prod"]
    assert {name: profile[name] for name in ("type", "user", "dbname", "schema")} == {
        "type": "redshift",
        "user": "IAM:etl",
        "dbname": "dwh",
        "schema": "marts",
    }
    assert not any(token.password in contents for token in running.tokens.minted())
    assert mapping.env_vars["COSMOS_CONN_REDSHIFT_PASSWORD"] == mapping.conn.password
    assert profile["sslmode"] == "verify-full"
    row.ran(
        "finds itself for the conn_id; the profile it writes names an environment variable, not the password; takes `sslmode` over"
    )
    row.extra(mapping.conn)


def connect(project: Path, conn_id: str) -> None:
    mapping = RedshiftUserPasswordProfileMapping(conn_id, PROFILE_ARGS)
    (project / "profiles.yml").write_text(mapping.get_profile_file_contents("warehouse"), encoding="utf-8")
    dbt(project, "debug", mapping.env_vars)


@client("`dbt-redshift`, with the profile that Cosmos writes")
def test_dbt(row: Row, project: Path) -> None:
    mapping = RedshiftUserPasswordProfileMapping("analytics", PROFILE_ARGS)
    (project / "profiles.yml").write_text(mapping.get_profile_file_contents("warehouse"), encoding="utf-8")
    assert "All checks passed!" in dbt(project, "debug", mapping.env_vars)
    row.ran("`dbt debug`")
    assert "PASS=4" in dbt(project, "build", mapping.env_vars)
    row.ran("`dbt build` of tables, a view and a test")
    hook = RedshiftSQLHook("analytics")
    assert hook.get_first("SELECT total FROM marts.totals")[0] == 30
    row.user(hook.get_first("SELECT * FROM marts.login"))
    row.extra(mapping.conn)
    row.trusts(functools.partial(connect, project))
    row.cannot("`stv_mv_info`, for which an empty view stands; materialized views")
