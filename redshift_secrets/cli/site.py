"""The configuration of this site, read the way Airflow reads it."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redshift_secrets.settings import Settings

_LOGGING_LEVEL = "AIRFLOW__LOGGING__LOGGING_LEVEL"
_CLASSES = ("redshift_secrets.RedshiftSecretsBackend", "redshift_secrets.ServerSideBackend")

_HINT = """no Airflow configuration here names redshift-secrets as its secrets backend. Add to airflow.cfg

    [secrets]
    backend = redshift_secrets.RedshiftSecretsBackend
    backend_kwargs = {"regions": ["eu-west-1"], "db_user": "airflow_etl", "managed_conn_ids": "^(analytics|dw_)"}

or set AIRFLOW__SECRETS__BACKEND and AIRFLOW__SECRETS__BACKEND_KWARGS."""


class NotConfiguredError(Exception):
    """Airflow on this machine does not use this backend, or cannot load its configuration."""


class SiteOptions:
    """What the command line says of the site instead of its settings. There is one for the process, which runs one command."""

    profile: str | None = None
    region: str | None = None
    verbose: bool = False


options = SiteOptions()


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


def site_settings(filters: bool = False) -> Settings:
    """Return the settings of the backend that Airflow has, of `[secrets]`, else of `[workers]`, with the `options` of the command.

    Where the caller `filters`, a region that the settings look in anyway changes nothing, so that claims elsewhere are known, too.
    Raises `NotConfiguredError`, or `SettingsError` for a configuration with mistakes.
    """
    from msgspec.structs import replace

    settings = configured_settings()
    if options.profile is not None:
        settings = replace(settings, profile_name=options.profile)
    if options.region is None or (filters and options.region in _regions(settings)):
        return settings
    return in_region(settings, options.region)


def _regions(settings: Settings) -> set[str]:
    home = settings.regions or ((settings.region_name,) if settings.region_name else ())
    return {*home, *(region for account in settings.accounts for region in account.regions or ())}


def in_region(settings: Settings, region: str) -> Settings:
    """Return the settings with one region to look in, in each account."""
    from msgspec.structs import replace

    regions = (region,)
    accounts = tuple(replace(each, regions=regions) for each in settings.accounts)
    return replace(settings, regions=regions, accounts=accounts)


@contextmanager
def _airflow_logs_only_warnings() -> Iterator[None]:
    """Have an Airflow that is loaded here log nothing below level WARNING, libraries and its own loggers included, now and later."""
    kept = os.environ.get(_LOGGING_LEVEL)
    os.environ[_LOGGING_LEVEL] = "WARNING"
    try:
        yield
    finally:  # a command that `exec` runs gets the environment as it was
        del os.environ[_LOGGING_LEVEL]
        if kept is not None:
            os.environ[_LOGGING_LEVEL] = kept


@stdout_for_the_result()
def configured_settings() -> Settings:
    """Return the settings as Airflow has them. Raises as `site_settings`."""
    from redshift_secrets.errors import RedshiftSecretsError

    try:
        with _airflow_logs_only_warnings() if not options.verbose else nullcontext():
            from redshift_secrets import RedshiftSecretsBackend
        from redshift_secrets.airflow.configuration import configured_backends

        # Warnings are part of the result.
        level = logging.INFO if options.verbose else logging.ERROR
        logging.basicConfig(level=level, stream=sys.stderr, format="%(message)s", force=True)
        logging.captureWarnings(True)  # of libraries that load one another by old names
        backends = configured_backends()
    except RedshiftSecretsError:
        raise
    except Exception as error:
        raise NotConfiguredError(_why_not_loaded(error)) from None
    if options.verbose:
        logging.getLogger("redshift_secrets").setLevel(logging.DEBUG)
    for backend in backends:
        if isinstance(backend, RedshiftSecretsBackend):
            return backend.settings
    raise NotConfiguredError(_HINT)


def _why_not_loaded(error: Exception) -> str:
    """The text of an exception of Airflow's own; of another one the kind alone, since its text may hold anything."""
    from redshift_secrets.errors import one_line
    from redshift_secrets.settings import values

    name = type(error).__name__
    text = one_line(str(error)) if name == "AirflowConfigException" else f"{name}; `airflow version` shows why"
    named = re.search('"(redshift_secret[^"]*)"', text)
    hint = values.nearest(named.group(1), _CLASSES) if named else ""
    return f"Airflow cannot load its configuration: {text}{hint}"
