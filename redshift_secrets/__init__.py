"""Airflow connections for Amazon Redshift that nobody defined: tag a warehouse, run a DAG."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redshift_secrets.airflow.renewing_hook import renewing
    from redshift_secrets.backend import RedshiftSecretsBackend

__all__ = ["RedshiftSecretsBackend", "renewing"]


def __getattr__(name: str) -> object:
    # Lazily, so that the command line and the laptop stand-in do not load Airflow before they need it.
    if name == "RedshiftSecretsBackend":
        from redshift_secrets.backend import RedshiftSecretsBackend

        return RedshiftSecretsBackend
    if name == "renewing":
        from redshift_secrets.airflow.renewing_hook import renewing

        return renewing
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
