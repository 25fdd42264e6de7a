"""Where the time of a first lookup goes: the profile below its row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench import processes
from bench.figures import Line, NotMeasuredError, Spread, percent, seconds, times

_FOREIGN_PARTS = {
    "the password is registered with Airflow's two maskers": (
        "redshift_secrets.lookup.credentials:Credentials._mask_password",
    ),
    "sqlite3 is opened and read twice": ("redshift_secrets.cache.host.database:select",),
    "Fernet opens five rows": ("redshift_secrets.cache.sealing:Seal.open",),
    "Airflow's configuration is asked for keys, caching and metrics": (
        "redshift_secrets.airflow.configuration:fernet_keys",
        "redshift_secrets.airflow.configuration:airflow_cache_ttl_seconds",
        "redshift_secrets.backend:metrics",
    ),
    "Airflow's Connection is built": ("redshift_secrets.airflow.connection:build",),
}
"""Parts that are nearly all code of others, by the functions of this package that call it."""

_OWN_PARTS = {
    "the key is read, stores and broker are created": (
        "redshift_secrets.lookup.wiring:create_stores",
        "redshift_secrets.lookup.wiring:create_broker",
    ),
    "the caller is determined from environment and AWS files": ("redshift_secrets.lookup.wiring:caller_fingerprint",),
    "rows become warehouses, tags a spec, spec and credential a connection": (
        "redshift_secrets.lookup.snapshot:claims_from_rows",
        "redshift_secrets.lookup.catalog:build_spec",
        "redshift_secrets.lookup.connection_fields:with_credential",
    ),
}

_LEFT = "all the rest"


def lines(request: dict[str, Any], environment: dict[str, str], rounds: int, peer: Spread) -> Sequence[Line]:
    """Return a line for each part of a first lookup on a warm host, in median seconds and as a share of the whole."""
    request = {**request, "parts": {**_FOREIGN_PARTS, **_OWN_PARTS}}
    reports = [processes.ask("parts", request, environment) for _ in range(rounds)]
    if not all(report["answered"] for report in reports):
        raise NotMeasuredError("the backend did not answer while it was profiled")
    whole = Spread.of([report["whole"] for report in reports]).median
    others = Spread.of([sum(report["parts"][part] for part in _FOREIGN_PARTS) for report in reports])
    spreads = {part: Spread.of([report["parts"][part] for report in reports]) for part in request["parts"]}
    spreads[_LEFT] = Spread.of([report["whole"] - sum(report["parts"].values()) for report in reports])
    floor = Line(
        "- of that, in code of others",
        own=others.show(seconds),
        peer=peer.show(seconds),
        ratio=times(others.median / peer.median),
    )
    return [
        floor,
        *(Line(f"- {part}", each.show(seconds), ratio=percent(each.median / whole)) for part, each in spreads.items()),
    ]
