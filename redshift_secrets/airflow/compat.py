"""What differs between the versions of Airflow. Everything is imported when it is used: see `backend.py`."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote, quote_plus

from redshift_secrets.lookup.metrics import Metrics, NoMetrics
from redshift_secrets.settings import values

# In order: the first line of which anything can be imported is the one of this Airflow.
_MASKERS = (
    # 3.1 and newer: server code and task code have one each; the task's supervisor is told by Airflow itself
    ("airflow._shared.secrets_masker", "airflow.sdk._shared.secrets_masker"),
    ("airflow.sdk.execution_time.secrets_masker",),  # 3.0; see `_add_of`
    ("airflow.utils.log.secrets_masker",),  # 2.11
)
_STATS = (
    # 3.2 and newer: task code and server code have one each, and each process starts one of them
    "airflow.sdk._shared.observability.metrics.stats",
    "airflow._shared.observability.metrics.stats",
)
_OLD_STATS = "airflow.stats"  # one for all, which starts itself
_CONFIGURATIONS = ("airflow.sdk.configuration", "airflow.configuration")


_asking = threading.local()


def mask(secret: str) -> None:
    """Tell every masker of this Airflow about a password, and about the forms it takes in a URI.

    Raises `ImportError` when this Airflow has none, since a password must not exist where logs are not kept clean.
    """
    modules = next(filter(None, map(_importable, _MASKERS)), None)
    if modules is None:
        raise ImportError(f"this Airflow has no secrets masker that redshift-secrets knows; looked for {_MASKERS}")
    for module in modules:
        add = _add_of(module)
        for form in {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}:
            add(form)


def _add_of(masker: Any) -> Callable[[str], object]:
    # That of 3.0 also writes to the supervisor, on a channel that is for the thread of the task or trigger alone: written to
    # by a renewal's thread, it mixes up the answers of both. Airflow tells the supervisor itself when it has the Connection.
    if masker.__name__ == "airflow.sdk.execution_time.secrets_masker":
        add: Callable[[str], object] = masker._secrets_masker().add_mask
        return add
    mask_secret: Callable[[str], object] = masker.mask_secret
    return mask_secret


def authoritative_refusal() -> Callable[[str], Exception] | None:
    """Return the exception that Airflow takes for a final no (task SDK 1.2.2 and newer), or `None` on older ones."""
    for module in _importable(("airflow.sdk.exceptions",)):
        refusal: Callable[[str], Exception] | None = getattr(module, "AirflowSecretsBackendAccessDenied", None)
        return refusal
    return None


def final_refusal(message: str) -> Exception | None:
    """Return the exception that ends Airflow's search for a connection, or `None` where this Airflow knows none.

    Where an API server may be asking, it is a 403 as well: of any other exception Airflow's Execution API makes a 500,
    for which a task asks again and again for half a minute.
    """
    refusal = authoritative_refusal()
    if refusal is None:
        return None
    http = _http_exceptions()
    return refusal(message) if http is None else _as_forbidden(refusal, http.HTTPException)(message)


def refusals_are_lost() -> bool:
    """Whether the text of a final refusal may never be seen by who asked, so that it has to be logged."""
    return authoritative_refusal() is None or _http_exceptions() is not None


def _http_exceptions() -> Any:
    """The exceptions of a process that may serve HTTP; `None` in a task's, which may have been forked from one."""
    in_task = hasattr(sys.modules.get("airflow.sdk.execution_time.task_runner"), "SUPERVISOR_COMMS")
    return None if in_task else sys.modules.get("starlette.exceptions")


@functools.cache
def _as_forbidden(refusal: Any, http_exception: Any) -> Callable[[str], Exception]:
    def init(self: Any, message: str) -> None:
        self.status_code, self.detail, self.headers = 403, message, None

    # It is shown by its name in logs, and is known to other processes by that of Airflow's own.
    members = {
        "__init__": init,
        "__str__": lambda self: str(self.detail),
        "__reduce__": lambda self: (refusal, (self.detail,)),
    }
    made: Callable[[str], Exception] = type(refusal.__name__, (refusal, http_exception), members)
    return made


