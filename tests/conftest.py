"""Shared fixtures, and an Airflow home and AWS configuration of the tests' own, so that nothing of the developer's is used.

The environment has to be set before anything imports Airflow, which reads it while it is being imported.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings

from redshift_secrets.cache.host.paths import default_cache_dir
from redshift_secrets.lookup import wiring
from tests.support import attempts, tables
from tests.support.fakes import Clock
from tests.support.helpers import Site
from tests.support.host_store import HOST_STORE

_HOME = Path(tempfile.mkdtemp(prefix="redshift-secrets-tests-"))


def _remove(owner: int = os.getpid()) -> None:
    # Not in a forked child that runs its exit handlers.
    if os.getpid() == owner:
        shutil.rmtree(_HOME, ignore_errors=True)


atexit.register(_remove)

for _name in list(os.environ):
    if _name.startswith(("AWS_", "AIRFLOW_")) or _name == "BOTO_CONFIG":
        del os.environ[_name]

_NO_AWS = _HOME / "no-aws"
_NO_AWS.touch()

os.environ.update(
    AIRFLOW_HOME=str(_HOME),
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{_HOME}/airflow.db",
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AWS_CONFIG_FILE=str(_NO_AWS),
    AWS_SHARED_CREDENTIALS_FILE=str(_NO_AWS),
    AWS_EC2_METADATA_DISABLED="true",
)
# `airflow` would write one with a key at random, which processes that run by then do not have.
(_HOME / "airflow.cfg").touch()
os.environ[HOST_STORE] = str(_HOME / "redshift-secrets")

# As if every backend of this process and its forked children had the setting `cache.path`.
mock.patch.object(
    wiring, "default_cache_dir", lambda configured: default_cache_dir(configured or os.environ[HOST_STORE])
).start()


# On a busy machine examples may take long.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def site(clock):
    return functools.partial(Site, clock)


@pytest.fixture(autouse=True)
def host_store(monkeypatch):
    """An empty host store and an empty memory for each test."""
    with tempfile.TemporaryDirectory(dir=_HOME) as folder:
        store = Path(folder) / "redshift-secrets"
        monkeypatch.setenv(HOST_STORE, str(store))
        monkeypatch.setattr(wiring, "_brokers", {})
        yield store


def pytest_addoption(parser):
    parser.addoption("--write-tables", action="store_true", help="write what was found into the tables of docs/")
    attempts.add_option(parser)


def pytest_configure(config):
    config.addinivalue_line("markers", "attempt(words): a test that makes an attempt of docs/security.md")
    config.addinivalue_line("markers", "client(name): a test that makes the row of a client in docs/clients.md")


def pytest_collection_modifyitems(config, items):
    attempts.select(config, items)


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("--attempts"):
        attempts.write_table(terminalreporter)


def pytest_sessionfinish(session, exitstatus):
    if session.config.getoption("--write-tables") and exitstatus == 0:
        tables.write_all()
