"""What a site can watch, through whatever metrics its Airflow has (StatsD, Datadog or OpenTelemetry).

| metric | kind | tags |
| --- | --- | --- |
| `redshift_secrets.lookups` | counter | `outcome`: found, missed, refused; `tier`: the farthest one that this lookup asked |
| `redshift_secrets.mints` | counter | |
| `redshift_secrets.mint_failures` | counter | `code`: AWS's error code |
| `redshift_secrets.catalog_refreshes` | counter | |
| `redshift_secrets.age_at_use` | timer | age of the credential that a lookup returned |

The tiers are `process`, the nearest shared one (`host`, `fleet`), and `aws` for a lookup that waited for a refresh. Plain
StatsD has no tags. There their values are parts of the name: `redshift_secrets.lookups.found.host`,
`redshift_secrets.mint_failures.AccessDenied`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol

LOOKUPS = "redshift_secrets.lookups"
MINTS = "redshift_secrets.mints"
MINT_FAILURES = "redshift_secrets.mint_failures"
CATALOG_REFRESHES = "redshift_secrets.catalog_refreshes"
AGE_AT_USE = "redshift_secrets.age_at_use"


class Metrics(Protocol):
    """The part of Airflow's Stats that is used here. Its methods do not raise."""

    def incr(self, stat: str, *, tags: Mapping[str, str] | None = None) -> None:
        """Count one."""

    def timing(self, stat: str, dt: timedelta) -> None:
        """Record a duration."""


class NoMetrics:
    """Metrics of a site that has none on."""

    def incr(self, stat: str, *, tags: Mapping[str, str] | None = None) -> None:
        """Do nothing."""

    def timing(self, stat: str, dt: timedelta) -> None:
        """Do nothing."""
