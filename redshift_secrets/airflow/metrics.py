"""Airflow's metrics, in every supported version.

https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/logging-monitoring/metrics.html
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from redshift_secrets.airflow import configuration
from redshift_secrets.cache import get_logger
from redshift_secrets.lookup.metrics import Metrics, NoMetrics

log = get_logger(__name__)

_STATS = (
    # 3.2 and newer: task code and server code have one each, and each process starts one of them
    "airflow.sdk._shared.observability.metrics.stats",
    "airflow._shared.observability.metrics.stats",
)
_OLD_STATS = "airflow.stats"  # one for all, which starts itself


def metrics() -> Metrics:
    """Return this Airflow's metrics, or ones that do nothing where the site has none on."""
    conf = configuration.conf()
    if conf is None:
        return NoMetrics()

    def on(switch: str) -> bool:
        return bool(conf.getboolean("metrics", switch, fallback=False))

    if not any(map(on, ("statsd_datadog_enabled", "statsd_on", "otel_on"))):
        return NoMetrics()
    has_tags = on("statsd_datadog_enabled") or on("statsd_influxdb_enabled") or not on("statsd_on")
    return _AirflowStats(tags_in_names=not has_tags)


class _AirflowStats:
    """The Stats that this process has started, looked for at each call: it may be started later, or again after a fork.

    Plain StatsD has no tags and Airflow drops them, so there their values become parts of the name. A client that raises
    is reported once and changes no answer.
    """

    def __init__(self, *, tags_in_names: bool) -> None:
        self._tags_in_names = tags_in_names
        self._reported = False

    def incr(self, stat: str, *, tags: Mapping[str, str] | None = None) -> None:
        """See `Metrics`."""
        if self._tags_in_names:
            stat, tags = ".".join([stat, *(tags or {}).values()]), None
        try:
            _started_stats().incr(stat, tags=tags)
        except Exception as error:
            self._report(error)

    def timing(self, stat: str, dt: timedelta) -> None:
        """See `Metrics`."""
        try:
            _started_stats().timing(stat, dt)
        except Exception as error:
            self._report(error)

    def _report(self, error: Exception) -> None:
        if not self._reported:
            self._reported = True
            # Only its kind: the text of somebody else's error may hold anything.
            log.warning("Airflow's metrics client raises %s; lookups go on without metrics", type(error).__name__)


def _started_stats() -> Any:
    for module in (sys.modules[name] for name in _STATS if name in sys.modules):
        if getattr(module, "_factory", None) is not None:  # 3.3
            return module
        if vars(module.Stats).get("factory") is not None:  # 3.2
            return module.Stats
    for module in configuration.importable(_OLD_STATS) if not any(name in sys.modules for name in _STATS) else ():
        return module.Stats
    return NoMetrics()
