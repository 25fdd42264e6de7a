"""Where the time of a first lookup goes: the profile below its row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench import processes
from bench.figures import Line, NotMeasuredError, Spread, paired, percent, seconds

_FOREIGN_PARTS = {
    "the password is registered with Airflow's two maskers": (
        "redshift_secrets.lookup.credentials:Credentials._mask_password",
    ),
    "sqlite3 is opened and read twice": ("redshift_secrets.cache.host.database:select",),
    "Fernet takes the keys and opens three rows": (
        "redshift_secrets.cache.sealing:Seal.__init__",
        "redshift_secrets.cache.sealing:Seal.open",
    ),
    "Airflow's configuration is asked for keys, caching and metrics": (
        "redshift_secrets.airflow.configuration:conf",
        "redshift_secrets.airflow.configuration:fernet_keys",
        "redshift_secrets.airflow.configuration:airflow_cache_ttl_seconds",
        "redshift_secrets.backend:metrics",
    ),
    "Airflow's Connection is built": ("redshift_secrets.airflow.connection:build",),
    "Airflow's logging writes the line that a task's log has": ("redshift_secrets.lookup.broker:log.info",),
}
"""Parts that are nearly all code of others, by the functions of this package that call it."""

_OWN_PARTS = {
    "the key is read, stores and broker are created": (
        "redshift_secrets.lookup.wiring:create_tiers",
        "redshift_secrets.lookup.wiring:create_broker",
    ),
    "the caller is determined from environment and AWS files": ("redshift_secrets.lookup.wiring:caller_fingerprint",),
    "rows become connection specs, spec and credential a connection": (
        "redshift_secrets.lookup.catalog:listing_from_rows",
        "redshift_secrets.lookup.connection_fields:with_credential",
    ),
}

_LEFT = "all the rest"


def lines(
    request: dict[str, Any], environment: dict[str, str], rounds: int, *, limit: float, loads_boto3: bool
) -> Sequence[Line]:
    """Return the line of a first lookup on a warm host against the part of it that is code of others, and one for each part:
    in median seconds, and as a share of the whole."""
    request = {**request, "parts": {**_FOREIGN_PARTS, **_OWN_PARTS}}
    reports = [processes.ask("parts", request, environment) for _ in range(rounds)]
    if not all(report["answered"] for report in reports):
        raise NotMeasuredError("the backend did not answer while it was profiled")
    whole = [report["whole"] for report in reports]
    spreads = {part: Spread.of([report["parts"][part] for report in reports]) for part in request["parts"]}
    spreads[_LEFT] = Spread.of([report["whole"] - sum(report["parts"].values()) for report in reports])
    against = paired(
        "first lookup in a new process on a warm host, against its part that is Airflow's, OpenSSL's and sqlite's own",
        whole,
        [sum(report["parts"][part] for part in _FOREIGN_PARTS) for report in reports],
        limit=limit,
        condition=not loads_boto3,
        note=", boto3 not imported",
    )
    median = Spread.of(whole).median
    return [
        against,
        *(Line(f"- {part}", each.show(seconds), ratio=percent(each.median / median)) for part, each in spreads.items()),
    ]
