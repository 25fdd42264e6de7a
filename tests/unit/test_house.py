"""What importing and constructing the backend may do, in a process of its own. Who may import whom is checked by the
import contracts in `pyproject.toml`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import redshift_secrets

pytestmark = pytest.mark.airflow

ROOT = Path(redshift_secrets.__file__).parent

_NOT_WARM = (
    "redshift_secrets.airflow.task_context",
    "redshift_secrets.cache.recall",
    "redshift_secrets.lookup.spec",
    "redshift_secrets.lookup.tags",
)
"""What no lookup on a warm host needs: each module takes its share of the time that an import may take."""
HEAVY = ("boto3", "botocore", "redshift_connector", "sqlalchemy", "redis", *_NOT_WARM)
SETTINGS = {
    "regions": ["eu-west-1"],
    "role_arn": "arn:aws:iam::123456789012:role/airflow",
    "accounts": [{"role_arn": "arn:aws:iam::210987654321:role/airflow", "regions": ["us-east-1"]}],
    "managed_conn_ids": "^redshift_",
    "db_user": "airflow_etl",
    "extra": {"timeout": 5},
    "sslmode": "verify-ca",
    "endpoint_url": "http://127.0.0.1:9",
    "duration_seconds": "900",
}

PROBE = """
import sys, threading

HEAVY = {heavy!r}
KINDS = ("open", "socket.", "subprocess.", "sqlite3.", "os.fork", "_thread.start_new_thread", "os.mkdir", "os.remove")
did = []
watching = False


def audit(event, args):
    # An import opens files, too; what may be imported is in HEAVY.
    if watching and event.startswith(KINDS) and not str(args[:1]).endswith((".py',)", ".pyc',)", ".so',)")):
        did.append([event, repr(args[:1])])


def construct(**kwargs):
    global watching
    from redshift_secrets import RedshiftSecretsBackend

    sys.addaudithook(audit)
    watching = True
    backend = RedshiftSecretsBackend(**kwargs)
    watching = False
    return backend


def report():
    return {{
        "heavy": sorted(name for name in HEAVY if name in sys.modules),
        "threads": threading.active_count(),
        "did": did,
    }}
"""


def run(script: str, tmp_path: Path, **environment: str) -> dict[str, object]:
    """Run a script in a fresh process with an Airflow home of its own; it prints one JSON object last."""
    (tmp_path / "probe.py").write_text(PROBE.format(heavy=HEAVY), encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "_AIRFLOW", "AWS_"))}
    environment = {
        **kept,
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT.parent)]),
        **environment,
    }
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def test_airflow_can_construct_the_backend_while_its_configuration_is_being_imported(tmp_path: Path):
    # This is how every Airflow process does it. Airflow itself has not loaded SQLAlchemy by then, so what is loaded
    # after our constructor says what we did.
    (tmp_path / "probing.py").write_text(
        textwrap.dedent("""
        from airflow.secrets import BaseSecretsBackend
        import probe

        reports = []

        class Backend(BaseSecretsBackend):
            def __init__(self, **kwargs):
                import sys
                backend = probe.construct(**kwargs)
                complete = hasattr(sys.modules["airflow.configuration"], "secrets_backend_list")
                reports.append({**probe.report(), "region": backend.settings.regions, "too_late": complete})
        """),
        encoding="utf-8",
    )
    answer = run(
        "import airflow.configuration, probing, json; print(json.dumps(probing.reports[0]))",
        tmp_path,
        AIRFLOW__SECRETS__BACKEND="probing.Backend",
        AIRFLOW__SECRETS__BACKEND_KWARGS=json.dumps(SETTINGS),
    )
    assert answer == {"heavy": [], "threads": 1, "did": [], "region": ["eu-west-1"], "too_late": False}


def test_importing_and_constructing_the_backend_loads_opens_and_starts_nothing(tmp_path: Path):
    answer = run(
        f"""
        import builtins, json, sys
        import airflow.secrets  # loads Airflow as a whole, and with it whatever Airflow wants
        import probe

        before = set(sys.modules)
        asked, real = [], builtins.__import__

        def listening(name, globals=None, locals=None, fromlist=(), level=0):
            if str((globals or {{}}).get("__name__")).startswith("redshift_secrets"):
                asked.extend([name, *(f"{{name}}.{{each}}" for each in fromlist or ())])
            return real(name, globals, locals, fromlist, level)

        builtins.__import__ = listening
        probe.construct(**json.loads({json.dumps(json.dumps(SETTINGS))}))
        builtins.__import__ = real
        new = set(sys.modules) - before
        answer = probe.report()
        answer["heavy"] = sorted(new & set(probe.HEAVY))
        answer["airflow"] = sorted({{name for name in asked if name.startswith("airflow")}})
        answer["backend"] = "redshift_secrets.backend" in new
        print(json.dumps(answer))
        """,
        tmp_path,
    )
    assert answer == {
        "heavy": [],
        "threads": 1,
        "did": [],
        "airflow": ["airflow.secrets", "airflow.secrets.BaseSecretsBackend"],
        "backend": True,
    }
