"""What the plugin is to Airflow, and what it costs processes in which nobody looks at the page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.support.airflow_site import airflow_version

from_airflow_3_1 = pytest.mark.skipif(
    airflow_version() < (3, 1), reason="Airflow 3.1 was the first to show pages of plugins"
)

ROOT = Path(__file__).parents[3]
PROBE = """
import json, sys
import {manager} as manager

before = set(sys.modules)
from importlib.metadata import entry_points
(found,) = entry_points(group="airflow.plugins", name="redshift_secrets")
import warnings
warnings.simplefilter("error")
plugin = found.load()()
if getattr(manager, "plugins", ()) is None:  # as in 2.11 before any is loaded
    manager.plugins = []
assert manager.is_valid_plugin(type(plugin)) if hasattr(manager, "is_valid_plugin") else True
print(json.dumps([sorted(set(sys.modules) - before), [each.__module__ for each in type(plugin).__mro__]]))
"""


@pytest.mark.airflow
@pytest.mark.parametrize("manager", ["airflow.plugins_manager", "airflow.sdk.plugins_manager"])
def test_loading_it_loads_nothing_else(manager: str, tmp_path: Path) -> None:
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROBE.format(manager=manager)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    if manager.startswith("airflow.sdk") and "No module named 'airflow.sdk" in done.stderr:
        pytest.skip("this Airflow has one for all processes")
    assert done.returncode == 0, done.stderr
    loaded, bases = json.loads(done.stdout.splitlines()[-1])
    own = {"redshift_secrets", "redshift_secrets.web", "redshift_secrets.web.plugin"}
    assert {each for each in loaded if not each.startswith(("importlib", "zipp"))} <= own | {"csv", "_csv", "zipfile"}
    assert "redshift_secrets.web.plugin" in loaded
    assert any("plugins_manager" in each for each in bases)


@from_airflow_3_1
def test_airflow_mounts_the_page_and_puts_it_into_the_admin_menu() -> None:
    (found,) = entry_points(group="airflow.plugins", name="redshift_secrets")
    plugin = found.load()()
    (app,) = plugin.fastapi_apps
    assert plugin.fastapi_apps[0]["app"] is app["app"]
    (view,) = plugin.external_views
    assert view["category"] == "admin"
    assert view["href"] == app["url_prefix"].removeprefix("/") + "/"  # relative, for sub paths


@pytest.mark.skipif(airflow_version() >= (3, 1), reason="newer ones have external views")
def test_an_older_airflow_gets_no_page() -> None:
    from redshift_secrets.web import plugin

    assert plugin.RedshiftConnectionsPlugin().fastapi_apps == []
