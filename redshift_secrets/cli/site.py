"""The configuration of this site, read the way Airflow reads it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

from redshift_secrets.airflow import compat
from redshift_secrets.cache.bound import BoundStore
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.lookup.wiring import LazyAwsClient, create_broker, create_stores
from redshift_secrets.settings.settings import Settings

_HINT = """no Airflow configuration here names redshift-secrets as its secrets backend. Add to airflow.cfg

    [secrets]
    backend = redshift_secrets.RedshiftSecretsBackend
    backend_kwargs = {"regions": ["eu-west-1"], "db_user": "airflow_etl"}

or set AIRFLOW__SECRETS__BACKEND and AIRFLOW__SECRETS__BACKEND_KWARGS."""


class NotConfiguredError(Exception):
    """Airflow on this machine does not use us."""


def site_settings() -> Settings:
    """Return the settings of the backend that Airflow has: of `[secrets]`, else of `[workers]`.

    Raises `NotConfiguredError`, or `SettingsError` for a configuration with mistakes.
    """
    from airflow import configuration

    from redshift_secrets.backend import RedshiftSecretsBackend

    # Airflow logs to standard output, which is for what this command was asked for. What we would log, it says itself.
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, format="%(message)s", force=True)
    backends: list[Any] = [*configuration.secrets_backend_list, compat.backend_of_workers()]
    for backend in backends:
        if isinstance(backend, RedshiftSecretsBackend):
            return backend.settings
    raise NotConfiguredError(_HINT)


def site_broker(stores: Sequence[BoundStore] = ()) -> Broker:
    """Return a broker for this site. Without stores it asks AWS for everything: what a command shows is what is."""
    return create_broker(site_settings(), stores, on_secret=compat.mask)


def site_stores() -> tuple[BoundStore, ...]:
    """Return the tiers that this site shares among its processes, from near to far."""
    settings = site_settings()
    stores = create_stores(settings, LazyAwsClient(settings), airflow_keys=compat.fernet_keys())
    for store in stores:
        store.get_ready()
    return stores
