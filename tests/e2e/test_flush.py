"""`redshift-secrets flush` and the processes that run meanwhile: what they have in memory does not outlive it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.cache import flushes
from redshift_secrets.cache.host import paths
from redshift_secrets.cli import site
from redshift_secrets.cli.app import main
from redshift_secrets.local.stand_in import StandIn
from redshift_secrets.lookup import wiring
from redshift_secrets.settings import Settings
from tests.e2e.processes import BOUND, SETTINGS, Process, all_at_once, fleet, host
from tests.support.helpers import forget_memory
from tests.support.redis_servers import KEY

WAREHOUSES = {"clusters": [{"identifier": "prod", "tags": {"airflow:conn-id": "analytics", "airflow:db-user": "etl"}}]}

what_is_flushed = pytest.mark.parametrize("arguments", [[], ["analytics"]], ids=["everything", "one conn_id"])


@pytest.fixture
def look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have processes look for flushes at each lookup, instead of once in 5 s."""
    monkeypatch.setattr(flushes, "_LOOK_SECONDS", 0.0)


class Service:
    """A process that looks `analytics` up before and after something that is done while it runs."""

    def __init__(self, cache: dict[str, Any], environment: dict[str, str]) -> None:
        self._both = multiprocessing.Barrier(2, timeout=BOUND)
        self._process = Process(lambda: self._run(cache), environment)
        self._process.begin()
        self._both.wait()

    def _run(self, cache: dict[str, Any]) -> Any:
        forget_memory()
        backend = RedshiftSecretsBackend(**SETTINGS, cache=cache)
        before = [backend.get_connection("analytics").password for _ in range(2)]
        self._both.wait()
        self._both.wait()
        after = [backend.get_connection("analytics").password for _ in range(2)]
        return before, after

    def outcome(self) -> Any:
        """Return the passwords of two lookups before this call, and of two after it."""
        self._both.wait()
        return self._process.outcome()


def flush(arguments: list[str], cache: dict[str, Any], environment: dict[str, str]) -> Any:
    """Run the command in a process of its own, as in a shell with this environment; return the exit code."""

    def run() -> Any:
        site.site_settings = lambda: Settings.from_kwargs({**SETTINGS, "cache": cache})
        try:
            main(["flush", *arguments])
        except SystemExit as end:
            return end.code

    (code,) = all_at_once([Process(run, environment)])
    return code


def flush_while_it_runs(service: Service, flush_now: Callable[[], Any]) -> tuple[str, str]:
    """Return the password of a running process before and after a flush."""
    assert flush_now() == 0
    (before, again), (after, again_after) = service.outcome()
    assert (before, after) == (again, again_after)
    return before, after


@pytest.mark.usefixtures("look_each_time")
@pytest.mark.parametrize("of_the_shell", [True, False], ids=["in the shell", "in the service"])
@what_is_flushed
def test_a_shell_and_a_service_mean_the_same_store_though_only_one_has_xdg_runtime_dir(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], of_the_shell: bool
) -> None:
    # The store is where it is without the setting `cache.path`, but in a folder of this test instead of /dev/shm.
    monkeypatch.setattr(wiring, "default_cache_dir", paths.default_cache_dir)
    monkeypatch.setattr(paths, "_SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(paths, "is_memory_backed", lambda _folder: True)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    with_it = {"XDG_RUNTIME_DIR": str(runtime)}
    of_shell, of_service = (with_it, {}) if of_the_shell else ({}, with_it)
    cache = {"key": KEY}
    before, after = flush_while_it_runs(Service(cache, of_service), lambda: flush(arguments, cache, of_shell))
    assert before != after
    assert [path.name for path in tmp_path.iterdir() if path != runtime] == [f"redshift-secrets-{os.geteuid()}"]
    assert list(runtime.iterdir()) == []


@pytest.mark.usefixtures("look_each_time")
@what_is_flushed
def test_with_redis_a_flush_reaches_the_processes_of_every_host(
    stand_in: StandIn, tmp_path: Path, redis: str, arguments: list[str]
) -> None:
    cache = fleet(redis)
    services = [Service(cache, host(tmp_path, name)) for name in ("here", "elsewhere")]
    assert flush(arguments, cache, host(tmp_path, "here")) == 0
    passwords = [service.outcome() for service in services]
    (before,) = {password for found, _ in passwords for password in found}
    (after,) = {password for _, found in passwords for password in found}
    assert before != after


def test_a_process_looks_for_flushes_once_in_a_while(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flushes, "_LOOK_SECONDS", BOUND)
    cache = {"key": KEY}
    before, after = flush_while_it_runs(Service(cache, {}), lambda: flush([], cache, {}))
    assert before == after
