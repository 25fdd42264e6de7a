"""Time for Redis and STS on a busy machine, in a process that otherwise uses the package as it is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from botocore.config import Config

from redshift_secrets.aws import client
from redshift_secrets.aws.sessions import Sessions
from redshift_secrets.lookup import wiring

PATIENCE_SECONDS = 300
"""Seconds that AWS and Redis have to answer, and that a lease is valid: only something that hangs takes as long."""


def be_patient(setattr_: Callable[[object, str, Any], None] = setattr) -> None:
    """Give the stores and AWS clients that this process and its children create all the time they need."""
    create_tiers = functools.partial(
        wiring.create_tiers, redis_patience_seconds=PATIENCE_SECONDS, redis_lease_seconds=PATIENCE_SECONDS
    )
    create_client = Sessions._create_client

    def create_patient_client(
        self: Sessions, service: str, region: str, role_arn: str | None, _config: Config, keys: Any = None
    ) -> Any:
        # The configuration of every call, also of the one that asks STS for the caller's name.
        return create_client(self, service, region, role_arn, self._config(), keys)

    setattr_(wiring, "create_tiers", create_tiers)
    setattr_(client, "TAGGING_PATIENCE_SECONDS", PATIENCE_SECONDS)
    setattr_(Sessions, "_create_client", create_patient_client)
