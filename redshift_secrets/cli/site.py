"""The configuration of this site, read the way Airflow reads it."""

from __future__ import annotations

import logging
import sys
from typing import Any

from redshift_secrets.broker import Broker

_HINT = """no Airflow configuration here names redshift-secrets as its secrets backend. Add to airflow.cfg

    [secrets]
    backend = redshift_secrets.RedshiftSecretsBackend
    backend_kwargs = {"regions": ["eu-west-1"], "db_user": "airflow_etl"}

or set AIRFLOW__SECRETS__BACKEND and AIRFLOW__SECRETS__BACKEND_KWARGS."""


class NotConfiguredError(Exception):
    """Airflow on this machine does not use us."""


def site_broker() -> Broker:
    """Return the broker of the backend that Airflow has: of `[secrets]`, else of `[workers]`.

    Raises `NotConfiguredError`, or `SettingsError` for a configuration with mistakes.
    """
    from airflow import configuration

    from redshift_secrets.backend import RedshiftSecretsBackend

    # Airflow logs to standard output, which is for what this command was asked for. What we would log, it says itself.
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, format="%(message)s", force=True)
    backends: list[Any] = list(configuration.secrets_backend_list)
    if configuration.conf.get("workers", "secrets_backend", fallback=""):
        backends.append(configuration.get_custom_secret_backend(worker_mode=True))
    for backend in backends:
        if isinstance(backend, RedshiftSecretsBackend):
            return backend.broker
    raise NotConfiguredError(_HINT)