def connection_class() -> Any:
    """Return the Connection of Airflow's server code, for versions that do not tell a backend which class to build."""
    return importlib.import_module("airflow.models").Connection


def backend_of_workers() -> Any | None:
    """Return a secrets backend as `[workers] secrets_backend` says it, `None` where there is none or Airflow 2 has no such
    option; raises what its constructor raises."""
    configuration = importlib.import_module("airflow.configuration")
    make = configuration.get_custom_secret_backend
    if "worker_mode" not in inspect.signature(make).parameters:
        return None
    return make(worker_mode=True) if configuration.conf.get("workers", "secrets_backend", fallback="") else None


def airflow_cache_ttl_seconds() -> int:
    """Return for how long Airflow itself keeps what a backend answers: `[secrets] cache_ttl_seconds`, 0 when it does not."""
    for module in _importable(_CONFIGURATIONS):
        conf = module.conf
        if conf.getboolean("secrets", "use_cache", fallback=False):
            return int(conf.getint("secrets", "cache_ttl_seconds", fallback=900))
        return 0
    return 0


def metrics() -> Metrics:
    """Return this Airflow's metrics, or ones that do nothing where the site has none on.

    https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/logging-monitoring/metrics.html
    """
    for module in _importable(_CONFIGURATIONS):

        def on(switch: str, conf: Any = module.conf) -> bool:
            return bool(conf.getboolean("metrics", switch, fallback=False))

        if not any(map(on, ("statsd_datadog_enabled", "statsd_on", "otel_on"))):
            break
        has_tags = on("statsd_datadog_enabled") or on("statsd_influxdb_enabled") or not on("statsd_on")
        return _AirflowStats(tags_in_names=not has_tags)
    return NoMetrics()


class _AirflowStats:
    """The Stats that this process has started, looked for at each call: it may be started after us, or anew after a fork.

    Plain StatsD has no tags and Airflow drops them, so there their values become parts of the name.
    """

    def __init__(self, *, tags_in_names: bool) -> None:
        self._tags_in_names = tags_in_names

    def incr(self, stat: str, *, tags: Mapping[str, str] | None = None) -> None:
        """See `Metrics`."""
        if self._tags_in_names:
            stat, tags = ".".join([stat, *(tags or {}).values()]), None
        _started_stats().incr(stat, tags=tags)

    def timing(self, stat: str, dt: timedelta) -> None:
        """See `Metrics`."""
        _started_stats().timing(stat, dt)


def _started_stats() -> Any:
    for module in (sys.modules[name] for name in _STATS if name in sys.modules):
        if getattr(module, "_factory", None) is not None:  # 3.3
            return module
        if vars(module.Stats).get("factory") is not None:  # 3.2
            return module.Stats
    for module in _importable((_OLD_STATS,)) if not any(name in sys.modules for name in _STATS) else ():
        return module.Stats
    return NoMetrics()


def fernet_keys() -> tuple[str, ...] | None:
    """Return the keys of `[core] fernet_key`, or `None` where this process has none that can be used."""
    for module in _importable(_CONFIGURATIONS):
        return _fernet_keys_of(module.conf)
    return None


def lacks_fernet_keys() -> bool:
    """Whether `[core] fernet_key` is known to be missing, without importing Airflow's configuration, which may be just
    what is importing us."""
    if getattr(_asking, "now", False):
        return False  # [core] fernet_key comes from a secrets backend: from us, who are just being made
    confs = [vars(sys.modules[name]).get("conf") for name in _CONFIGURATIONS if name in sys.modules]
    known = [conf for conf in confs if conf is not None]
    _asking.now = True
    try:
        return bool(known) and all(_fernet_keys_of(conf) is None for conf in known)
    finally:
        _asking.now = False


def _fernet_keys_of(conf: Any) -> tuple[str, ...] | None:
    try:
        return values.fernet_keys(conf.get("core", "fernet_key", fallback=""))
    except ValueError:
        return None


def _importable(names: tuple[str, ...]) -> list[Any]:
    modules = []
    for name in names:
        try:
            modules.append(importlib.import_module(name))
        except ImportError:
            continue
    return modules
