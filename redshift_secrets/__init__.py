"""Airflow gets its Redshift connections from cluster tags and IAM. No passwords, no typed-in connections."""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
"""As type checkers take it; `typing` would be a third of the time of `redshift-secrets --help`."""

if TYPE_CHECKING:
    from redshift_secrets.airflow.renewing_hook import renewing
    from redshift_secrets.backend import RedshiftSecretsBackend
    from redshift_secrets.errors import RedshiftSecretsError
    from redshift_secrets.server_side import ServerSideBackend

    __version__: str

__all__ = ["RedshiftSecretsBackend", "RedshiftSecretsError", "ServerSideBackend", "__version__", "renewing"]

_BACKENDS = {"RedshiftSecretsBackend": "redshift_secrets.backend", "ServerSideBackend": "redshift_secrets.server_side"}


def __getattr__(name: str) -> object:
    # When they are used, so that the command line and the laptop stand-in do not load Airflow before they need it.
    if name in _BACKENDS:
        # Airflow constructs its backends while its configuration is imported. Were the backend's module the first to
        # import Airflow, it would still be half loaded when Airflow comes back for the class.
        importlib.import_module("airflow.configuration")
        return getattr(importlib.import_module(_BACKENDS[name]), name)
    if name == "RedshiftSecretsError":
        return importlib.import_module("redshift_secrets.errors").RedshiftSecretsError
    if name == "renewing":
        return importlib.import_module("redshift_secrets.airflow.renewing_hook").renewing
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("redshift-secrets")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
