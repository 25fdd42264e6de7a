"""What this package reads of Airflow's configuration, in every supported version.

Airflow's modules are imported when they are used: this one is loaded while `airflow.configuration` is being imported.
https://airflow.apache.org/docs/apache-airflow/stable/configurations-ref.html
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from redshift_secrets.cache import get_logger
from redshift_secrets.settings import values

MODULES = ("airflow.sdk.configuration", "airflow.configuration")
"""Where `conf` is, for task code (3.1 and newer) and for everything else."""

_SERVERS = frozenset(
    {"api-server", "webserver", "scheduler", "triggerer", "dag-processor", "standalone", "celery", "edge"}
)
"""Commands of Airflow that keep running: https://airflow.apache.org/docs/apache-airflow/stable/cli-and-env-variables-ref.html"""

log = get_logger(__name__)

_reading = threading.local()
"""Set while this thread reads an option that may come from a secrets backend: from this one, which is being constructed."""


def importable(*names: str) -> list[Any]:
    """Return those of the named modules that this Airflow has."""
    modules = []
    for name in names:
        try:
            modules.append(importlib.import_module(name))
        except ImportError:
            continue
    return modules


def conf() -> Any | None:
    """Return Airflow's configuration; `None` where this process has none."""
    return next((module.conf for module in importable(*MODULES)), None)


def loaded_confs() -> list[Any]:
    """Return the configurations that are loaded already. Importing one may be what is importing this package."""
    found = [vars(sys.modules[name]).get("conf") for name in MODULES if name in sys.modules]
    return [each for each in found if each is not None]


def home() -> str:
    """Return the folder of Airflow's configuration, as `airflow.configuration.get_airflow_home`, without importing Airflow."""
    return os.path.expanduser(os.path.expandvars(os.environ.get("AIRFLOW_HOME", "~/airflow")))


def fernet_keys() -> tuple[str, ...] | None:
    """Return the keys of `[core] fernet_key`, or `None` where this process has none that can be used."""
    found = conf()
    return None if found is None else _fernet_keys(found)


def lacks_fernet_keys() -> bool:
    """Whether `[core] fernet_key` is known to be missing, without importing Airflow's configuration."""
    if getattr(_reading, "now", False):
        return False  # the option comes from a secrets backend: from this one, which is being constructed
    _reading.now = True
    try:
        confs = loaded_confs()
        return bool(confs) and all(_fernet_keys(each) is None for each in confs)
    finally:
        _reading.now = False


def _fernet_keys(found: Any) -> tuple[str, ...] | None:
    try:
        return values.fernet_keys(found.get("core", "fernet_key", fallback=""))
    except ValueError:
        return None


def ignored_backend_kwargs(class_paths: frozenset[str]) -> list[str]:
    """Return a message for each raw option of kwargs that Airflow drops because it is not a JSON object.

    Airflow logs one line about it and constructs the backend without any kwargs, so every restriction would be gone. The
    section is `[workers]` or `[secrets]`, where it names one of `class_paths`. The option's text is never repeated.
    """
    if getattr(_reading, "now", False):
        return []
    _reading.now = True
    try:
        return [message for found in loaded_confs()[:1] for message in _ignored_backend_kwargs(found, class_paths)]
    finally:
        _reading.now = False


def _ignored_backend_kwargs(found: Any, class_paths: frozenset[str]) -> Iterator[str]:
    for section, backend in (("workers", "secrets_backend"), ("secrets", "backend")):
        if str(found.get(section, backend, fallback="")).strip() not in class_paths:
            continue
        raw = str(found.get(section, f"{backend}_kwargs", fallback="") or "").strip()
        if not raw:
            continue
        try:
            kind = type(json.loads(raw)).__name__
        except json.JSONDecodeError as error:
            yield (
                f"[{section}] {backend}_kwargs must be a JSON object, and it is not JSON: {error.msg} at line"
                f" {error.lineno} column {error.colno}"
            )
        else:
            if kind != "dict":
                yield f"[{section}] {backend}_kwargs must be a JSON object, not a {kind}"


def is_server(argv: Sequence[str]) -> bool:
    """Whether a process with these arguments is one that Airflow keeps running, and neither a task nor a command."""
    return argv[1:2] != [] and argv[1] in _SERVERS


@functools.cache
def warn_of_unbounded_claims() -> None:
    """Log, once in a process and all that are forked from it, that `managed_conn_ids` is not set."""
    log.warning(
        "redshift-secrets: managed_conn_ids is not set, so anybody who can tag a warehouse can claim any conn_id, aws_default"
        ' too. Set it in backend_kwargs to the conn_ids that belong to this backend, such as "^(analytics|dw_)"'
    )


def airflow_cache_ttl_seconds() -> int:
    """Return for how long Airflow itself keeps the answer of a backend: `[secrets] cache_ttl_seconds`, 0 when it does not."""
    found = conf()
    if found is None or not found.getboolean("secrets", "use_cache", fallback=False):
        return 0
    return int(found.getint("secrets", "cache_ttl_seconds", fallback=900))


def has_teams() -> bool:
    """Whether `[core] multi_team` is on (Airflow 3.2 and newer)."""
    found = conf()
    return found is not None and bool(found.getboolean("core", "multi_team", fallback=False))


def is_api_server_or_scheduler() -> bool:
    """Whether this process is one of these two itself: not one that runs the code of a DAG, nor what a scheduler has started.

    Nothing in Airflow says so, and what it puts into the environment is inherited. An API server has loaded its application, in
    however many workers of whatever web server; a scheduler has the command line, which its children have, too.
    """
    if in_task():
        return False
    if "airflow.api_fastapi.main" in sys.modules:
        return True
    import multiprocessing  # few processes come here

    return sys.argv[1:2] == ["scheduler"] and multiprocessing.parent_process() is None


def in_task() -> bool:
    """Whether this process has a supervisor: that of a task, of triggers or of a DAG file, which may have been forked from a
    server's."""
    return hasattr(sys.modules.get("airflow.sdk.execution_time.task_runner"), "SUPERVISOR_COMMS")


def configured_backends() -> list[Any]:
    """Return the secrets backends of this site: those of `[secrets]`, then that of `[workers]`.

    Raises what their constructors raise.
    """
    configuration = importlib.import_module("airflow.configuration")
    backends = [*configuration.secrets_backend_list]
    make = configuration.get_custom_secret_backend
    # Airflow 2 has no [workers] secrets_backend.
    if "worker_mode" in inspect.signature(make).parameters and configuration.conf.get(
        "workers", "secrets_backend", fallback=""
    ):
        backends.append(make(worker_mode=True))
    return backends
