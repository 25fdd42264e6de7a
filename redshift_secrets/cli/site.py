"""The configuration of this site, read the way Airflow reads it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redshift_secrets.settings import Settings

_HINT = """no Airflow configuration here names redshift-secrets as its secrets backend. Add to airflow.cfg

    [secrets]
    backend = redshift_secrets.RedshiftSecretsBackend
    backend_kwargs = {"regions": ["eu-west-1"], "db_user": "airflow_etl", "managed_conn_ids": "^(analytics|dw_)"}

or set AIRFLOW__SECRETS__BACKEND and AIRFLOW__SECRETS__BACKEND_KWARGS."""


class NotConfiguredError(Exception):
    """Airflow on this machine does not use this backend."""


@contextmanager
def stdout_for_the_result() -> Iterator[None]:
    """Have what is written to standard output go to standard error.

    Once it is configured, Airflow logs to the former with handlers of its own, at any level that its configuration names.
    """
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # one of the two is closed
        yield
        return
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


@stdout_for_the_result()
def site_settings() -> Settings:
    """Return the settings of the backend that Airflow has: of `[secrets]`, else of `[workers]`.

    Raises `NotConfiguredError`, or `SettingsError` for a configuration with mistakes.
    """
    from redshift_secrets import RedshiftSecretsBackend
    from redshift_secrets.airflow.configuration import configured_backends

    # Warnings are part of the result.
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, format="%(message)s", force=True)
    for backend in configured_backends():
        if isinstance(backend, RedshiftSecretsBackend):
            return backend.settings
    raise NotConfiguredError(_HINT)
